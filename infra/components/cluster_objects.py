"""Component: Mizar on a Kubernetes cluster, whoever made it. Definitions first, then all objects of `render.manifests`.

Objects are registered as they were rendered, by the package kubernetes, whose plugin applies them on the server's side,
says what somebody else changed, and waits until a daemonset or deployment is rolled out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pulumi_kubernetes
from pulumi import ComponentResource, CustomResource, Input, Resource, ResourceOptions

# The Python package and its plugin have one version.
VERSION = metadata.version("pulumi-kubernetes")
AWAITED = ("DaemonSet", "Deployment", "Service")
"""Made when pods run, or have them behind it: these wait for each other, and none may wait for another."""


@dataclass(frozen=True, kw_only=True)
class ClusterObjectsArgs:
    """`kubeconfig`: text that leads to the cluster from where the program runs. `definitions`, `objects`: manifests;
    what others need stands first. `after`: what must exist before any pod may start, its image above all. `cluster`:
    with whose end all on it ends, so that nothing is removed one by one before; None for a cluster that stays."""

    kubeconfig: Input[str]
    definitions: Sequence[dict[str, Any]]
    objects: Sequence[dict[str, Any]]
    after: Sequence[Resource] = ()
    cluster: Resource | None = None


class ClusterObjects(ComponentResource):
    """`provider`: for whatever else is put onto this cluster. `all`: every object; what depends on them finds Mizar
    serving."""

    provider: pulumi_kubernetes.Provider
    all: list[Resource]

    def __init__(self, name: str, args: ClusterObjectsArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:cluster:ClusterObjects", name, None, opts)
        self._name, self._cluster = name, args.cluster
        self.provider = pulumi_kubernetes.Provider(
            f"{name}-api",
            kubeconfig=args.kubeconfig,
            enable_server_side_apply=True,
            # Else another configuration would be a delete and a create, with pods that find none in between.
            enable_config_map_mutable=True,
            opts=ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        definitions = [self._object(each, ()) for each in args.definitions]
        ground: list[Resource] = []
        awaited: list[Resource] = []
        for each in args.objects:
            if each["kind"] in AWAITED:
                # At once: agents get ready with the controller's help, and it needs no agent.
                awaited.append(self._object(each, [*definitions, *ground]))
            else:
                ground.append(self._object(each, ground[:1]))  # the namespace
        self.all = [*definitions, *ground, *awaited]
        self.register_outputs({})

    def _object(self, manifest: dict[str, Any], after: Sequence[Resource]) -> Resource:
        version, kind = manifest["apiVersion"], manifest["kind"]
        token = f"kubernetes:{version if '/' in version else f'core/{version}'}:{kind}"
        name = f"{self._name}-{kind}-{manifest['metadata']['name']}".lower()
        opts = ResourceOptions(
            parent=self,
            provider=self.provider,
            version=VERSION,
            depends_on=list(after),
            deleted_with=self._cluster,
        )
        return CustomResource(token, name, dict(manifest), opts)
