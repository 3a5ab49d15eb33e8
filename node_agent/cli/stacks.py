"""Which stacks are on this machine, and their processes, from files alone. Called by the commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.model.errors import Permanent
from node_agent.model.places import RUN, HostPlaces, StackPlaces, stack_id

PROJECT = Path(__file__).resolve().parents[2]
LOCAL = "local"
"""Name of the stack that `make up` brings up."""

NONE = "there is none on this machine: `make up` brings one up"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """`pids`: of the living processes: "controller" and host names. In a cluster these are nodes, and what lives is the
    kubelet: agents and controller are pods."""

    id: str
    folder: str
    pids: dict[str, int]


def found() -> tuple[Stack, ...]:
    """The stacks with a store, by id."""
    ids = {path.parent.name for name in ("store.db", "kubeconfig") for path in RUN.glob(f"*/{name}")}
    return tuple(read(StackPlaces(id)) for id in sorted(ids))


def text(known: Sequence[Stack]) -> str:
    """A line for each stack, or what to do when there is none."""
    if not known:
        return NONE
    return "\n".join(f"{one.id}  {one.folder}  {_processes(len(one.pids))}" for one in known)


def choose(identity: str, name: str, *, root: Path = PROJECT) -> StackPlaces:
    """The stack that a command is about: that of the id `identity`, if one is given; else the one called `name` (""
    is `local`) of the project in the folder `root`; where that is not there and no name was given, the only one that
    runs on this machine. Raises Permanent naming those there are."""
    known = found()
    wanted = identity or stack_id(name or LOCAL, root)
    if wanted in {stack.id for stack in known}:
        return StackPlaces(wanted)
    told = ", ".join(f"{one.id}{'' if one.pids else ' (does not run)'}" for one in known)
    if identity or name:
        what = f"find stack {identity}" if identity else f"find stack {name}: this project's has the id {wanted}"
        raise Permanent(f"{what}: there are {told or 'none'} on this machine")
    running = [one for one in known if one.pids]
    if len(running) == 1:
        return StackPlaces(running[0].id)
    if known:
        raise Permanent(
            f"choose stack: this project's, {wanted}, is not up; there are {told}: add --stack-id ID or --stack NAME"
        )
    raise Permanent(f"find stack: {NONE}")


def read(places: StackPlaces) -> Stack:
    """The stack's processes as they are."""
    hosts = places.root / "hosts"
    files = {"controller": places.controller / "controller.pid"}
    if hosts.is_dir():
        files.update({folder.name: _process_of(places.host(folder.name)) for folder in sorted(hosts.iterdir())})
    pids = {name: pid for name, file in files.items() if (pid := living(file))}
    return Stack(id=places.id, folder=str(places.root), pids=pids)


def _process_of(host: HostPlaces) -> Path:
    kubelet = host.root / "node" / "kubelet" / "kubelet.pid"
    return kubelet if kubelet.exists() else host.agent_pid


def _processes(number: int) -> str:
    return f"{number} process{'' if number == 1 else 'es'}"


def living(file: Path) -> int:
    """The pid in a supervisor's record "pid start-time ...", if that very process still lives; else 0."""
    try:
        pid, started = file.read_text().split()[:2]
        # The name, in brackets, may hold anything: the fields are counted from behind it.
        fields = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0
    return int(pid) if fields[0] not in "ZX" and fields[19] == started else 0
