"""Component: the endpoints of all VPCs, each with its workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Resource, ResourceOptions

from infra.plan import EndpointPlan
from infra.providers.endpoint import Endpoint, EndpointProps


@dataclass(frozen=True, kw_only=True)
class EndpointsArgs:
    """`after`: endpoint name -> what must exist before it: its subnet, and all agents that it may meet. `mtu`: the
    endpoints', in bytes."""

    stack: str
    endpoints: tuple[EndpointPlan, ...]
    mtu: int
    after: Mapping[str, Sequence[Resource]]


class Endpoints(ComponentResource):
    """`endpoints`: by name."""

    endpoints: dict[str, Endpoint]

    def __init__(self, name: str, args: EndpointsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:local:Endpoints", name, None, opts)
        self.endpoints = {
            plan.name: Endpoint(
                f"{name}-{plan.name}",
                EndpointProps(
                    stack=args.stack,
                    name=plan.name,
                    vpc=plan.vpc,
                    subnet=plan.subnet,
                    address=plan.address,
                    host=plan.host,
                    mtu=args.mtu,
                ),
                ResourceOptions(parent=self, depends_on=list(args.after.get(plan.name, ()))),
            )
            for plan in args.endpoints
        }
        self.register_outputs({"count": len(self.endpoints)})
