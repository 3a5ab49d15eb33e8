"""Dynamic resource: a Kubernetes node on an emulated host, that is its machine, containerd and kubelet.

When the resource goes, so does its Node object: a cluster without the machine must not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from infra.plan import CONTROL
from infra.providers.base import Made, Outputs, Provider, wait
from node_agent.emulation.cluster import control_plane, kubectl, node
from node_agent.emulation.cluster.configs import Cluster
from node_agent.model.errors import MizarError
from node_agent.model.places import StackPlaces

KUBECTL_SECONDS = 10.0
FORGET_SECONDS = 20.0  # patience with an API server that starts again


@dataclass(frozen=True, kw_only=True)
class KubernetesNodeProps:
    """`address`: on the underlay. `cluster`: fields of `emulation.cluster.configs.Cluster`. `files`: of `Credentials`
    for this node. `admin`: a kubeconfig that works from the underlay. `build`: what the programs were built from.
    `control`: host of the control plane."""

    stack: str
    host: str
    address: str
    cluster: Mapping[str, Any]
    files: Any
    admin: Any
    build: str
    taints: tuple[str, ...] = ()
    control: str = CONTROL


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
        places, complaint = StackPlaces(props.stack), [""]
        node.remove(places, props.host)

        def forgotten() -> bool | None:
            try:
                # Run over there: this host may be gone, and rollouts would wait for its agent for ever.
                order = ("delete", "node", props.host, "--ignore-not-found")
                kubectl.run(places, props.control, props.admin, order, KUBECTL_SECONDS)
            except MizarError as error:
                complaint[0] = str(error)
                # No control plane any more: no object either.
                gone = control_plane.inspect(places, props.control, Cluster(**props.cluster)) is None
                return True if gone else None
            return True

        wait(FORGET_SECONDS, forgotten, lambda: f"remove node {props.host} from its cluster: {complaint[0]}")


class KubernetesNode(Made, module="local", name="KubernetesNode"):
    problems: pulumi.Output[list[str]]

    def __init__(self, name: str, props: KubernetesNodeProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(KubernetesNodeProvider(), name, props, ("problems",), opts)
