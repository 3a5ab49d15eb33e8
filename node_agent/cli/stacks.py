"""Which stacks are on this machine, and their processes, from files alone. Called by the commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.cli import kinds
from node_agent.cli.running import Process
from node_agent.model.errors import Permanent
from node_agent.model.places import RUN, StackPlaces, stack_id

PROJECT = Path(__file__).resolve().parents[2]
LOCAL = "local"
"""Name of the stack that `make up` brings up."""

NONE = "there is none on this machine: `make up` brings one up"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """`processes`: what lives of it on this machine, that a supervisor keeps. Of a stack with a cluster these are the
    kubelets: its agents and its controller are pods."""

    id: str
    folder: str
    processes: tuple[Process, ...] = ()


def found() -> tuple[Stack, ...]:
    """The stacks with a store, by id."""
    ids = {path.parent.name for name in ("store.db", "kubeconfig") for path in RUN.glob(f"*/{name}")}
    return tuple(read(StackPlaces(id)) for id in sorted(ids))


def text(known: Sequence[Stack]) -> str:
    """A line for each stack, or what to do when there is none."""
    if not known:
        return NONE
    return "\n".join(f"{one.id}  {one.folder}  {_processes(one.processes)}" for one in known)


def choose(identity: str, name: str, *, root: Path = PROJECT) -> StackPlaces:
    """The stack that a command is about: that of the id `identity`, if one is given; else the one called `name` (""
    is `local`) of the project in the folder `root`; where that is not there and no name was given, the only one that
    runs on this machine. Raises Permanent naming those there are."""
    known = found()
    wanted = identity or stack_id(name or LOCAL, root)
    if wanted in {stack.id for stack in known}:
        return StackPlaces(wanted)
    told = ", ".join(f"{one.id}{'' if one.processes else ' (does not run)'}" for one in known)
    if identity or name:
        what = f"find stack {identity}" if identity else f"find stack {name}: this project's has the id {wanted}"
        raise Permanent(f"{what}: there are {told or 'none'} on this machine")
    running = [one for one in known if one.processes]
    if len(running) == 1:
        return StackPlaces(running[0].id)
    if known:
        raise Permanent(
            f"choose stack: this project's, {wanted}, is not up; there are {told}: add --stack-id ID or --stack NAME"
        )
    raise Permanent(f"find stack: {NONE}")


def read(places: StackPlaces) -> Stack:
    """The stack's processes as they are."""
    return Stack(id=places.id, folder=str(places.root), processes=tuple(kinds.of(places).processes()))


def _processes(known: Sequence[Process]) -> str:
    """How many of which kind, in words."""
    number = Counter(one.what for one in known)
    return ", ".join(f"{many} {what}{'' if many == 1 else 's'}" for what, many in number.items()) or "does not run"
