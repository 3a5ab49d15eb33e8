"""Control groups: one path below the root of every hierarchy that is mounted, made, entered and removed together.

Works with version 1 (a hierarchy per controller), version 2 (one), and both at once. A group is named by its path below
a hierarchy's root: "mizar-local-k8s-0a1b2c/host-1". Called by the emulation's machines and `emulation.cleanup`. Imports
little: the program of every emulated machine imports it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from node_agent.model.errors import Permanent

CPUSET = ("cpuset.cpus", "cpuset.mems")
# Mount options that say which hierarchy of version 1 this is; the others belong to the mount.
_MOUNT_OPTIONS = {"rw", "ro", "xattr", "clone_children", "noprefix", "seclabel"}


@dataclass(frozen=True)
class Hierarchy:
    """`path`: where it is mounted; `version`: 1 or 2; `options`: what to mount it again with ("cpu,cpuacct",
    "name=systemd", "" in version 2)."""

    path: Path
    version: int
    options: str


def hierarchies() -> tuple[Hierarchy, ...]:
    """Every hierarchy mounted here, once each."""
    found: dict[str, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        if kind in ("cgroup", "cgroup2"):
            path = Path(fields[4].encode().decode("unicode_escape"))
            named = [word for word in options if word not in _MOUNT_OPTIONS and not word.startswith("release_agent=")]
            version = 2 if kind == "cgroup2" else 1
            found.setdefault(fields[2], Hierarchy(path, version, ",".join(named) if version == 1 else ""))
    return tuple(found.values())


def ensure(name: str) -> None:
    """The group is there in every hierarchy, with every controller that its parents can hand on. Raises Permanent."""
    mounted = hierarchies()
    if not mounted:
        raise Permanent(f"make cgroup {name}: no cgroup hierarchy is mounted")
    for hierarchy in mounted:
        parent = hierarchy.path
        for part in name.split("/"):
            if hierarchy.version == 2:
                _hand_on(parent)
            try:
                (parent / part).mkdir(exist_ok=True)
            except OSError as error:
                raise Permanent(f"make cgroup {parent / part}: {error.strerror}") from error
            _inherit_cpus(parent, parent / part)
            parent /= part


def enter(name: str) -> None:
    """The calling process (of one thread) and all that it starts are in the group. Raises Permanent."""
    for hierarchy in hierarchies():
        procs = hierarchy.path / name / "cgroup.procs"
        try:
            procs.write_text("0")
        except OSError as error:
            raise Permanent(f"enter cgroup {procs.parent}: {error.strerror}") from error


def processes(name: str) -> tuple[int, ...]:
    """Pids in the group and in those below it, in any hierarchy, sorted."""
    pids: set[int] = set()
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy.path / name):
            with contextlib.suppress(OSError):
                pids.update(int(pid) for pid in Path(folder, "cgroup.procs").read_text().split())
    return tuple(sorted(pids))


def listed(prefix: str) -> tuple[str, ...]:
    """Names of the top-level groups that begin with the prefix, of any hierarchy, sorted."""
    names = {entry.name for h in hierarchies() for entry in h.path.glob(f"{prefix}*") if entry.is_dir()}
    return tuple(sorted(names))


def exists(name: str) -> bool:
    return any((hierarchy.path / name).is_dir() for hierarchy in hierarchies())


def remove(name: str, patience: float = 5.0) -> None:
    """Neither the group nor one below it is there; absent is success. Its processes must be ending already: they are
    waited for. Raises Permanent when one stays for more than `patience` seconds."""
    until = time.monotonic() + patience
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy.path / name, topdown=False):
            while True:
                try:
                    Path(folder).rmdir()
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno != errno.EBUSY or time.monotonic() > until:
                        held = ", ".join(map(str, processes(name))) or "none"
                        raise Permanent(f"remove cgroup {folder}: {error.strerror} (processes: {held})") from error
                    time.sleep(0.01)
                    continue
                break


def _hand_on(parent: Path) -> None:
    """Version 2: every controller that this group has is there for its children. A refused one (a real-time process,
    say, keeps cpu) is left out: what needs it will say so."""
    control = parent / "cgroup.subtree_control"
    missing = set((parent / "cgroup.controllers").read_text().split()) - set(control.read_text().split())
    for controller in sorted(missing):
        with contextlib.suppress(OSError):
            control.write_text(f"+{controller}")


def _inherit_cpus(parent: Path, child: Path) -> None:
    """Version 1: a new cpuset is empty, and takes no process until it names processors and memory."""
    for file in CPUSET:
        with contextlib.suppress(FileNotFoundError):
            if (child / "cgroup.clone_children").exists() and not (child / file).read_text().strip():
                (child / file).write_text((parent / file).read_text())
    if (child / CPUSET[0]).exists() and (child / "cgroup.clone_children").exists():
        (child / "cgroup.clone_children").write_text("1")
