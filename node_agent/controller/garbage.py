"""Finalizers that nobody else will lift. Pure; called by `plan`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from node_agent.controller.liveness import Host
from node_agent.model.objects import NetworkEndpoint, NetworkService, Object, Subnet, Vpc
from node_agent.model.users import ENDPOINT_FINALIZER, SUBNET_FINALIZER, VPC_FINALIZER, ends_with_vpc


@dataclass(frozen=True)
class Lift:
    """One finalizer to lift from one object, and why."""

    object: Object
    finalizer: str
    why: str


def orphans(endpoints: Iterable[NetworkEndpoint], hosts: Mapping[str, Host], *, frozen: bool) -> list[Lift]:
    """Deleting endpoints whose host cannot let go of them: it was removed, or it is dead (which is not believed of
    anybody while `frozen`). The host is the one that holds the endpoint, or was meant to."""
    lifts = []
    for endpoint in endpoints:
        if not endpoint.meta.deleting or ENDPOINT_FINALIZER not in endpoint.meta.finalizers:
            continue
        name = endpoint.status.host or endpoint.spec.host
        host = hosts.get(name)
        if host is None:
            lifts.append(Lift(endpoint, ENDPOINT_FINALIZER, f"host {name} was removed"))
        elif not host.alive and not frozen:
            lifts.append(Lift(endpoint, ENDPOINT_FINALIZER, f"host {name} is dead"))
    return lifts


def unused(
    vpcs: Iterable[Vpc],
    subnets: Iterable[Subnet],
    endpoints: Iterable[NetworkEndpoint],
    services: Iterable[NetworkService],
) -> list[Lift]:
    """Deleting VPCs and subnets that nobody uses any more, as far as is seen: `loop` asks the store before it lifts.
    The counts are those of `users.users_of`."""
    deleting_vpcs = [vpc for vpc in vpcs if vpc.meta.deleting and VPC_FINALIZER in vpc.meta.finalizers]
    subnets = list(subnets)
    deleting = [subnet for subnet in subnets if subnet.meta.deleting and SUBNET_FINALIZER in subnet.meta.finalizers]
    if not deleting and not deleting_vpcs:
        return []
    endpoints, services = list(endpoints), [one for one in services if not ends_with_vpc(one)]
    of_vpc = Counter(user.spec.vpc for group in (subnets, endpoints, services) for user in group)
    of_subnet = Counter(endpoint.spec.subnet for endpoint in endpoints)
    return [Lift(subnet, SUBNET_FINALIZER, "unused") for subnet in deleting if not of_subnet[subnet.name]] + [
        Lift(vpc, VPC_FINALIZER, "unused") for vpc in deleting_vpcs if not of_vpc[vpc.name]
    ]
