"""Dynamic resource: a VPC in the store. Made means served: the controller has given it a VNI and a set of hosts.

`hosts` are those that the plan has. Any other in the store is about to be removed: it is drained, and the VPC is made
once its set has none of them. So what the health gate judges afterwards is the network that stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi

from infra.providers import objects
from infra.providers.base import Made, Outputs, Provider, prefer, wait
from infra.providers.subnet import SubnetProps, SubnetProvider
from node_agent.model.objects import NetworkService, Subnet, VpcSpec
from node_agent.model.objects import Vpc as VpcObject
from node_agent.store.base import Store

SERVED_SECONDS = 90.0  # more than a handover takes: a successor joins within 60 s (controller.plan)
FULL_SECONDS = 10.0  # patience with a set that could be larger; hosts that were dead may rest for longer


@dataclass(frozen=True, kw_only=True)
class VpcProps:
    """`kubeconfig`: leads to the cluster that keeps the stack's objects, "" where a file does."""

    stack: str
    name: str
    cidr: str
    set_size: int
    bouncers: int
    hosts: tuple[str, ...] = ()
    kubeconfig: Any = ""


class VpcProvider(Provider[VpcProps]):
    props = VpcProps

    def fixed(self, props: VpcProps) -> tuple[str, ...]:
        return ("cidr",) if objects.constant(props.kubeconfig) else ()

    def observe(self, props: VpcProps) -> Outputs | None:
        found = objects.find(props.stack, VpcObject, props.name, props.kubeconfig)
        return None if found is None or found.meta.deleting else _outputs(found, props)

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["vni"] and observed["set"]) and not observed["departing"]

    def ensure(self, props: VpcProps, had: VpcProps | None) -> Outputs:
        with objects.opened(props.stack, props.kubeconfig) as store:
            objects.drain(store, props.hosts)
            objects.put(
                store, VpcObject, props.name, VpcSpec(cidr=props.cidr, set_size=props.set_size, bouncers=props.bouncers)
            )
            made = wait(SERVED_SECONDS, lambda: _served(store, props), lambda: _complaint(store, props))
            return _outputs(prefer(FULL_SECONDS, lambda: _served(store, props, full=True), made), props)

    def remove(self, props: VpcProps) -> None:
        for service in objects.left(props.stack, NetworkService, {"spec.vpc": props.name}, props.kubeconfig):
            objects.drop(props.stack, NetworkService, service.name)
        for subnet in objects.left(props.stack, Subnet, {"spec.vpc": props.name}, props.kubeconfig):
            SubnetProvider().remove(
                SubnetProps(stack=props.stack, name=subnet.name, vpc=subnet.spec.vpc, cidr=subnet.spec.cidr)
            )
        force = objects.unattended(props.stack, props.kubeconfig)
        objects.drop(props.stack, VpcObject, props.name, kubeconfig=props.kubeconfig, force=force)


class Vpc(Made, module="local", name="Vpc"):
    """`set`: names of the hosts that serve it, in the order of their places."""

    name: pulumi.Output[str]
    vni: pulumi.Output[int]
    set: pulumi.Output[list[str]]

    def __init__(self, name: str, props: VpcProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(VpcProvider(), name, props, ("vni", "set", "departing"), opts)


def _served(store: Store, props: VpcProps, *, full: bool = False) -> VpcObject | None:
    """The VPC once it is served by hosts of the plan; `full`: by as many as it may have."""
    found = store.get(VpcObject, props.name)
    hosts = _hosts(found)
    seen = found.status.observed_generation == found.meta.generation
    enough = min(props.set_size, len(props.hosts)) if full else 1
    settled = seen and found.status.vni and len(hosts) >= enough and not _departing(hosts, props)
    return found if settled else None


def _complaint(store: Store, props: VpcProps) -> str:
    found = store.get(VpcObject, props.name)
    departing = _departing(_hosts(found), props)
    what = f"its set still has {', '.join(departing)}" if departing else "the controller chose no VNI and no set"
    return f"make VPC {props.name}: {what} after {SERVED_SECONDS:g} s; see `mizar logs controller`"


def _hosts(found: VpcObject) -> list[str]:
    """Of the set, in the order of places."""
    members = sorted(found.status.members, key=lambda member: member.place)
    return [member.host for member in members if member.state != "leaving"]


def _departing(hosts: list[str], props: VpcProps) -> list[str]:
    return [host for host in hosts if host not in props.hosts]


def _outputs(found: VpcObject, props: VpcProps) -> Outputs:
    hosts = _hosts(found)
    return {
        "cidr": found.spec.cidr,
        "set_size": found.spec.set_size,
        "bouncers": found.spec.bouncers,
        "vni": found.status.vni,
        "set": hosts,
        "departing": _departing(hosts, props),
    }
