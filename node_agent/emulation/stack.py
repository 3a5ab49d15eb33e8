"""A stack's folder below /run/mizar and the BPF filesystem in it that holds its pins: the first thing made, the last
removed. Called by the Pulumi provider and `emulation.cleanup`."""

from __future__ import annotations

import contextlib
import shutil
import stat
from dataclasses import dataclass

from node_agent.kernel import mounts
from node_agent.model.errors import Permanent
from node_agent.model.places import RUN, StackPlaces


@dataclass(frozen=True, kw_only=True)
class Observed:
    """`bpffs`: a BPF filesystem is mounted; `private`: nobody but root enters folder and filesystem."""

    root: str
    bpffs: bool
    private: bool

    @property
    def whole(self) -> bool:
        return self.bpffs and self.private


def make(places: StackPlaces) -> Observed:
    """Folder (0700) with its bpffs (0700). Raises Permanent."""
    RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    places.root.mkdir(mode=0o700, exist_ok=True)
    mounts.ensure_bpffs(places.bpffs)
    for folder in (places.root, places.bpffs):
        folder.chmod(0o700)
    observed = inspect(places)
    if observed is None or not observed.whole:
        raise Permanent(f"make stack folder {places.root}: {observed}")
    return observed


def inspect(places: StackPlaces) -> Observed | None:
    """The folder as it is; None: there is none."""
    if not places.root.is_dir():
        return None
    mounted = any(m.path == places.bpffs and m.type == "bpf" for m in mounts.below(places.root))
    folders = [places.root, *([places.bpffs] if mounted else [])]
    private = all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in folders)
    return Observed(root=str(places.root), bpffs=mounted, private=private)


def remove(places: StackPlaces) -> None:
    """Unmount what is mounted there (the pins end with it) and remove the folder; absent is success.

    Processes and namespaces of the stack must be gone already; `emulation.cleanup` sees to a stack where they are not.
    """
    for mount in mounts.below(places.root):
        mounts.unmount(mount.path)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(places.root)
    with contextlib.suppress(OSError):
        RUN.rmdir()  # only when this was the last stack
