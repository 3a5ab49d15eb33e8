"""Dynamic resource: an emulated host, that is its namespace and its uplink. Its object is made by whoever owns the
store.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.providers.base import Made, Outputs, Provider
from node_agent.emulation import hosts
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


class BareHostProvider(Provider[HostProps]):
    props = HostProps

    def observe(self, props: HostProps) -> Outputs | None:
        found = hosts.inspect(StackPlaces(props.stack), props.name)
        if found is None:
            return None
        address, _, prefix = found.address.partition("/")
        return {
            "netns": found.netns,
            "address": address,
            "prefix": int(prefix or 0),
            "mtu": found.mtu,
            "native": found.native,
            "problems": list(found.problems),
        }

    def sound(self, observed: Outputs) -> bool:
        return not observed["problems"]

    def ensure(self, props: HostProps, had: HostProps | None) -> Outputs:
        spec = hosts.Spec(
            name=props.name, address=f"{props.address}/{props.prefix}", mtu=props.mtu, native=props.native
        )
        made = hosts.make(StackPlaces(props.stack), spec)
        return {"netns": made.netns, "problems": list(made.problems)}

    def remove(self, props: HostProps) -> None:
        hosts.remove(StackPlaces(props.stack), props.name)


class BareHost(Made, module="local", name="BareHost"):
    netns: pulumi.Output[str]

    def __init__(self, name: str, props: HostProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(BareHostProvider(), name, props, ("netns", "problems"), opts)
