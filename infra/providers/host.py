"""Dynamic resource: an emulated host, that is its namespace, its uplink and its object in the store."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.providers import objects
from infra.providers.base import Made, Outputs, Provider
from node_agent.emulation import hosts
from node_agent.model.objects import NetworkHost, NetworkHostSpec
from node_agent.model.places import StackPlaces


@dataclass(frozen=True, kw_only=True)
class HostProps:
    """`address`: underlay IPv4; `prefix`: its length; `mtu`: of the uplink, bytes; `native`: XDP is to run natively."""

    stack: str
    name: str
    address: str
    prefix: int
    mtu: int
    native: bool = False


class HostProvider(Provider[HostProps]):
    props = HostProps

    def observe(self, props: HostProps) -> Outputs | None:
        found = hosts.inspect(StackPlaces(props.stack), props.name)
        if found is None:
            return None
        listed = objects.find(props.stack, NetworkHost, props.name)
        problems = list(found.problems)
        if listed is None or listed.meta.deleting:
            problems.append("its object is not in the store")
        elif listed.spec != _spec(props):
            problems.append(f"the store has {listed.spec}")
        address, _, prefix = found.address.partition("/")
        return {
            "netns": found.netns,
            "address": address,
            "prefix": int(prefix or 0),
            "mtu": found.mtu,
            "native": found.native,
            "problems": problems,
        }

    def sound(self, observed: Outputs) -> bool:
        return not observed["problems"]

    def ensure(self, props: HostProps, had: HostProps | None) -> Outputs:
        spec = hosts.Spec(
            name=props.name, address=f"{props.address}/{props.prefix}", mtu=props.mtu, native=props.native
        )
        made = hosts.make(StackPlaces(props.stack), spec)
        with objects.opened(props.stack) as store:
            objects.put(store, NetworkHost, props.name, _spec(props))
        return {"netns": made.netns, "problems": list(made.problems)}

    def remove(self, props: HostProps) -> None:
        # Its agent is gone by now, so nobody else can lift what holds the object.
        hosts.remove(StackPlaces(props.stack), props.name)
        objects.drop(props.stack, NetworkHost, props.name, force=True)


class Host(Made, module="local", name="Host"):
    netns: pulumi.Output[str]

    def __init__(self, name: str, props: HostProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(HostProvider(), name, props, ("netns", "problems"), opts)


def _spec(props: HostProps) -> NetworkHostSpec:
    return NetworkHostSpec(address=props.address, mtu=props.mtu)
