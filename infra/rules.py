"""Rules that join several settings: overlaps, references, room. Called by `infra.settings.examine`, once.

What could not be read at all (NOWHERE, an empty name) has its mistake already and is left out of every rule here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from infra import addressing
from infra.schema import Mistakes
from infra.wanted import NOWHERE, EndpointSettings, Settings, SubnetSettings, VpcSettings
from node_agent.model.addresses import Usable, claim_mistakes, special_mistakes

# Names of namespaces that a stack has anyway.
FABRIC = "fabric"
HOST_PREFIX = "host"


@dataclass(frozen=True)
class Placed:
    """A subnet with the field it was written in and its VPC."""

    field: str
    vpc: VpcSettings
    subnet: SubnetSettings


def host_names(settings: Settings) -> tuple[str, ...]:
    return tuple(f"{HOST_PREFIX}-{number}" for number in range(1, settings.hosts + 1))


def generated_names(subnet: SubnetSettings, hosts: int) -> tuple[str, ...]:
    """Names of the endpoints that the plan makes in a subnet, host after host."""
    return tuple(f"{subnet.name}-{number}" for number in range(1, hosts * subnet.per_host + 1))


def check(settings: Settings, mistakes: Mistakes) -> None:
    """Add every broken rule to `mistakes`."""
    placed = list(_placed(settings))
    _underlay(settings, mistakes)
    _vpcs(settings, mistakes)
    _subnets(placed, mistakes)
    _endpoints(settings, placed, mistakes)
    _room(settings, placed, mistakes)


def _placed(settings: Settings) -> Iterator[Placed]:
    for i, vpc in enumerate(settings.vpcs):
        for j, subnet in enumerate(vpc.subnets):
            yield Placed(f"vpcs[{i}].subnets[{j}]", vpc, subnet)


def _underlay(settings: Settings, mistakes: Mistakes) -> None:
    room = addressing.host_room(settings.underlay)
    if settings.hosts > room:
        mistakes.add("underlay", settings.underlay, f"has room for {room} hosts, but hosts is {settings.hosts}")
    _not_special("underlay", settings.underlay, mistakes)


def _not_special(field: str, network: IPv4Network, mistakes: Mistakes) -> None:
    if network != NOWHERE:
        mistakes.extend(special_mistakes(field, str(network)))


def _vpcs(settings: Settings, mistakes: Mistakes) -> None:
    seen: dict[str, str] = {}
    for i, vpc in enumerate(settings.vpcs):
        field = f"vpcs[{i}]"
        _unique(f"{field}.name", vpc.name, seen, mistakes)
        if vpc.bouncers > vpc.set_size:
            mistakes.add(f"{field}.bouncers", vpc.bouncers, f"must be at most setSize, which is {vpc.set_size}")
        if vpc.cidr == NOWHERE:
            continue
        _not_special(f"{field}.cidr", vpc.cidr, mistakes)
        if vpc.cidr.overlaps(settings.underlay):
            mistakes.add(f"{field}.cidr", vpc.cidr, f"must not overlap the underlay {settings.underlay}")


def _subnets(placed: list[Placed], mistakes: Mistakes) -> None:
    seen: dict[str, str] = {}
    for at, one in enumerate(placed):
        subnet, vpc, field = one.subnet, one.vpc, one.field
        _unique(f"{field}.name", subnet.name, seen, mistakes)
        if subnet.name in (FABRIC, HOST_PREFIX):
            mistakes.add(f"{field}.name", subnet.name, "is a name that the stack uses itself")
        if NOWHERE in (subnet.cidr, vpc.cidr):
            continue
        if not subnet.cidr.subnet_of(vpc.cidr):
            mistakes.add(f"{field}.cidr", subnet.cidr, f"must lie inside its VPC {vpc.name} ({vpc.cidr})")
        for other in placed[:at]:
            if other.vpc is vpc and other.subnet.cidr != NOWHERE and other.subnet.cidr.overlaps(subnet.cidr):
                mistakes.add(
                    f"{field}.cidr", subnet.cidr, f"must not overlap subnet {other.subnet.name} ({other.subnet.cidr})"
                )


def _endpoints(settings: Settings, placed: list[Placed], mistakes: Mistakes) -> None:
    hosts = set(host_names(settings))
    subnets = {one.subnet.name: one.subnet for one in placed if one.subnet.name}
    names = {
        name: f"{one.field}.endpointsPerHost"
        for one in placed
        if one.subnet.name
        for name in generated_names(one.subnet, settings.hosts)
    }
    addresses = {
        (one.subnet.name, address): name
        for one in placed
        if _generated_fit(settings, one.subnet)
        for name, address in zip(
            generated_names(one.subnet, settings.hosts), Usable(str(one.subnet.cidr)), strict=False
        )
    }
    for i, endpoint in enumerate(settings.endpoints):
        field = f"endpoints[{i}]"
        _unique(f"{field}.name", endpoint.name, names, mistakes)
        if endpoint.name == FABRIC or endpoint.name.startswith(f"{HOST_PREFIX}-"):
            mistakes.add(f"{field}.name", endpoint.name, "is a name that the stack uses itself")
        if endpoint.host and endpoint.host not in hosts:
            mistakes.add(f"{field}.host", endpoint.host, f"unknown host; there are host-1 to host-{settings.hosts}")
        if endpoint.subnet and endpoint.subnet not in subnets:
            known = ", ".join(sorted(subnets)) or "none"
            mistakes.add(f"{field}.subnet", endpoint.subnet, f"unknown subnet; known are {known}")
        elif endpoint.subnet and endpoint.address is not None:
            _fixed(field, endpoint, str(endpoint.address), subnets[endpoint.subnet], addresses, mistakes)


def _fixed(
    field: str,
    endpoint: EndpointSettings,
    address: str,
    subnet: SubnetSettings,
    holders: dict[tuple[str, str], str],
    mistakes: Mistakes,
) -> None:
    field = f"{field}.address"
    if subnet.cidr == NOWHERE:
        return
    if wrong := claim_mistakes(field, address, str(subnet.cidr)):
        mistakes.extend(wrong)
        return
    holder = holders.setdefault((subnet.name, address), endpoint.name)
    if holder != endpoint.name:
        mistakes.add(field, address, f"is the address of endpoint {holder}")


def _room(settings: Settings, placed: list[Placed], mistakes: Mistakes) -> None:
    for one in placed:
        subnet = one.subnet
        if subnet.cidr == NOWHERE:
            continue
        wanted = settings.hosts * subnet.per_host + sum(1 for e in settings.endpoints if e.subnet == subnet.name)
        room = len(Usable(str(subnet.cidr)))
        if wanted > room:
            mistakes.add(f"{one.field}.cidr", subnet.cidr, f"has room for {room} endpoints, {wanted} are wanted")


def _generated_fit(settings: Settings, subnet: SubnetSettings) -> bool:
    return subnet.cidr != NOWHERE and settings.hosts * subnet.per_host <= len(Usable(str(subnet.cidr)))


def _unique(field: str, name: str, seen: dict[str, str], mistakes: Mistakes) -> None:
    if name and name in seen:
        mistakes.add(field, name, f"the name is taken already by {seen[name]}")
    elif name:
        seen[name] = field
