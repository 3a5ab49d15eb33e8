"""Component: one VPC with its subnets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import Alias, ComponentResource, Input, Resource, ResourceOptions

from infra.plan import SubnetPlan, VpcPlan
from infra.providers.subnet import Subnet, SubnetProps
from infra.providers.vpc import Vpc, VpcProps


@dataclass(frozen=True, kw_only=True)
class VpcNetworkArgs:
    """`hosts`: names of all of the plan. `after`: the agents that may serve the VPC: its set is chosen once, over all
    that are ready. `kubeconfig`: leads to the cluster that keeps them, "" where a file does; `cluster`: with whose end
    they end, whoever uses them; None: never otherwise than one by one."""

    stack: str
    vpc: VpcPlan
    subnets: tuple[SubnetPlan, ...]
    hosts: tuple[str, ...]
    kubeconfig: Input[str] = ""
    after: Sequence[Resource] = ()
    cluster: Resource | None = None


class VpcNetwork(ComponentResource):
    """`subnets`: by name."""

    vpc: Vpc
    subnets: dict[str, Subnet]

    def __init__(self, name: str, args: VpcNetworkArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:local:VpcNetwork", name, None, opts)
        self.vpc = Vpc(
            f"{name}-vpc",
            VpcProps(
                stack=args.stack,
                name=args.vpc.name,
                cidr=args.vpc.cidr,
                set_size=args.vpc.set_size,
                bouncers=args.vpc.bouncers,
                hosts=args.hosts,
                kubeconfig=args.kubeconfig,
            ),
            ResourceOptions(parent=self, depends_on=list(args.after), deleted_with=args.cluster),
        )
        self.subnets = {
            plan.name: Subnet(
                plan.name,  # the same in another VPC
                SubnetProps(
                    stack=args.stack,
                    name=plan.name,
                    vpc=self.vpc.name,
                    cidr=plan.cidr,
                    hosts=args.hosts,
                    kubeconfig=args.kubeconfig,
                ),
                ResourceOptions(
                    parent=self,
                    depends_on=[*args.after, self.vpc],
                    deleted_with=args.cluster,
                    aliases=[Alias(name=f"{name}-{plan.name}")],  # of stacks that were made before
                ),
            )
            for plan in args.subnets
        }
        self.register_outputs({"vni": self.vpc.vni})
