"""BPF filesystems and what is mounted where. Called by the emulation's stack folder and the agent's start."""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from node_agent.model.errors import Permanent

MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Mount:
    path: Path
    type: str


def below(folder: Path) -> tuple[Mount, ...]:
    """Mounts at or below the folder, the innermost first (the order to unmount them in)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        path = Path(fields[4].encode().decode("unicode_escape"))  # a space is written \040
        if path == folder or folder in path.parents:
            found.append(Mount(path, fields[fields.index("-") + 1]))
    return tuple(reversed(found))


def ensure_bpffs(path: Path) -> None:
    """A BPF filesystem of mode 0700 is mounted at `path`. Raises Permanent."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(mount.path == path and mount.type == "bpf" for mount in below(path)):
        return
    if _libc.mount(b"bpf", bytes(path), b"bpf", ctypes.c_ulong(0), b"mode=0700") != 0:
        raise Permanent(f"mount bpffs {path}: {os.strerror(ctypes.get_errno())}")


def unmount(path: Path) -> None:
    """Nothing is mounted at `path` any more; absent is success. Raises Permanent."""
    for flags in (0, MNT_DETACH):  # detached at last: a process with an open pin must not keep a stack alive
        while _libc.umount2(bytes(path), flags) == 0:
            pass
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOENT):
            return
    raise Permanent(f"unmount {path}: {os.strerror(code)}")
