"""Dynamic resource: the control plane of a Kubernetes cluster on one emulated host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from infra.providers.base import Made, Outputs, Provider
from node_agent.emulation.cluster import control_plane
from node_agent.emulation.cluster.configs import Cluster
from node_agent.model.places import StackPlaces


@dataclass(frozen=True, kw_only=True)
class KubernetesControlProps:
    """`cluster`: fields of `emulation.cluster.configs.Cluster`. `files`: of `Credentials` for a control plane. `build`:
    what the programs were built from; another one is a restart."""

    stack: str
    host: str
    cluster: Mapping[str, Any]
    files: Any
    build: str


class KubernetesControlProvider(Provider[KubernetesControlProps]):
    props = KubernetesControlProps
    identity = ("stack", "host")

    def observe(self, props: KubernetesControlProps) -> Outputs | None:
        found = control_plane.inspect(StackPlaces(props.stack), props.host, Cluster(**props.cluster))
        return None if found is None else {"problems": list(found.problems)}

    def sound(self, observed: Outputs) -> bool:
        return not observed["problems"]

    def ensure(self, props: KubernetesControlProps, had: KubernetesControlProps | None) -> Outputs:
        spec = control_plane.Spec(host=props.host, cluster=Cluster(**props.cluster), files=props.files)
        return {"problems": list(control_plane.make(StackPlaces(props.stack), spec).problems)}

    def remove(self, props: KubernetesControlProps) -> None:
        control_plane.remove(StackPlaces(props.stack), props.host)


class KubernetesControl(Made, module="local", name="KubernetesControl"):
    problems: pulumi.Output[list[str]]

    def __init__(self, name: str, props: KubernetesControlProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(KubernetesControlProvider(), name, props, ("problems",), opts)
