"""Component: Kubernetes on emulated hosts. Hosts, credentials, a control plane, nodes, and the way in for kubectl."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions

from infra.plan import HostPlan
from infra.providers.bare_host import BareHost, HostProps
from infra.providers.credentials import Authorities, AuthoritiesProps, Credentials, CredentialsProps
from infra.providers.door import Door, DoorProps
from infra.providers.kubernetes_control import KubernetesControl, KubernetesControlProps
from infra.providers.kubernetes_node import KubernetesNode, KubernetesNodeProps
from infra.render.dns import service_address

CONTROL_TAINTS = ("node-role.kubernetes.io/control-plane:NoSchedule",)
API_PORT = 443  # of the service `kubernetes` too, whose address is the control plane's own


@dataclass(frozen=True, kw_only=True)
class LocalClusterArgs:
    """`services`, `pods`: prefixes; `native`: XDP is to run natively on uplinks; `build`: what the programs were built
    from; `after`: what must exist first."""

    stack: str
    control: HostPlan
    workers: tuple[HostPlan, ...]
    services: str
    pods: str
    mtu: int
    native: bool
    build: str
    after: Sequence[Resource] = ()


class LocalCluster(ComponentResource):
    """`nodes`: host name -> node. Two kubeconfigs, both secret: `kubeconfig` for this computer, `host_kubeconfig` for
    programs within the network."""

    control: KubernetesControl
    nodes: dict[str, KubernetesNode]
    kubeconfig: Output[str]
    host_kubeconfig: Output[str]

    def __init__(self, name: str, args: LocalClusterArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:local:LocalCluster", name, None, opts)
        self._name, self._args = name, args
        self._inside = f"https://{args.control.address}:{API_PORT}"
        self._cluster = {
            "address": args.control.address,
            "port": API_PORT,
            "services": args.services,
            "pods": args.pods,
            "dns": service_address(args.services),
        }
        hosts = {plan.name: self._host(plan) for plan in (args.control, *args.workers)}
        roots = Authorities(f"{name}-authorities", AuthoritiesProps(stack=args.stack, name=name), self._after())
        on_control = self._after(hosts[args.control.name])
        door = Door(
            f"{name}-door",
            DoorProps(stack=args.stack, host=args.control.name, address=args.control.address, to=API_PORT),
            on_control,
        )
        outside = door.port.apply(lambda port: f"https://127.0.0.1:{int(port)}")
        self.kubeconfig = self._admin("admin", roots, outside)
        self.host_kubeconfig = self._admin("admin-inside", roots, self._inside)
        self.control = self._control(roots, on_control)
        self.nodes = {
            plan.name: self._node(plan, roots, self._after(hosts[plan.name], self.control))
            for plan in (args.control, *args.workers)
        }
        self.register_outputs({"server": self._inside})

    def _after(self, *first: Resource) -> ResourceOptions:
        return ResourceOptions(parent=self, depends_on=[*self._args.after, *first])

    def _host(self, plan: HostPlan) -> BareHost:
        args = self._args
        props = HostProps(
            stack=args.stack,
            name=plan.name,
            address=plan.address,
            prefix=plan.prefix,
            mtu=args.mtu,
            native=args.native,
        )
        return BareHost(f"{self._name}-{plan.name}", props, self._after())

    def _control(self, roots: Authorities, opts: ResourceOptions) -> KubernetesControl:
        args = self._args
        files = self._signed(
            "control-plane",
            roots,
            role="control-plane",
            host=args.control.name,
            address=args.control.address,
            details={"port": API_PORT, "services": args.services, "domain": "cluster.local"},
        )
        props = KubernetesControlProps(
            stack=args.stack, host=args.control.name, cluster=self._cluster, files=files, build=args.build
        )
        return KubernetesControl(f"{self._name}-control-plane", props, opts)

    def _node(self, plan: HostPlan, roots: Authorities, opts: ResourceOptions) -> KubernetesNode:
        args = self._args
        props = KubernetesNodeProps(
            stack=args.stack,
            host=plan.name,
            address=plan.address,
            cluster=self._cluster,
            files=self._signed(
                plan.name, roots, role="node", host=plan.name, address=plan.address, server=self._inside
            ),
            admin=self.host_kubeconfig,
            build=args.build,
            control=args.control.name,
            # A node as well: agents and the cluster's own services run there, nobody else's pods.
            taints=CONTROL_TAINTS if plan is args.control else (),
        )
        return KubernetesNode(f"{self._name}-{plan.name}-node", props, opts)

    def _admin(self, name: str, roots: Authorities, server: Input[str]) -> Output[str]:
        """A kubeconfig that may do everything."""
        return self._signed(name, roots, role="admin", server=server, details={"cluster": self._args.stack})[
            "kubeconfig"
        ]

    def _signed(self, name: str, roots: Authorities, **props: object) -> Output[dict[str, str]]:
        """What the authorities have signed for this one."""
        wanted = CredentialsProps(stack=self._args.stack, name=name, authorities=roots.files, role="")
        wanted = dataclasses.replace(wanted, **props)  # type: ignore[arg-type]
        return Credentials(f"{self._name}-{name}-credentials", wanted, self._after(roots)).files
