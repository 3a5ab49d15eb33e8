"""The kernel's own word on when a process began: how long a restart took, however late the test looks."""

from __future__ import annotations

import os
import time

from node_agent.emulation import supervisor


def now() -> float:
    """Seconds since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def born(pid: int) -> float:
    """Seconds since boot at which the process began, rounded down to a tick."""
    return int(supervisor.start_time(pid)) / os.sysconf("SC_CLK_TCK")
