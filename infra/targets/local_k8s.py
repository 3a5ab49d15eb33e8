"""Target `local-k8s`: the hosts of `local` with a real Kubernetes cluster on them. Nothing leaves the machine.

What stands on the cluster (the store in its API, agents, the network of pods) is not made yet: nodes are there and say
that their network is missing, and the verdict is that nothing is healthy.
"""

from __future__ import annotations

import os
from pathlib import Path

from pulumi import Output

from infra.components.local_cluster import LocalCluster, LocalClusterArgs
from infra.components.underlay import Underlay, UnderlayArgs
from infra.plan import Plan
from infra.providers.builds import build_id, missing
from infra.targets.base import Attached, Machines, Networks, Served, Verdict
from infra.wanted import Settings

SERVICES, PODS = "10.96.0.0/16", "10.244.0.0/16"


class LocalKubernetes:
    """`root`: folder of the project; `settings`: of this run."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self._settings = settings

    def problems(self, settings: Settings) -> list[str]:
        found = []
        if os.geteuid() != 0:
            found.append("stack local-k8s: it makes namespaces and control groups: run it as root")
        if settings.vpcs:
            found.append("vpcs: VPCs on Kubernetes are not made yet: leave them out")
        return [*found, *missing()]

    def machines(self, plan: Plan) -> Machines:
        underlay = Underlay("underlay", UnderlayArgs(stack=plan.stack_id))
        cluster = LocalCluster(
            "cluster",
            LocalClusterArgs(
                stack=plan.stack_id,
                control=plan.control,
                workers=plan.hosts,
                services=SERVICES,
                pods=PODS,
                mtu=plan.mtu,
                native=plan.mode == "native",
                build=build_id(),
                after=[underlay.root, underlay.fabric],
            ),
        )
        return Machines(
            modes={host.name: Output.from_input("none") for host in plan.hosts},
            ready=dict(cluster.nodes),
            control=cluster.control,
            ground=(underlay.root,),
            access={"kubeconfig": cluster.kubeconfig},
        )

    def networks(self, plan: Plan, machines: Machines) -> Networks:
        return Networks(vpcs={}, vnis={}, sets={}, bouncers={}, subnets={})

    def endpoints(self, plan: Plan, machines: Machines, networks: Networks) -> Attached:
        return Attached(endpoints={})

    def services(self, plan: Plan, machines: Machines, networks: Networks, attached: Attached) -> Served:
        return Served(services={})

    def health(self, plan: Plan, machines: Machines, attached: Attached, served: Served, *, preview: bool) -> Verdict:
        none = Output.from_input(0)
        return Verdict(
            healthy=Output.from_input(False),
            pairs=none,
            probes=none,
            failures=Output.from_input(["pods have no network yet"]),
        )
