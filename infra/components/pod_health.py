"""Component: the proof at the end of every `up` of a cluster, whoever made it, that pods' packets really flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Input, Resource, ResourceOptions

from infra.plan import SubnetPlan
from infra.providers.pod_health import PodHealth, PodHealthProps


@dataclass(frozen=True, kw_only=True)
class PodHealthArgs:
    """`kubeconfig`: text that leads to the cluster from where the program runs. `image`: Mizar's, by digest. `nodes`:
    names of all that take pods, the control plane's hosts too. `mtu`: pods', in bytes. `seconds`: patience. `preview`:
    nothing may be sent. `services`, `dns`, `api`: whether pods of every VPC have cluster IPs, names, and a way to the
    API server. `after`: everything that pods need, so that the gate comes last. `cluster`: with whose end all on it
    ends; None for a cluster that stays."""

    stack: str
    kubeconfig: Input[str]
    image: Input[str]
    nodes: tuple[str, ...]
    subnets: tuple[SubnetPlan, ...]
    mtu: int
    seconds: int
    preview: bool
    services: bool = True
    dns: bool = True
    api: bool = True
    after: Sequence[Resource] = ()
    cluster: Resource | None = None


class PodsHealth(ComponentResource):
    gate: PodHealth

    def __init__(self, name: str, args: PodHealthArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:cluster:PodsHealth", name, None, opts)
        self.gate = PodHealth(
            f"{name}-gate",
            PodHealthProps(
                stack=args.stack,
                kubeconfig=args.kubeconfig,
                image=args.image,
                nodes=args.nodes,
                networks=tuple({"vpc": one.vpc, "subnet": one.name} for one in args.subnets),
                seconds=args.seconds,
                mtu=args.mtu,
                services=args.services,
                dns=args.dns,
                api=args.api,
                preview=args.preview,
            ),
            ResourceOptions(parent=self, depends_on=list(args.after), deleted_with=args.cluster),
        )
        self.register_outputs({"healthy": self.gate.healthy})
