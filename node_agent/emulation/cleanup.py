"""Removes what a stack left on this machine, however it ended.

    python -m node_agent.emulation.cleanup                 list what stacks have here, and which of them still run
    python -m node_agent.emulation.cleanup ID [--json]     remove everything of that stack; nothing left is success
    python -m node_agent.emulation.cleanup --all [--json]  the same for every listed stack

Normally `pulumi destroy` leaves nothing; this is for a lost state file and for tests. A running stack is removed too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.emulation import processes, stack
from node_agent.kernel import cgroups, mounts, netns
from node_agent.model.errors import Invalid, MizarError
from node_agent.model.places import NETNS, RUN, StackPlaces

ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
# The id of a stack whose folder is gone, from the name of a namespace: it ends with six hex digits.
GROUP = "mizar-"  # and the stack's id: the cgroup of its emulated machines
NETNS_NAME = re.compile(r"mizar-([a-z0-9][a-z0-9-]*?-[0-9a-f]{6})-.+")


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """What is there of one stack, or what was removed. Namespaces and cgroups by name, the rest by path and pid."""

    id: str
    processes: tuple[int, ...]
    namespaces: tuple[str, ...]
    mounts: tuple[str, ...]
    folder: str
    cgroups: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.processes or self.namespaces or self.mounts or self.folder or self.cgroups)


def ids() -> tuple[str, ...]:
    """Ids of the stacks with leftovers, from folders in /run/mizar and names of namespaces and cgroups, sorted."""
    found = {*_folders(), *(name.removeprefix(GROUP) for name in cgroups.listed(GROUP))}
    for path in netns.listed("mizar-", NETNS):
        if not any(path.name.startswith(f"mizar-{id}-") for id in found):
            match = NETNS_NAME.fullmatch(path.name)
            if match:
                found.add(match.group(1))
    return tuple(sorted(found))


def leftovers(id: str) -> Leftovers:
    """What is there of this stack. Raises Invalid for an impossible id."""
    places = _places(id)
    return Leftovers(
        id=id,
        processes=processes.marked(places.root),
        namespaces=tuple(path.name for path in _namespaces(places)),
        mounts=tuple(str(mount.path) for mount in mounts.below(places.root)),
        folder=str(places.root) if places.root.exists() else "",
        cgroups=tuple(name for name in (GROUP + id,) if cgroups.exists(name)),
    )


def remove(id: str) -> Leftovers:
    """Remove everything of the stack and return what was removed; every part is tried. Raises MizarError, Invalid."""
    places = _places(id)
    found = leftovers(id)
    failures: list[str] = []
    _try(failures, lambda: processes.end_marked(places.root))
    for path in _namespaces(places):
        _try(failures, lambda path=path: netns.delete(path))  # type: ignore[misc]
    _try(failures, lambda: cgroups.remove(GROUP + id))
    _try(failures, lambda: stack.remove(places))
    left = _settled(id)
    if left:
        failures.append(f"remove stack {id}: left over: {json.dumps(dataclasses.asdict(left))}")
    if failures:
        raise MizarError("\n".join(failures))
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m node_agent.emulation.cleanup",
        description="Remove what a stack left on this machine; without ID, list stacks.",
    )
    parser.add_argument("id", nargs="?", metavar="ID", help="the stack's id, as listed")
    parser.add_argument("--all", action="store_true", help="remove every listed stack, running ones too")
    parser.add_argument("--json", action="store_true", help="print JSON, one line per stack")
    options = parser.parse_args(arguments)
    if options.id and options.all:
        parser.error("give an ID or --all, not both")
    chosen = [options.id] if options.id else list(ids())
    act = remove if options.id or options.all else leftovers
    if not chosen and not options.json:
        print("no stack has left anything on this machine")
    code = 0
    for id in chosen:
        try:
            found = act(id)
        except MizarError as error:
            print(error, file=sys.stderr)
            code = 2 if isinstance(error, Invalid) else 1
            continue
        print(json.dumps(dataclasses.asdict(found)) if options.json else text(found, removed=act is remove))
    return code


def text(found: Leftovers, *, removed: bool = False) -> str:
    """One line for a person. A listed stack with living processes is marked: it may be somebody's, and in use."""
    if not found:
        return f"{found.id}: nothing left"
    counts = (
        f"{len(found.processes)} processes, {len(found.namespaces)} namespaces, {len(found.mounts)} mounts, "
        f"folder {found.folder or 'none'}"
    )
    if removed:
        return f"{found.id}: removed {counts}"
    return f"{found.id}: {'RUNNING' if found.processes else 'does not run'}: {counts}"


def _places(id: str) -> StackPlaces:
    if not ID.fullmatch(id):
        raise Invalid([f"ID: {id!r} is no stack id: 1 to 40 of a-z, 0-9 and -, not beginning with -"])
    return StackPlaces(id)


def _folders() -> list[str]:
    return [path.name for path in RUN.iterdir() if ID.fullmatch(path.name)] if RUN.is_dir() else []


def _namespaces(places: StackPlaces) -> tuple[Path, ...]:
    """Names that begin with this stack's prefix, but not those of a stack whose longer id begins alike."""
    longer = [f"mizar-{id}-" for id in _folders() if id.startswith(f"{places.id}-")]
    return tuple(
        path
        for path in netns.listed(f"mizar-{places.id}-", NETNS)
        if not any(path.name.startswith(prefix) for prefix in longer)
    )


def _settled(id: str) -> Leftovers:
    """What is left, once processes that were just killed have left /proc."""
    until = time.monotonic() + 2.0
    while (left := leftovers(id)) and time.monotonic() < until:
        time.sleep(0.02)
    return left


def _try(failures: list[str], step: Callable[[], object]) -> None:
    try:
        step()
    except (MizarError, OSError) as error:
        failures.append(str(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
