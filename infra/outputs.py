"""The stack's outputs: the only place that exports, in the shapes that docs/outputs.md promises.

Called once, by `infra.program`. Stable facts only: a second `up` exports the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

from infra.plan import Plan
from infra.targets.base import Machines, Networks, Verdict


def export(values: Mapping[str, Any]) -> None:
    """Export what `collect` has put together."""
    for name, value in values.items():
        pulumi.export(name, value)


def collect(plan: Plan, machines: Machines, networks: Networks, verdict: Verdict) -> dict[str, Any]:
    """Output name -> value; lists are in the plan's order."""
    return {
        "stackId": plan.stack_id,
        "hosts": [
            {"name": host.name, "address": host.address, "netns": host.netns, "mode": machines.modes[host.name]}
            for host in plan.hosts
        ],
        "vpcs": [
            {"name": vpc.name, "vni": networks.vnis[vpc.name], "cidr": vpc.cidr, "set": networks.sets[vpc.name]}
            for vpc in plan.vpcs
        ],
        "subnets": [
            {
                "name": subnet.name,
                "vpc": subnet.vpc,
                "cidr": subnet.cidr,
                "gateway": subnet.gateway,
                "bouncers": networks.bouncers[subnet.name],
            }
            for subnet in plan.subnets
        ],
        "endpoints": [
            {
                "name": one.name,
                "vpc": one.vpc,
                "subnet": one.subnet,
                "address": one.address,
                "host": one.host,
                "netns": one.netns,
            }
            for one in plan.endpoints
        ],
        "services": [
            {
                "name": one.name,
                "vpc": one.vpc,
                "vip": one.vip,
                "affinity": one.affinity,
                "ports": [
                    {"name": port.name, "protocol": port.protocol, "port": port.port, "targetPort": port.target_port}
                    for port in one.ports
                ],
                "backends": [backend.name for backend in one.backends],
            }
            for one in plan.services
        ],
        "health": {
            "healthy": verdict.healthy,
            "pairs": verdict.pairs,
            "probes": verdict.probes,
            "failures": verdict.failures,
        },
    }
