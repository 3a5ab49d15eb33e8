"""One at a time for each name, and names do not wait for each other. Called by `endpoints`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turns:
    """Any thread may call. A name that is nobody's turn costs nothing."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[str] = set()

    @contextlib.contextmanager
    def alone(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Nobody else is in such a block of this name. Whether that is so: not to `wait` may mean that it is not."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: name not in self._taken)
            mine = name not in self._taken
            if mine:
                self._taken.add(name)
        try:
            yield mine
        finally:
            if mine:
                with self._changed:
                    self._taken.discard(name)
                    self._changed.notify_all()
