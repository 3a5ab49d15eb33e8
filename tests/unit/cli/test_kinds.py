"""What `mizar` does otherwise on a cluster, as far as no cluster is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from node_agent.cli import flows, kinds, logs, metrics, names, on_cluster, rebalance
from node_agent.cli.on_cluster import OnCluster
from node_agent.cli.on_computer import OnComputer
from node_agent.cli.running import Running
from node_agent.model import config, places
from node_agent.model.config import AgentConfig, ControllerConfig
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkEndpoint, NetworkEndpointSpec
from node_agent.model.places import StackPlaces

NOBODYS = AgentConfig(
    host="host-1", stack_id="s", address="198.18.0.11", uplink="uplink0", underlay_prefixes=(), store="kubernetes:",
    pins="/sys/fs/bpf", socket="/run/mizar/agent.sock", bpf_objects="/opt/mizar/bpf",
)  # fmt: skip


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackPlaces:
    """A stack's folder with nothing in it, below what stands for /run/mizar."""
    monkeypatch.setattr(places, "RUN", tmp_path)
    made = StackPlaces("one-123456")
    made.root.mkdir()
    return made


@pytest.fixture
def cluster(stack: StackPlaces) -> StackPlaces:
    stack.kubeconfig.touch()
    return stack


def pod(name: str, what: str = "mizar-agent", *, node: str = "host-1", state: str = "running", **meta: Any) -> Any:
    return {
        "metadata": {"name": name, "namespace": "n", "labels": {"app.kubernetes.io/name": what}, **meta},
        "spec": {"nodeName": node, "containers": [{"name": "one"}, {"name": "two"}]},
        "status": {
            "containerStatuses": [{"state": {state: {}}}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def chosen(*pods: Any) -> Mapping[str, str]:
    return {name: found["metadata"]["name"] for name, found in on_cluster.own(pods).items()}


def endpoint(workload: str) -> NetworkEndpoint:
    spec = NetworkEndpointSpec(vpc="v", subnet="s", address="10.0.0.2", host="host-1", container_id="c")
    return NetworkEndpoint(name="1000-10.0.0.2", spec=dataclasses.replace(spec, workload=workload))


def test_a_stack_is_what_keeps_its_objects(stack: StackPlaces) -> None:
    assert isinstance(kinds.of(stack), OnComputer)
    stack.kubeconfig.touch()
    assert isinstance(kinds.of(stack), OnCluster)
    assert kinds.of(stack).store() == f"kubernetes:{stack.kubeconfig}"
    stack.store.touch()
    assert kinds.of(stack).store() == f"sqlite:{stack.store}"


def test_compiled_programs_are_the_clones_own_where_agents_have_theirs_in_an_image(
    stack: StackPlaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Path(flows.__file__).parents[2] / "bpf/build" == on_cluster.OBJECTS
    monkeypatch.setattr(on_cluster, "OBJECTS", tmp_path)
    stack.host("host-1").root.mkdir(parents=True)
    stack.host("host-1").config.write_text(config.dump(NOBODYS))
    assert flows.configured(stack, "host-1").bpf_objects == "/opt/mizar/bpf"
    stack.kubeconfig.touch()
    assert flows.configured(stack, "host-1").bpf_objects == str(tmp_path)
    monkeypatch.setattr(on_cluster, "OBJECTS", tmp_path / "not")
    with pytest.raises(Permanent, match="run make bpf"):
        flows.configured(stack, "host-1")


def test_mizars_pods_go_by_their_hosts() -> None:
    found = chosen(pod("a"), pod("b", node="host-2"), pod("c", "mizar-controller"), pod("d", "another", node="host-3"))
    assert found == {"host-1": "a", "host-2": "b", "controller": "c"}


def test_of_two_pods_of_a_host_the_living_one_counts_then_the_newer_one() -> None:
    old, new = {"creationTimestamp": "2026-01-01T00:00:00Z"}, {"creationTimestamp": "2026-01-01T00:00:01Z"}
    for pods in ([pod("a", **old), pod("b", **new)], [pod("b", **new), pod("a", **old)]):
        assert chosen(*pods) == {"host-1": "b"}
    assert chosen(pod("a", **old), pod("b", state="waiting", **new)) == {"host-1": "a"}
    assert chosen(pod("a", **old), pod("b", deletionTimestamp="soon", **new)) == {"host-1": "a"}
    assert chosen(pod("a", state="terminated")) == {"host-1": "a"}, "its log tells why"


def test_what_runs_is_a_pod_and_no_process_of_this_computer(
    cluster: StackPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = pod("c", node="host-2", state="waiting")
    told = on_cluster.own([pod("a"), pod("b", "mizar-controller"), dead])
    monkeypatch.setattr(OnCluster, "_own", lambda self: told)
    assert kinds.of(cluster).running() == {"host-1": Running(pod="a"), "controller": Running(pod="b")}
    assert kinds.of(cluster).logs().keys() == {"host-1", "host-2", "controller"}


def test_a_pods_container_is_the_one_that_kubectl_means() -> None:
    assert on_cluster.container_of(pod("a")) == "one"
    named = {"kubectl.kubernetes.io/default-container": "two"}
    assert on_cluster.container_of(pod("a", annotations=named)) == "two"


def test_a_hosts_own_endpoint_is_its_network_namespace(cluster: StackPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(on_cluster.execute, "replace", lambda path, argv: asked.append(path) or 7)
    assert kinds.of(cluster).execute(endpoint("host host-1"), ["true"]) == 7
    assert asked == [cluster.netns_path("host-1")]
    with pytest.raises(Permanent, match="read log of host host-1: it is no pod"):
        kinds.of(cluster).workload_log(endpoint("host host-1"))


def test_the_controllers_configuration_and_figures_come_from_its_kind(
    cluster: StackPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = config.dump(ControllerConfig(stack_id="s", store="kubernetes:", cluster=True))
    monkeypatch.setattr(OnCluster, "controller_config", lambda self: text)
    monkeypatch.setattr(OnCluster, "controller_figures", lambda self: "figure 1\n")
    assert rebalance._config(kinds.of(cluster)).cluster is True
    assert metrics.fetch(cluster, "controller") == "figure 1\n"
    monkeypatch.setattr(OnCluster, "controller_config", lambda self: "")
    with pytest.raises(Permanent, match="read configuration of the controller: "):
        rebalance._config(kinds.of(cluster))


def test_a_log_is_an_agents_the_controllers_or_a_workloads(stack: StackPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "endpoints", lambda places: [endpoint("web")])
    written = {
        "host-1": stack.host("host-1").log,
        "controller": stack.controller / "controller.log",
        "web": stack.workload("web") / "workload.log",
    }
    for whose, file in written.items():
        file.parent.mkdir(parents=True)
        file.write_text(f"of {whose}\nno end")
        assert list(logs.lines(stack, whose, follow=False)) == [f"of {whose}", "no end"]
    stack.host("host-2").root.mkdir()  # has no log yet
    there = r"read log of x: there are controller, host-1; find endpoint x: .* there are web"
    with pytest.raises(Permanent, match=there):
        logs.lines(stack, "x", follow=False)
    written["web"].unlink()
    with pytest.raises(Permanent, match="read log of web: there is no "):
        logs.lines(stack, "web", follow=False)
