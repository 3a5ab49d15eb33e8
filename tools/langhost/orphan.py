"""Ends a helper process when the Pulumi engine that started it is gone.

Called by host.py and run_dynamic.py. The engine ends its helpers in an orderly way unless it was killed outright;
then nobody would, and a process per killed `up` would stay for ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

_PERIOD_S = 0.5


def exit_with_parent(before: Callable[[], None] | None = None) -> None:
    """Watch the parent from a background thread; when it dies, call `before` and end this process."""
    # The launchers use exec, so the parent of this process is the engine itself. A death signal from the kernel
    # (PR_SET_PDEATHSIG) is no substitute: it fires when the engine's *thread* that forked us ends.
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PERIOD_S)
        try:
            if before is not None:
                before()
        finally:
            os._exit(1)

    threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()
