"""What the controller says of VPCs, subnets and services: the condition Ready, with a reason where it is not. Pure;
called by `plan` and `service_keeper`.

The API server refuses what one object shows to be wrong. What is wrong between two objects it cannot see: a subnet
outside of its VPC, or over another subnet, is stored, and stays without bouncers and rows until it is right. So does
one whose VPC there is not.
"""

from __future__ import annotations

import time
from bisect import bisect
from collections.abc import Collection, Iterable, Mapping

from node_agent.model.addresses import parse_prefix
from node_agent.model.errors import Invalid
from node_agent.model.objects import READY, Condition, NetworkService, Subnet, Truth, Vpc, VpcStatus, refused

LONGEST_MESSAGE = 1024
Mistake = tuple[str, str]
"""Reason and message."""


def of_vpc(vpc: Vpc, status: VpcStatus, now: float) -> tuple[Condition, ...]:
    """The conditions of a VPC that is about to have this status. `now`: seconds since the epoch."""
    if not status.vni:
        said: tuple[Truth, str, str] = ("False", "NoNumber", "every VNI is in use")
    elif not status.members:
        said = ("False", "NoHosts", "no host is ready to serve it")
    else:
        said = ("True", "Served", "")
    return _ready(vpc.status.conditions, vpc.meta.generation, *said, now)


def of_subnet(subnet: Subnet, bouncers: Collection[int], wrong: Mistake | None, now: float) -> tuple[Condition, ...]:
    """The conditions of a subnet that is about to have these bouncers. `wrong`: its mistake, if it has one."""
    if wrong:
        said: tuple[Truth, str, str] = ("False", *wrong)
    elif not bouncers:
        said = ("False", "NoBouncers", "no host is ready to bounce it")
    else:
        said = ("True", "Bounced", "")
    return _ready(subnet.status.conditions, subnet.meta.generation, *said, now)


def of_service(service: NetworkService, said: Iterable[str], now: float) -> tuple[Condition, ...]:
    """The conditions of a service as it is. `said`: what its owner should know."""
    answers = any(backend.state == "ready" for backend in service.spec.backends)
    told = "; ".join(said) or ("" if answers else "no pod behind it is ready")
    status: Truth = "True" if answers else "False"
    reason = "Answers" if answers else "NoBackends"
    return _ready(service.status.conditions, service.meta.generation, status, reason, told[:LONGEST_MESSAGE], now)


def no_vpc(subnet: Subnet, now: float) -> tuple[Condition, ...]:
    """The conditions of a subnet that names no VPC that exists."""
    told = f"there is no VPC {subnet.spec.vpc!r}"
    return _ready(subnet.status.conditions, subnet.meta.generation, "False", "NoVpc", told, now)


def mistakes(vpc: Vpc, subnets: Iterable[Subnet]) -> Mapping[str, Mistake]:
    """Why subnets must not be in force (each reason one of `objects.REFUSED`), by name. `subnets`: all of the VPC. Of
    two that overlap the one that came first is right; one that is not in force is in nobody's way."""
    found: dict[str, Mistake] = {}
    try:
        around = parse_prefix("cidr", vpc.spec.cidr)
    except Invalid as error:
        return {subnet.name: ("OutsideVpc", str(error)) for subnet in subnets}
    # Those in force, by address. They do not overlap: whatever overlaps any of them overlaps a neighbour of its place.
    firsts: list[int] = []
    taken: list[tuple[int, Subnet]] = []  # last address of each
    for subnet in sorted(subnets, key=_turn):
        try:
            inside = parse_prefix("cidr", subnet.spec.cidr)
        except Invalid as error:
            found[subnet.name] = "OutsideVpc", str(error)
            continue
        if not inside.subnet_of(around):
            said = f"{subnet.spec.cidr} is not inside of {vpc.spec.cidr}, the prefix of VPC {vpc.name}"
            found[subnet.name] = "OutsideVpc", said
            continue
        first, last = int(inside.network_address), int(inside.broadcast_address)
        place = bisect(firsts, first)
        if place and taken[place - 1][0] >= first:
            found[subnet.name] = _overlaps(subnet, taken[place - 1][1])
        elif place < len(firsts) and firsts[place] <= last:
            found[subnet.name] = _overlaps(subnet, taken[place][1])
        else:
            firsts.insert(place, first)
            taken.insert(place, (last, subnet))
    return found


def _overlaps(subnet: Subnet, other: Subnet) -> Mistake:
    return "Overlaps", f"{subnet.spec.cidr} overlaps subnet {other.name} ({other.spec.cidr})"


def _turn(subnet: Subnet) -> tuple[bool, bool, int, str]:
    """Sorts to the front what is in force, then what came first. What was decided once stays so: a resource version
    grows with every status that is written, also the one that says this."""
    return refused(subnet), not subnet.status.bouncers, subnet.meta.resource_version, subnet.name


def _ready(
    before: Iterable[Condition], generation: int, status: Truth, reason: str, message: str, now: float
) -> tuple[Condition, ...]:
    old = next((each for each in before if each.type == READY), None)
    since = old.last_transition_time if old and old.status == status else stamp(now)
    return (
        Condition(
            type=READY,
            status=status,
            reason=reason,
            message=message,
            observed_generation=generation,
            last_transition_time=since,
        ),
    )


def stamp(now: float) -> str:
    """A time as conditions have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
