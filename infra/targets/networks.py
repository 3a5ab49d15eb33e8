"""VPCs with their subnets, which every target makes in the same manner. Called by the targets."""

from __future__ import annotations

from collections.abc import Sequence

from pulumi import Input, Resource

from infra.components.vpc_network import VpcNetwork, VpcNetworkArgs
from infra.plan import Plan
from infra.targets.base import Networks


def make(
    plan: Plan,
    hosts: tuple[str, ...],
    after: Sequence[Resource],
    *,
    kubeconfig: Input[str] = "",
    cluster: Resource | None = None,
) -> Networks:
    """Arguments as of `VpcNetworkArgs`."""
    made = {
        vpc.name: VpcNetwork(
            vpc.name,
            VpcNetworkArgs(
                stack=plan.stack_id,
                vpc=vpc,
                subnets=tuple(subnet for subnet in plan.subnets if subnet.vpc == vpc.name),
                hosts=hosts,
                kubeconfig=kubeconfig,
                after=after,
                cluster=cluster,
            ),
        )
        for vpc in plan.vpcs
    }
    subnets = {name: subnet for network in made.values() for name, subnet in network.subnets.items()}
    return Networks(
        vpcs={name: network.vpc for name, network in made.items()},
        vnis={name: network.vpc.vni for name, network in made.items()},
        sets={name: network.vpc.set for name, network in made.items()},
        bouncers={name: subnet.bouncers for name, subnet in subnets.items()},
        subnets=dict(subnets),
    )
