"""Dynamic resource: a VPC in the store. Made means served: the controller has given it a VNI and a set of hosts."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.providers import daemons, objects
from infra.providers.base import Made, Outputs, Provider, wait
from infra.providers.subnet import SubnetProps, SubnetProvider
from node_agent.model.objects import Subnet, VpcSpec
from node_agent.model.objects import Vpc as VpcObject
from node_agent.store.base import Store

SERVED_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class VpcProps:
    stack: str
    name: str
    cidr: str
    set_size: int
    bouncers: int


class VpcProvider(Provider[VpcProps]):
    props = VpcProps

    def observe(self, props: VpcProps) -> Outputs | None:
        found = objects.find(props.stack, VpcObject, props.name)
        return None if found is None or found.meta.deleting else _outputs(found)

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["vni"] and observed["set"])

    def ensure(self, props: VpcProps, had: VpcProps | None) -> Outputs:
        with objects.opened(props.stack) as store:
            objects.put(
                store, VpcObject, props.name, VpcSpec(cidr=props.cidr, set_size=props.set_size, bouncers=props.bouncers)
            )
            return _outputs(
                wait(
                    SERVED_SECONDS,
                    lambda: _served(store, props.name),
                    lambda: (
                        f"make VPC {props.name}: the controller chose no VNI and no set within {SERVED_SECONDS:g} s; "
                        "see `mizar logs controller`"
                    ),
                )
            )

    def remove(self, props: VpcProps) -> None:
        # As with a subnet's endpoints: what is left was being made by a run that was killed.
        for left in objects.listed(props.stack, Subnet, {"spec.vpc": props.name}):
            SubnetProvider().remove(
                SubnetProps(stack=props.stack, name=left.name, vpc=left.spec.vpc, cidr=left.spec.cidr)
            )
        force = daemons.controller(props.stack) is None
        objects.drop(props.stack, VpcObject, props.name, force=force)


class Vpc(Made, module="local", name="Vpc"):
    """`set`: names of the hosts that serve it, in the order of their places."""

    vni: pulumi.Output[int]
    set: pulumi.Output[list[str]]

    def __init__(self, name: str, props: VpcProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(VpcProvider(), name, props, ("vni", "set"), opts)


def _served(store: Store, name: str) -> VpcObject | None:
    found = store.get(VpcObject, name)
    seen = found.status.observed_generation == found.meta.generation
    return found if seen and found.status.vni and found.status.members else None


def _outputs(found: VpcObject) -> Outputs:
    members = sorted(found.status.members, key=lambda member: member.place)
    return {
        "cidr": found.spec.cidr,
        "set_size": found.spec.set_size,
        "bouncers": found.spec.bouncers,
        "vni": found.status.vni,
        "set": [member.host for member in members if member.state != "leaving"],
    }
