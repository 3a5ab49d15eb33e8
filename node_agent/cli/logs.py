"""`mizar logs`: what the agent of a host, the controller, or the program behind an endpoint has written."""

from __future__ import annotations

from collections.abc import Iterator

from node_agent.cli import kinds, names
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces


def lines(places: StackPlaces, whose: str, *, follow: bool) -> Iterator[str]:
    """Of that host's agent, of "controller", or of an endpoint; with `follow` also what is written from now on. Raises
    Permanent naming those there are."""
    kind = kinds.of(places)
    known = kind.logs()
    if whose in known:
        return known[whose](follow)
    try:
        found = names.endpoint(names.endpoints(places), whose)
    except Permanent as error:
        raise Permanent(f"read log of {whose}: there are {', '.join(sorted(known)) or 'none'}; {error}") from error
    return kind.workload_log(found)(follow)
