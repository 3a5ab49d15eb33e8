"""Dynamic resource: a subnet in the store. Made means bounced: the controller has chosen who knows its endpoints."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.providers import daemons, objects
from infra.providers.base import Made, Outputs, Provider, wait
from infra.providers.endpoint import EndpointProvider, of
from node_agent.model.errors import NotFound
from node_agent.model.objects import NetworkEndpoint, SubnetSpec, Vpc
from node_agent.model.objects import Subnet as SubnetObject
from node_agent.store.base import Store

BOUNCED_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class SubnetProps:
    stack: str
    name: str
    vpc: str
    cidr: str


class SubnetProvider(Provider[SubnetProps]):
    props = SubnetProps

    def observe(self, props: SubnetProps) -> Outputs | None:
        found = objects.find(props.stack, SubnetObject, props.name)
        if found is None or found.meta.deleting:
            return None
        with objects.opened(props.stack) as store:
            return _outputs(store, found)

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["bouncers"])

    def ensure(self, props: SubnetProps, had: SubnetProps | None) -> Outputs:
        with objects.opened(props.stack) as store:
            objects.put(store, SubnetObject, props.name, SubnetSpec(vpc=props.vpc, cidr=props.cidr))
            made = wait(
                BOUNCED_SECONDS,
                lambda: _bounced(store, props.name),
                lambda: (
                    f"make subnet {props.name}: the controller chose no bouncers within {BOUNCED_SECONDS:g} s; "
                    "see `mizar logs controller`"
                ),
            )
            return _outputs(store, made)

    def remove(self, props: SubnetProps) -> None:
        found = objects.find(props.stack, SubnetObject, props.name)
        # A subnet that moved to another VPC under its old name belongs to that VPC's resource now.
        if found is None or found.spec.vpc != props.vpc:
            return
        # Endpoints that Pulumi knew are gone by now: what is left was being made by a run that was killed.
        for left in objects.listed(props.stack, NetworkEndpoint, {"spec.subnet": props.name}):
            EndpointProvider().remove(of(props.stack, left))
        force = daemons.controller(props.stack) is None
        objects.drop(props.stack, SubnetObject, props.name, force=force)


class Subnet(Made, module="local", name="Subnet"):
    """`bouncers`: names of the hosts that know its endpoints."""

    bouncers: pulumi.Output[list[str]]

    def __init__(self, name: str, props: SubnetProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(SubnetProvider(), name, props, ("bouncers",), opts)


def _bounced(store: Store, name: str) -> SubnetObject | None:
    found = store.get(SubnetObject, name)
    return found if found.status.bouncers and found.status.observed_generation == found.meta.generation else None


def _outputs(store: Store, found: SubnetObject) -> Outputs:
    try:
        members = {member.place: member.host for member in store.get(Vpc, found.spec.vpc).status.members}
    except NotFound:
        members = {}
    return {
        "vpc": found.spec.vpc,
        "cidr": found.spec.cidr,
        "bouncers": [members[place] for place in sorted(found.status.bouncers) if place in members],
    }
