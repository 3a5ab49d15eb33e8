"""A node that goes: its object goes too, or the removal is tried again."""

from __future__ import annotations

from typing import Any

import pytest

from infra.providers import kubernetes_node
from infra.providers.kubernetes_node import KubernetesNodeProvider
from node_agent.model.errors import Temporary

NODE = {
    "stack": "s",
    "host": "host-1",
    "address": "198.18.0.11",
    "cluster": {"address": "198.18.0.10"},
    "files": {},
    "admin": "a kubeconfig",
    "build": "1",
}


class Kubectl:
    """`fails`: how often it does, from now on."""

    def __init__(self) -> None:
        self.fails, self.calls = 0, list[tuple[Any, ...]]()

    def run(self, _places: object, *arguments: Any) -> str:
        self.calls.append(arguments)
        if self.fails >= len(self.calls):
            raise Temporary("run kubectl: the server does not answer")
        return ""


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    made = Kubectl()
    monkeypatch.setattr(kubernetes_node.kubectl, "run", made.run)
    monkeypatch.setattr(kubernetes_node.node, "remove", lambda *_: None)
    monkeypatch.setattr(kubernetes_node, "FORGET_SECONDS", 0.2)
    return made


def plane(monkeypatch: pytest.MonkeyPatch, found: object) -> None:
    monkeypatch.setattr(kubernetes_node.control_plane, "inspect", lambda *_: found)


def test_the_cluster_forgets_it_asked_where_its_control_plane_is(
    kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane(monkeypatch, "there")
    kubectl.fails = 1  # an API server that starts again
    KubernetesNodeProvider().delete("s/host-1", NODE)
    host, kubeconfig, order, _ = kubectl.calls[-1]
    assert (len(kubectl.calls), host, kubeconfig, order[:3]) == (
        2,
        "control-1",
        "a kubeconfig",
        ("delete", "node", "host-1"),
    )


def test_a_cluster_that_does_not_answer_is_asked_again_by_the_next_run(
    kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane(monkeypatch, "there")
    kubectl.fails = 1000
    with pytest.raises(RuntimeError, match="remove node host-1 from its cluster: run kubectl: the server does not"):
        KubernetesNodeProvider().delete("s/host-1", NODE)


def test_where_the_cluster_is_gone_there_is_nothing_to_forget(
    kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane(monkeypatch, None)
    kubectl.fails = 1000
    KubernetesNodeProvider().delete("s/host-1", NODE)
    assert len(kubectl.calls) == 1
