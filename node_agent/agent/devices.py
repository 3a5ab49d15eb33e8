"""Who may look at devices and rows together: they agree except while one of them is being changed.

Many requests change at once, each its own device; whoever compares the two has to find nobody at it. Called by
`endpoints` and `moves`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Devices:
    """Any thread may call. Neither block may be entered inside the other one or itself."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._changing = 0
        self._comparing = False

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """From the making or removing of a device to its rows."""
        with self._free:
            self._free.wait_for(lambda: not self._comparing)
            self._changing += 1
        try:
            yield
        finally:
            with self._free:
                self._changing -= 1
                self._free.notify_all()

    @contextlib.contextmanager
    def comparing(self) -> Iterator[None]:
        """Nobody changes anything. Who wants to, waits from now on, so that many requests cannot keep this out."""
        with self._free:
            self._free.wait_for(lambda: not self._comparing)
            self._comparing = True
            try:
                self._free.wait_for(lambda: not self._changing)
            except BaseException:
                self._comparing = False
                self._free.notify_all()
                raise
        try:
            yield
        finally:
            with self._free:
                self._comparing = False
                self._free.notify_all()
