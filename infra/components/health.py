"""Component: the proof at the end of every `up` that packets really flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Resource, ResourceOptions

from infra.plan import EndpointPlan, ServicePlan
from infra.providers.health import HealthGate, HealthGateProps


@dataclass(frozen=True, kw_only=True)
class HealthArgs:
    """`seconds`: patience. `preview`: nothing may be sent. `after`: every endpoint and service, so that the gate comes
    last."""

    stack: str
    hosts: tuple[str, ...]
    endpoints: tuple[EndpointPlan, ...]
    services: tuple[ServicePlan, ...]
    mtu: int
    seconds: int
    preview: bool
    after: Sequence[Resource] = ()


class Health(ComponentResource):
    gate: HealthGate

    def __init__(self, name: str, args: HealthArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:local:Health", name, None, opts)
        endpoints = tuple(
            {"vpc": one.vpc, "subnet": one.subnet, "name": one.name, "address": one.address, "host": one.host}
            for one in args.endpoints
        )
        services = tuple(
            {
                "vpc": one.vpc,
                "name": one.name,
                "vip": one.vip,
                "ports": [
                    {"protocol": port.protocol, "port": port.port, "target_port": port.target_port}
                    for port in one.ports
                ],
                "backends": [backend.name for backend in one.backends],
            }
            for one in args.services
        )
        self.gate = HealthGate(
            f"{name}-gate",
            HealthGateProps(
                stack=args.stack,
                hosts=args.hosts,
                endpoints=endpoints,
                services=services,
                mtu=args.mtu,
                seconds=args.seconds,
                preview=args.preview,
            ),
            ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        self.register_outputs({"healthy": self.gate.healthy})
