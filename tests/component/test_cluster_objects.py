"""Mizar's objects on a cluster as resources: what they are called, what comes before what."""

from __future__ import annotations

from typing import Any

import pytest

from infra.components.cluster_objects import ClusterObjects, ClusterObjectsArgs
from infra.render.crds import crds
from infra.render.manifests import Wanted, manifests
from tests.component.graph import Graph, register

WANTED = Wanted(stack="s", image="mizar.local/mizar@sha256:" + "0" * 64, underlay="198.18.0.0/24")


@pytest.fixture(scope="module")
def graph() -> Graph:
    def build() -> dict[str, Any]:
        args = ClusterObjectsArgs(kubeconfig="a kubeconfig", definitions=crds(), objects=manifests(WANTED))
        ClusterObjects("mizar", args)
        return {}

    return register(build)[0]


def test_every_manifest_is_one_resource_as_it_was_rendered(graph: Graph) -> None:
    found = {one.name: one for one in graph.heard.values() if one.type.startswith("kubernetes:")}
    assert len(found) == len(crds()) + len(manifests(WANTED))
    agents = found["mizar-daemonset-mizar-agent"]
    assert agents.type == "kubernetes:apps/v1:DaemonSet"
    [rendered] = [each for each in manifests(WANTED) if each["kind"] == "DaemonSet"]
    assert agents.inputs == rendered
    assert found["mizar-namespace-mizar-system"].type == "kubernetes:core/v1:Namespace"


def test_pods_come_last_and_need_not_wait_for_each_other(graph: Graph) -> None:
    [agents], [controller] = graph.of("DaemonSet"), graph.of("Deployment")
    others = {one.urn for one in graph.heard.values() if one.type.startswith("kubernetes:")}
    others -= {agents.urn, controller.urn}
    assert graph.before(agents.urn) == graph.before(controller.urn) == others


def test_what_lies_in_the_namespace_comes_after_it(graph: Graph) -> None:
    [namespace] = graph.of("Namespace")
    for kind in ("ServiceAccount", "ConfigMap"):
        assert graph.of(kind) and all(namespace.urn in one.after for one in graph.of(kind))
