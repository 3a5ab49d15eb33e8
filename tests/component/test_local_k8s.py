"""The resource graph of target `local-k8s`: what exists, in which order, and what is handed to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra import plan, program, settings
from infra.targets import local_k8s
from infra.targets.local_k8s import LocalKubernetes
from tests.component.graph import Graph, register

HOSTS = ("control-1", "host-1", "host-2")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking what is built would start a process."""
    monkeypatch.setattr(local_k8s, "build_id", lambda: "kubernetes-1 coredns-1 containerd-1")
    monkeypatch.setattr(local_k8s, "missing", lambda: [])


@pytest.fixture
def registered(built: None) -> tuple[Graph, dict[str, Any]]:
    wanted, _ = settings.examine({"target": "local-k8s", "hosts": 2})
    planned = plan.make(wanted, "local-k8s-abc123")
    return register(lambda: program.build(LocalKubernetes(Path("/nowhere"), wanted), planned, preview=False))


def test_what_exists(registered: tuple[Graph, dict[str, Any]]) -> None:
    graph, _ = registered
    addresses = {one.name: one.inputs["address"] for one in graph.of("BareHost")}
    assert addresses == {f"cluster-{name}": f"198.18.0.{10 + number}" for number, name in enumerate(HOSTS)}
    assert {one.name for one in graph.of("KubernetesNode")} == {f"cluster-{name}-node" for name in HOSTS}
    for kind in ("StackRoot", "Fabric", "Authorities", "KubernetesControl", "Door"):
        assert len(graph.of(kind)) == 1, kind
    assert not graph.of("Store") and not graph.of("Host")


def test_a_node_comes_after_its_host_and_the_control_plane(registered: tuple[Graph, dict[str, Any]]) -> None:
    graph, _ = registered
    (control,) = graph.of("KubernetesControl")
    hosts = {one.inputs["name"]: one.urn for one in graph.of("BareHost")}
    (root,) = graph.of("StackRoot")
    assert hosts["control-1"] in control.after
    for one in graph.of("KubernetesNode"):
        assert {control.urn, hosts[one.inputs["host"]]} <= set(one.after)
    for kind in ("BareHost", "Authorities", "Credentials", "KubernetesControl", "KubernetesNode", "Door"):
        for one in graph.of(kind):
            assert root.urn in one.after, one.name


def test_each_is_handed_credentials_of_its_own(registered: tuple[Graph, dict[str, Any]]) -> None:
    graph, _ = registered
    made = {one.inputs["name"]: one.inputs for one in graph.of("Credentials")}
    assert {name: one["role"] for name, one in made.items()} == {
        "admin": "admin",
        "admin-inside": "admin",
        "control-plane": "control-plane",
        "control-1": "node",
        "host-1": "node",
        "host-2": "node",
    }
    assert made["admin"]["server"] == "https://127.0.0.1:7443"
    assert made["admin-inside"]["server"] == made["host-2"]["server"] == "https://198.18.0.10:443"
    assert made["host-2"]["address"] == "198.18.0.12"


def test_vpcs_are_refused_for_now(built: None) -> None:
    wanted, _ = settings.examine({"target": "local-k8s", "vpcs": [{"name": "blue", "cidr": "10.10.0.0/16"}]})
    (told,) = LocalKubernetes(Path("/nowhere"), wanted).problems(wanted)
    assert told.startswith("vpcs: ")


def test_an_unknown_target_is_a_mistake() -> None:
    _, mistakes = settings.examine({"target": "moon"})
    assert mistakes.found == ["target: moon: must be one of local, local-k8s"]
