"""Dynamic resource: a port of an emulated host in a VPC, by which the host and pods of that VPC reach each other."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import pulumi

from infra.providers.base import Made, Outputs, Provider
from node_agent.cni import client
from node_agent.cni.protocol import Request
from node_agent.emulation.cluster import host_port
from node_agent.emulation.endpoints import INTERFACE
from node_agent.model.errors import Temporary
from node_agent.model.places import StackPlaces

DEL_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class HostPortProps:
    """`subnet`: the output `name` of its resource, so that the port goes before the subnet does. `prefixes`: what the
    host is to reach that way."""

    stack: str
    host: str
    vpc: str
    subnet: Any
    prefixes: tuple[str, ...]


class HostPortProvider(Provider[HostPortProps]):
    props = HostPortProps
    identity = ("stack", "host", "vpc", "subnet")

    def observe(self, props: HostPortProps) -> Outputs | None:
        found = host_port.inspect(StackPlaces(props.stack), _spec(props))
        return None if found is None else _outputs(found)

    def sound(self, observed: Outputs) -> bool:
        return not observed["problems"]

    def ensure(self, props: HostPortProps, had: HostPortProps | None) -> Outputs:
        return _outputs(host_port.make(StackPlaces(props.stack), _spec(props)))

    def remove(self, props: HostPortProps) -> None:
        places = StackPlaces(props.stack)
        request = Request(verb="DEL", container_id=host_port.name(props.host), interface=INTERFACE)
        # An agent that is gone must not keep the stack from being destroyed; its claim goes with the cluster.
        with contextlib.suppress(Temporary):
            client.persist(places.host(props.host).socket, request, DEL_SECONDS)
        host_port.remove(places, props.host)


class HostPort(Made, module="local", name="HostPort"):
    """`address`: of the host in the VPC."""

    address: pulumi.Output[str]

    def __init__(self, name: str, props: HostPortProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(HostPortProvider(), name, props, ("address", "problems"), opts)


def _spec(props: HostPortProps) -> host_port.Spec:
    return host_port.Spec(host=props.host, vpc=props.vpc, subnet=props.subnet, prefixes=tuple(props.prefixes))


def _outputs(found: host_port.Observed) -> Outputs:
    return {"address": found.address, "problems": list(found.problems)}
