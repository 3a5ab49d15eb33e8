"""Dynamic resource: a subnet in the store. Made means bounced: the controller has chosen who knows its endpoints.

`hosts` as for a VPC: none but those of the plan may be among its bouncers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from infra.providers import objects
from infra.providers.base import Made, Outputs, Provider, prefer, wait
from infra.providers.endpoint import EndpointProvider, of
from node_agent.emulation import endpoints
from node_agent.model.errors import NotFound
from node_agent.model.objects import ALL_BOUNCE, NetworkEndpoint, SetMember, SubnetSpec, Vpc
from node_agent.model.objects import Subnet as SubnetObject
from node_agent.model.places import StackPlaces
from node_agent.store.base import Store

BOUNCED_SECONDS = 30.0
FULL_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class SubnetProps:
    """`vpc`: the output `name` of its resource, so that another VPC of that name is another subnet too. `kubeconfig` as
    for a VPC."""

    stack: str
    name: str
    vpc: Any
    cidr: str
    hosts: tuple[str, ...] = ()
    kubeconfig: Any = ""


class SubnetProvider(Provider[SubnetProps]):
    props = SubnetProps

    def fixed(self, props: SubnetProps) -> tuple[str, ...]:
        return ("vpc", "cidr") if objects.constant(props.kubeconfig) else ()

    def observe(self, props: SubnetProps) -> Outputs | None:
        found = objects.find(props.stack, SubnetObject, props.name, props.kubeconfig)
        if found is None or found.meta.deleting:
            return None
        with objects.opened(props.stack, props.kubeconfig) as store:
            return _outputs(store, found, props)

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["bouncers"]) and not observed["departing"]

    def ensure(self, props: SubnetProps, had: SubnetProps | None) -> Outputs:
        with objects.opened(props.stack, props.kubeconfig) as store:
            objects.put(store, SubnetObject, props.name, SubnetSpec(vpc=props.vpc, cidr=props.cidr))
            made = wait(
                BOUNCED_SECONDS,
                lambda: _bounced(store, props),
                lambda: (
                    f"make subnet {props.name}: the controller chose no bouncers that stay within "
                    f"{BOUNCED_SECONDS:g} s; see `mizar logs controller`"
                ),
            )
            return _outputs(store, prefer(FULL_SECONDS, lambda: _bounced(store, props, full=True), made), props)

    def remove(self, props: SubnetProps) -> None:
        found = objects.find(props.stack, SubnetObject, props.name, props.kubeconfig)
        # A subnet that moved to another VPC under its old name belongs to that VPC's resource now.
        if found is None or found.spec.vpc != props.vpc:
            return
        # One without a namespace of ours is somebody's who asked an agent for it, and uses the subnet.
        for endpoint in objects.left(props.stack, NetworkEndpoint, {"spec.subnet": props.name}, props.kubeconfig):
            if endpoints.inspect(StackPlaces(props.stack), endpoint.spec.container_id):
                EndpointProvider().remove(of(props.stack, endpoint))
        force = objects.unattended(props.stack, props.kubeconfig)
        objects.drop(props.stack, SubnetObject, props.name, kubeconfig=props.kubeconfig, force=force)


class Subnet(Made, module="local", name="Subnet"):
    """`bouncers`: names of the hosts that know its endpoints."""

    name: pulumi.Output[str]
    bouncers: pulumi.Output[list[str]]

    def __init__(self, name: str, props: SubnetProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(SubnetProvider(), name, props, ("bouncers", "departing"), opts)


def _bounced(store: Store, props: SubnetProps, *, full: bool = False) -> SubnetObject | None:
    """The subnet once it is bounced by hosts of the plan; `full`: by as many as its VPC's set now gives it."""
    found, members, enough = store.get(SubnetObject, props.name), _members(store, props.vpc), 1
    if full:
        enough = len(members) if len(members) <= ALL_BOUNCE else store.get(Vpc, props.vpc).spec.bouncers
    hosts = _hosts(found.status.bouncers, members)
    seen = found.status.observed_generation == found.meta.generation
    settled = seen and len(hosts) >= enough and not _departing(hosts, props)
    return found if settled else None


def _members(store: Store, vpc: str) -> dict[int, SetMember]:
    """Those of the VPC's set that stay, by place."""
    try:
        status = store.get(Vpc, vpc).status
    except NotFound:
        return {}
    return {member.place: member for member in status.members if member.state != "leaving"}


def _hosts(places: Iterable[int], members: Mapping[int, SetMember]) -> list[str]:
    return [members[place].host for place in sorted(places) if place in members]


def _departing(hosts: list[str], props: SubnetProps) -> list[str]:
    return [host for host in hosts if host not in props.hosts]


def _outputs(store: Store, found: SubnetObject, props: SubnetProps) -> Outputs:
    hosts = _hosts(found.status.bouncers, _members(store, found.spec.vpc))
    return {
        "vpc": found.spec.vpc,
        "cidr": found.spec.cidr,
        "bouncers": hosts,
        "departing": _departing(hosts, props),
    }
