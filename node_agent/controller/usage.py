"""Who uses a VPC or a subnet, as its condition InUse says. Pure; called by `plan`.

An admission policy of the cluster (`infra/render/policies.py`) reads the condition, which is all that it sees, and
refuses to delete what is in use. A user that comes in the moment of a delete is the finalizer's affair. Some users are
named, not all, and the same ones as long as they last: so the object is not written with every endpoint that comes.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from node_agent.model.objects import IN_USE, Condition, NetworkEndpoint, NetworkService, Subnet, Vpc
from node_agent.model.users import ends_with_vpc

NAMED = 3
WORDS = "used by "

User = Subnet | NetworkEndpoint | NetworkService
Key = tuple[str, str]


def users(
    subnets: Iterable[Subnet], endpoints: Iterable[NetworkEndpoint], services: Iterable[NetworkService]
) -> Mapping[Key, Sequence[User]]:
    """(kind, name) of a VPC or subnet -> its users, as `model.users.users_of` would find them."""
    found: defaultdict[Key, list[User]] = defaultdict(list)
    everybody: tuple[User, ...] = (*subnets, *(one for one in services if not ends_with_vpc(one)), *endpoints)
    for each in everybody:
        found[Vpc.kind, each.spec.vpc].append(each)
        if isinstance(each, NetworkEndpoint):
            found[Subnet.kind, each.spec.subnet].append(each)
    return found


def in_use(obj: Vpc | Subnet, found: Mapping[Key, Sequence[User]], stamp: str) -> tuple[Condition, ...]:
    """The condition, none for what nobody uses. `stamp`: the time of now, as conditions have it."""
    using = found.get((obj.kind, obj.name), ())
    if not using:
        return ()
    old = next(iter(said(obj)), None)
    named = old.message.removeprefix(WORDS).split(", ") if old else []
    if old and named and set(named) <= {_name(each) for each in using}:
        message = old.message
    else:
        message = WORDS + ", ".join(_name(each) for each in heapq.nsmallest(NAMED, using, key=_turn))
    return (
        Condition(
            type=IN_USE,
            status="True",
            reason="HasUsers",
            message=message,
            observed_generation=obj.meta.generation,
            last_transition_time=old.last_transition_time if old else stamp,
        ),
    )


def said(obj: Vpc | Subnet) -> tuple[Condition, ...]:
    """The condition as it stands, none when there is none."""
    return tuple(each for each in obj.status.conditions if each.type == IN_USE)


def _turn(user: User) -> tuple[bool, str, str]:
    """Subnets, which people know by name, before what comes and goes."""
    return not isinstance(user, Subnet), user.kind, user.name


def _name(user: User) -> str:
    return f"{user.kind} {user.name}"
