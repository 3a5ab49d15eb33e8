"""Dynamic resource: an endpoint, that is a namespace with a workload, attached by the host's agent.

The interface in it is made by the agent on ADD and removed on DEL, exactly as for a pod. Another host is an update in
place, and no packet's loss: namespace, address and what runs there stay, the two agents swap the interface.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import pulumi

from infra.providers import daemons, objects
from infra.providers.base import Made, Outputs, Provider
from node_agent.cni import client
from node_agent.cni.protocol import Request
from node_agent.emulation import endpoints
from node_agent.model.errors import Permanent, Temporary
from node_agent.model.objects import NetworkEndpoint
from node_agent.model.places import StackPlaces

ADD_SECONDS = 30.0
DEL_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class EndpointProps:
    """`mtu`: of its interface, in bytes; 0: not known."""

    stack: str
    name: str
    vpc: str
    subnet: str
    address: str
    host: str
    mtu: int = 0


class EndpointProvider(Provider[EndpointProps]):
    props = EndpointProps
    identity = ("stack", "name", "vpc", "subnet", "address")

    def observe(self, props: EndpointProps) -> Outputs | None:
        places = StackPlaces(props.stack)
        found = endpoints.inspect(places, props.name)
        # Without its interface (the host's namespace took it along) there is a namespace, but no endpoint.
        if found is None or not any(text.split("/")[0] == props.address for text in found.addresses):
            return None
        workload = endpoints.inspect_workload(places, props.name)
        claim = _claim(props)
        return {
            "netns": found.netns,
            "object": claim.name if claim else "",
            "host": claim.status.host if claim else "",
            "mtu": found.mtu,
            "serving": workload is not None and bool(workload.supervisor_pid) and workload.placed,
        }

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["object"] and observed["serving"])

    def ensure(self, props: EndpointProps, had: EndpointProps | None) -> Outputs:
        places = StackPlaces(props.stack)
        claim = _claim(props)
        if claim is not None and claim.spec.host != props.host:
            objects.move(props.stack, claim.name, props.host)
        made = endpoints.make(places, props.name)
        reply = client.persist(
            places.host(props.host).socket,
            Request(
                verb="ADD",
                container_id=props.name,
                interface=endpoints.INTERFACE,
                netns=str(places.netns_path(props.name)),
                vpc=props.vpc,
                subnet=props.subnet,
                address=props.address,
                workload=props.name,
            ),
            ADD_SECONDS,
        )
        endpoints.start_workload(places, props.name, vpc=props.vpc, address=props.address)
        if props.mtu and reply.mtu != props.mtu:
            raise Permanent(f"add endpoint {props.name}: its MTU is {reply.mtu} and should be {props.mtu}")
        return {
            "netns": made.netns,
            "object": reply.endpoint,
            "host": props.host,
            "mtu": reply.mtu,
            "serving": True,
        }

    def remove(self, props: EndpointProps) -> None:
        places = StackPlaces(props.stack)
        claim = _claim(props)
        if claim is not None:
            _detach(props, claim.spec.host)
        endpoints.remove(places, props.name)


class Endpoint(Made, module="local", name="Endpoint"):
    """`object`: name of the endpoint's object in the store."""

    object: pulumi.Output[str]
    netns: pulumi.Output[str]

    def __init__(self, name: str, props: EndpointProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(EndpointProvider(), name, props, ("netns", "object", "serving"), opts)


def of(stack: str, held: NetworkEndpoint) -> EndpointProps:
    """The inputs that made an endpoint which is in the store."""
    spec = held.spec
    return EndpointProps(
        stack=stack, name=spec.container_id, vpc=spec.vpc, subnet=spec.subnet, address=spec.address, host=spec.host
    )


def _claim(props: EndpointProps) -> NetworkEndpoint | None:
    """The object that holds the endpoint's address, found as the agent finds it: by container and interface."""
    held = objects.listed(props.stack, NetworkEndpoint, {"spec.container_id": props.name})
    return next((one for one in held if one.spec.interface == endpoints.INTERFACE), None)


def _detach(props: EndpointProps, host: str) -> None:
    """DEL by the host's agent; where that host has none any more, or one that does not answer, the claim alone is left
    to release."""
    places = StackPlaces(props.stack)
    if daemons.agent(props.stack, host) is not None:
        request = Request(
            verb="DEL",
            container_id=props.name,
            interface=endpoints.INTERFACE,
            netns=str(places.netns_path(props.name)),
        )
        # An agent that cannot start must not keep the stack from being destroyed. The namespace takes the interface
        # along, and once the claim is gone a healthy agent removes its rows by itself.
        with contextlib.suppress(Temporary):
            client.persist(places.host(host).socket, request, DEL_SECONDS)
    claim = _claim(props)
    if claim is not None:
        objects.drop(props.stack, NetworkEndpoint, claim.name, force=True)
