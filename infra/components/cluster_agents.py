"""Component: Mizar serving on a Kubernetes cluster, whoever made it: its objects, and an agent ready on each node.

What a target with a cluster registers between its machines and the VPCs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pulumi import ComponentResource, Input, Resource, ResourceOptions

from infra.components.cluster_objects import ClusterObjects, ClusterObjectsArgs
from infra.providers.node_agent import NodeAgent, NodeAgentProps
from infra.render.crds import crds
from infra.render.manifests import Wanted, manifests


@dataclass(frozen=True, kw_only=True)
class ClusterAgentsArgs:
    """`kubeconfig`: text that leads to the cluster from where the program runs. `wanted`: what is rendered. `hosts`:
    names of all nodes. `images`: what exists once the image can be had on the nodes. `after`: what everything stands
    on. `cluster` as of `ClusterObjectsArgs`. `more`: manifests of what else the cluster needs from us."""

    stack: str
    kubeconfig: Input[str]
    wanted: Wanted
    hosts: tuple[str, ...]
    images: Sequence[Resource]
    after: Sequence[Resource] = ()
    cluster: Resource | None = None
    more: Sequence[dict[str, Any]] = ()


class ClusterAgents(ComponentResource):
    """`objects`: for whatever else is put onto this cluster. `agents`: host name -> agent; a made one is ready."""

    objects: ClusterObjects
    agents: dict[str, NodeAgent]

    def __init__(self, name: str, args: ClusterAgentsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:cluster:ClusterAgents", name, None, opts)
        self.objects = ClusterObjects(
            f"{name}-objects",
            ClusterObjectsArgs(
                kubeconfig=args.kubeconfig,
                definitions=crds(),
                objects=[*manifests(args.wanted), *args.more],
                after=[*args.after, *args.images],
                cluster=args.cluster,
            ),
            ResourceOptions(parent=self),
        )
        self.agents = {
            host: NodeAgent(
                f"{name}-{host}",
                NodeAgentProps(stack=args.stack, host=host, kubeconfig=args.kubeconfig),
                ResourceOptions(parent=self, depends_on=[*args.after, *args.images, *self.objects.all]),
            )
            for host in args.hosts
        }
        self.register_outputs({"image": args.wanted.image})
