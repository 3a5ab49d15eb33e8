"""Dynamic resource: a Kubernetes node on an emulated host, that is its machine, containerd and kubelet.

When the resource goes, so does its Node object: a cluster without the machine must not wait for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from infra.providers.base import Made, Outputs, Provider
from node_agent.emulation.cluster import kubectl, node
from node_agent.emulation.cluster.configs import Cluster
from node_agent.model.errors import MizarError
from node_agent.model.places import StackPlaces


@dataclass(frozen=True, kw_only=True)
class KubernetesNodeProps:
    """`address`: on the underlay. `cluster`: fields of `emulation.cluster.configs.Cluster`. `files`: of `Credentials`
    for this node. `admin`: a kubeconfig that works from this host. `build`: what the programs were built from."""

    stack: str
    host: str
    address: str
    cluster: Mapping[str, Any]
    files: Any
    admin: Any
    build: str
    taints: tuple[str, ...] = ()


class KubernetesNodeProvider(Provider[KubernetesNodeProps]):
    props = KubernetesNodeProps
    identity = ("stack", "host")

    def observe(self, props: KubernetesNodeProps) -> Outputs | None:
        found = node.inspect(StackPlaces(props.stack), props.host)
        return None if found is None else {"problems": list(found.problems)}

    def sound(self, observed: Outputs) -> bool:
        return not observed["problems"]

    def ensure(self, props: KubernetesNodeProps, had: KubernetesNodeProps | None) -> Outputs:
        spec = node.Spec(
            host=props.host,
            address=props.address,
            cluster=Cluster(**props.cluster),
            files=props.files,
            taints=tuple(props.taints),
        )
        return {"problems": list(node.make(StackPlaces(props.stack), spec).problems)}

    def remove(self, props: KubernetesNodeProps) -> None:
        places = StackPlaces(props.stack)
        node.remove(places, props.host)
        with contextlib.suppress(MizarError):  # no control plane any more: no object either
            kubectl.run(places, props.host, props.admin, ("delete", "node", props.host, "--ignore-not-found"), 10.0)


class KubernetesNode(Made, module="local", name="KubernetesNode"):
    problems: pulumi.Output[list[str]]

    def __init__(self, name: str, props: KubernetesNodeProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(KubernetesNodeProvider(), name, props, ("problems",), opts)
