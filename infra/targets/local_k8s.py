"""Target `local-k8s`: the hosts of `local` with a real Kubernetes cluster on them. Nothing leaves the machine.

The machines are this target's own; what stands on the cluster is what any cluster gets. Its store is the cluster's API.
"""

from __future__ import annotations

import functools
import os
from ipaddress import IPv4Network
from pathlib import Path

from pulumi import Resource, ResourceOptions

from infra import images
from infra.components.cluster_agents import ClusterAgents, ClusterAgentsArgs
from infra.components.local_cluster import LocalCluster, LocalClusterArgs
from infra.components.pod_health import PodHealthArgs, PodsHealth
from infra.components.underlay import Underlay, UnderlayArgs
from infra.plan import HostPlan, Plan, VpcPlan
from infra.providers.builds import build_id, coredns, missing
from infra.providers.host_port import HostPort, HostPortProps
from infra.providers.node_image import NodeImage, NodeImageProps
from infra.providers.subnet import Subnet
from infra.render import dns, manifests
from infra.targets import networks
from infra.targets.base import Attached, Machines, Networks, Served, Verdict
from infra.wanted import Settings
from node_agent.model.addresses import pod_mtu
from node_agent.model.config import Listed

SERVICES, PODS = "10.96.0.0/16", "10.244.0.0/16"
API_PORT, DNS_PORT = 443, 53
IMAGES = Path("~/.cache/mizar/images")


class LocalKubernetes:
    """`root`: folder of the project; `settings`: of this run."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self._root = root

    @functools.cached_property
    def _built(self) -> images.Built:
        return images.build(self._root, IMAGES.expanduser())

    def problems(self, settings: Settings) -> list[str]:
        found = []
        if os.geteuid() != 0:
            found.append("stack local-k8s: it makes namespaces and control groups: run it as root")
        if not settings.vpcs or not settings.vpcs[0].subnets:
            found.append("vpcs: pods need one with a subnet: the first is for those that ask for none")
        if settings.underlay.overlaps(IPv4Network(SERVICES)):
            found.append(f"underlay: {settings.underlay}: must not overlap the cluster's services {SERVICES}")
        reachable = [vpc for vpc in settings.vpcs if vpc.host_reachable]
        for number, vpc in enumerate(settings.vpcs):
            if vpc.host_reachable and vpc is not reachable[0]:
                found.append(f"vpcs[{number}].hostReachable: true: hosts are in one VPC only, {reachable[0].name}")
            if vpc.host_reachable and not vpc.subnets:
                found.append(f"vpcs[{number}].hostReachable: true: hosts need an address there: give it a subnet")
            if vpc.cidr.overlaps(IPv4Network(SERVICES)):
                found.append(f"vpcs[{number}].cidr: {vpc.cidr}: must not overlap the cluster's services {SERVICES}")
        return [*found, *missing(), *images.missing(self._root)]

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
        ground = (underlay.root, cluster.control)
        built = self._built
        name_server = images.coredns(coredns(), IMAGES.expanduser())
        nodes = (plan.control, *plan.hosts)
        loaded = [_image(plan, node, built, "mizar", [*ground, cluster.nodes[node.name]]) for node in nodes]
        loaded.append(_image(plan, plan.control, name_server, "coredns", [*ground, cluster.nodes[plan.control.name]]))
        agents = ClusterAgents(
            "mizar",
            ClusterAgentsArgs(
                stack=plan.stack_id,
                kubeconfig=cluster.kubeconfig,
                wanted=_wanted(plan, built),
                hosts=tuple(node.name for node in nodes),
                images=loaded,
                after=[*ground, *cluster.nodes.values()],
                cluster=cluster.control,
                more=dns.name_server(
                    dns.Names(
                        image=name_server.reference,
                        host=plan.control.name,
                        address=plan.control.address,
                        services=SERVICES,
                    )
                ),
            ),
        )
        return Machines(
            modes={name: agent.mode for name, agent in agents.agents.items()},
            ready=dict(agents.agents),
            control=agents.agents[plan.control.name],
            ground=ground,
            access={"kubeconfig": cluster.kubeconfig},
            cluster=cluster.control,
        )

    def networks(self, plan: Plan, machines: Machines) -> Networks:
        return networks.make(
            plan,
            tuple(machines.ready),
            [*machines.ground, *machines.ready.values()],
            kubeconfig=machines.access["kubeconfig"],
            cluster=machines.cluster,
        )

    def endpoints(self, plan: Plan, machines: Machines, networks: Networks) -> Attached:
        # Pods come by themselves; hosts that are to reach them are endpoints beside them.
        ports: dict[str, Resource] = {}
        for vpc in plan.vpcs:
            if vpc.host_reachable:
                subnet = networks.subnets[next(one.name for one in plan.subnets if one.vpc == vpc.name)]
                first = [*machines.ground, *machines.ready.values(), subnet]
                ports |= {name: _port(plan, name, vpc, subnet, first) for name in machines.ready}
        return Attached(endpoints=ports)

    def services(self, plan: Plan, machines: Machines, networks: Networks, attached: Attached) -> Served:
        return Served(services={})

    def health(
        self,
        plan: Plan,
        machines: Machines,
        networks: Networks,
        attached: Attached,
        served: Served,
        *,
        preview: bool,
    ) -> Verdict:
        gate = PodsHealth(
            "health",
            PodHealthArgs(
                stack=plan.stack_id,
                kubeconfig=machines.access["kubeconfig"],
                image=self._built.reference,
                nodes=tuple(machines.ready),
                subnets=plan.subnets,
                mtu=pod_mtu(plan.mtu),
                seconds=plan.health_seconds,
                preview=preview,
                after=[
                    *machines.ground,
                    *machines.ready.values(),
                    *networks.subnets.values(),
                    *attached.endpoints.values(),
                ],
                cluster=machines.cluster,
            ),
        ).gate
        return Verdict(healthy=gate.healthy, pairs=gate.pairs, probes=gate.probes, failures=gate.failures)


def _wanted(plan: Plan, built: images.Built) -> manifests.Wanted:
    first = plan.subnets[0]
    return manifests.Wanted(
        stack=plan.stack_id,
        image=built.reference,
        underlay=plan.underlay,
        pins=manifests.PINS,  # a node's own: its machine has nobody else on it
        mode=plan.mode,
        flow_entries=plan.flow_entries,
        vpc=first.vpc,
        subnet=first.name,
        host_vpc=next((vpc.name for vpc in plan.vpcs if vpc.host_reachable), ""),
        listed=(
            Listed(address=plan.control.address, port=API_PORT, protocol="tcp"),
            Listed(address=plan.control.address, port=DNS_PORT, protocol="udp"),
            Listed(address=plan.control.address, port=DNS_PORT, protocol="tcp"),
        ),
    )


def _port(plan: Plan, host: str, vpc: VpcPlan, subnet: Subnet, after: list[Resource]) -> HostPort:
    prefixes = (vpc.cidr, SERVICES)
    props = HostPortProps(stack=plan.stack_id, host=host, vpc=vpc.name, subnet=subnet.name, prefixes=prefixes)
    return HostPort(f"port-{host}", props, ResourceOptions(depends_on=after))


def _image(plan: Plan, node: HostPlan, built: images.Built, name: str, after: list[Resource]) -> NodeImage:
    props = NodeImageProps(stack=plan.stack_id, host=node.name, reference=built.reference, archive=str(built.archive))
    return NodeImage(f"image-{name}-{node.name}", props, ResourceOptions(depends_on=after))
