"""Who runs: agents and controllers as a person may look for them. Called by the kinds of stacks and by `status`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONTROLLER = "controller"
"""Stands among the names of hosts."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A living agent or controller. `pid`: on this computer, None for one in a pod; `pod`: that pod's name, "" for one
    in none. `ready`: what its pod says of it; of a process nobody says otherwise."""

    pid: int | None = None
    pod: str = ""
    ready: bool = True


@dataclass(frozen=True, kw_only=True)
class Process:
    """A living process that a supervisor on this computer keeps. `what`: "agent", "kubelet" ...; `host`: "" for one
    of the whole stack."""

    what: str
    host: str
    pid: int


def living(file: Path) -> int:
    """The pid in a supervisor's record "pid start-time ...", if that very process still lives; else 0."""
    try:
        pid, started = file.read_text().split()[:2]
        # The name, in brackets, may hold anything: the fields are counted from behind it.
        fields = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0
    return int(pid) if fields[0] not in "ZX" and fields[19] == started else 0


def on_hosts(root: Path, what: str, file: str) -> list[Process]:
    """The living ones of that kind, by host. `root`: the stack's folder; `file`: of the pid, below a host's folder."""
    hosts = root / "hosts"
    names = sorted(folder.name for folder in hosts.iterdir()) if hosts.is_dir() else []
    found = (Process(what=what, host=name, pid=living(hosts / name / file)) for name in names)
    return [process for process in found if process.pid]
