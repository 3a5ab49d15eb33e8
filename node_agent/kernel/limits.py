"""Limits of this computer that a program runs into without saying so. Called by the emulation."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from node_agent.model.errors import Permanent

INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")

_libc = ctypes.CDLL(None, use_errno=True)


def need_inotify(number: int) -> None:
    """This user may have so many inotify instances more (inotify(7)). Raises Permanent."""
    opened: list[int] = []
    try:
        while len(opened) < number:
            fd = _libc.inotify_init1(os.O_CLOEXEC)
            if fd < 0:
                allowed = INOTIFY.read_text().strip()
                raise Permanent(
                    f"fs.inotify.max_user_instances: {allowed}, of which {len(opened)} are free, and {number} are "
                    "needed; allow more (sysctl -w fs.inotify.max_user_instances=512) or remove another cluster"
                )
            opened.append(fd)
    finally:
        for fd in opened:
            os.close(fd)
