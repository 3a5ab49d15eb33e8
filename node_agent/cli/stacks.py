"""Which stacks are on this machine, and their processes, from files alone. Called by the commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node_agent.model.errors import Permanent
from node_agent.model.places import RUN, StackPlaces


@dataclass(frozen=True, kw_only=True)
class Stack:
    """`pids`: of the living processes: "controller" and host names."""

    id: str
    folder: str
    pids: dict[str, int]


def found(run: Path = RUN) -> tuple[Stack, ...]:
    """The stacks with a store, by id."""
    ids = sorted(path.parent.name for path in run.glob("*/store.db")) if run.is_dir() else []
    return tuple(read(StackPlaces(id)) for id in ids)


def choose(wanted: str) -> StackPlaces:
    """The stack of that id, or with "" the only one there is. Raises Permanent naming those there are."""
    ids = [stack.id for stack in found()]
    if wanted in ids:
        return StackPlaces(wanted)
    if wanted or len(ids) > 1:
        raise Permanent(
            f"find stack {wanted}: there are {', '.join(ids) or 'none'}"
            if wanted
            else f"choose stack: there are {', '.join(ids)}: add --stack-id ID"
        )
    if not ids:
        raise Permanent("find stack: there is none on this machine: `make up` brings one up")
    return StackPlaces(ids[0])


def read(places: StackPlaces) -> Stack:
    """The stack's processes as they are."""
    hosts = places.root / "hosts"
    files = {"controller": places.controller / "controller.pid"}
    if hosts.is_dir():
        files.update({folder.name: places.host(folder.name).agent_pid for folder in sorted(hosts.iterdir())})
    pids = {name: pid for name, file in files.items() if (pid := living(file))}
    return Stack(id=places.id, folder=str(places.root), pids=pids)


def living(file: Path) -> int:
    """The pid in a supervisor's record "pid start-time ...", if that very process still lives; else 0."""
    try:
        pid, started = file.read_text().split()[:2]
        # The name, in brackets, may hold anything: the fields are counted from behind it.
        fields = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0
    return int(pid) if fields[0] not in "ZX" and fields[19] == started else 0
