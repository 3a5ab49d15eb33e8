"""Component: the services of all VPCs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pulumi import ComponentResource, Resource, ResourceOptions

from infra.plan import ServicePlan
from infra.providers.service import Service, ServiceProps


@dataclass(frozen=True, kw_only=True)
class ServicesArgs:
    """`after`: service name -> what must exist before it: its VPC and its backends."""

    stack: str
    services: tuple[ServicePlan, ...]
    after: Mapping[str, Sequence[Resource]]


class Services(ComponentResource):
    """`services`: by name."""

    services: dict[str, Service]

    def __init__(self, name: str, args: ServicesArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:local:Services", name, None, opts)
        self.services = {
            plan.name: Service(
                f"{name}-{plan.name}",
                ServiceProps(
                    stack=args.stack,
                    name=plan.name,
                    vpc=plan.vpc,
                    vip=plan.vip,
                    affinity=plan.affinity,
                    ports=tuple(asdict(port) for port in plan.ports),
                    backends=tuple({"address": backend.address, "state": "ready"} for backend in plan.backends),
                ),
                ResourceOptions(parent=self, depends_on=list(args.after.get(plan.name, ()))),
            )
            for plan in args.services
        }
        self.register_outputs({"count": len(self.services)})
