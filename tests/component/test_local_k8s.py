"""The resource graph of target `local-k8s`: what exists, in which order, and what is handed to whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra import images, plan, program, settings
from infra.targets import local_k8s
from infra.targets.local_k8s import LocalKubernetes
from tests.component.graph import Graph, register

HOSTS = ("control-1", "host-1", "host-2")


IMAGE = images.Built(reference="mizar.local/mizar@sha256:abc", archive=Path("/cache/mizar-abc.tar"))
COREDNS = images.Built(reference="mizar.local/coredns@sha256:def", archive=Path("/cache/coredns-def.tar"))
VPCS = [
    {"name": "cluster", "cidr": "10.244.0.0/16", "subnets": [{"name": "cluster-a", "cidr": "10.244.0.0/20"}]},
    {"name": "blue", "cidr": "10.10.0.0/16", "subnets": [{"name": "blue-a", "cidr": "10.10.0.0/20"}]},
]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking what is built would start a process."""
    monkeypatch.setattr(local_k8s, "build_id", lambda: "kubernetes-1 coredns-1 containerd-1")
    monkeypatch.setattr(local_k8s, "missing", lambda: [])
    monkeypatch.setattr(local_k8s, "coredns", lambda: Path("/nowhere/coredns"))
    monkeypatch.setattr(local_k8s.images, "missing", lambda root: [])
    monkeypatch.setattr(local_k8s.images, "build", lambda root, cache: IMAGE)
    monkeypatch.setattr(local_k8s.images, "coredns", lambda program, cache: COREDNS)


@pytest.fixture
def registered(built: None) -> tuple[Graph, dict[str, Any]]:
    wanted, _ = settings.examine({"target": "local-k8s", "hosts": 2, "vpcs": VPCS})
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


def test_every_kubelet_sends_pods_to_the_clusters_name_server(registered: tuple[Graph, dict[str, Any]]) -> None:
    graph, _ = registered
    assert {one.inputs["cluster"]["dns"] for one in graph.of("KubernetesNode")} == {"10.96.0.10"}


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


def test_the_image_is_on_every_node_before_what_runs_it(registered: tuple[Graph, dict[str, Any]]) -> None:
    graph, _ = registered
    loaded = {(one.inputs["host"], one.inputs["reference"]): one.urn for one in graph.of("NodeImage")}
    assert set(loaded) == {(host, IMAGE.reference) for host in HOSTS} | {("control-1", COREDNS.reference)}
    (agents,) = graph.of("DaemonSet")
    (api,) = graph.of("kubernetes")  # the provider, which everything on the cluster waits for
    assert set(loaded.values()) <= graph.before(api.urn)
    assert agents.inputs["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE.reference


def test_vpcs_come_when_every_agent_is_ready_and_are_kept_in_the_cluster(
    registered: tuple[Graph, dict[str, Any]],
) -> None:
    graph, _ = registered
    agents = {one.inputs["host"]: one.urn for one in graph.of("NodeAgent")}
    assert set(agents) == set(HOSTS)
    for one in (*graph.of("Vpc"), *graph.of("Subnet")):
        assert set(agents.values()) <= set(one.after)
        assert one.inputs["hosts"] == list(HOSTS)
        assert one.inputs["kubeconfig"] == "a kubeconfig"
    assert not graph.of("NetworkEndpoint"), "pods are the endpoints"


def test_hosts_get_a_port_in_the_vpc_that_they_are_to_reach(built: None) -> None:
    vpcs = [{**VPCS[0], "hostReachable": True}, VPCS[1]]
    wanted, _ = settings.examine({"target": "local-k8s", "hosts": 2, "vpcs": vpcs})
    planned = plan.make(wanted, "local-k8s-abc123")
    graph, _ = register(lambda: program.build(LocalKubernetes(Path("/nowhere"), wanted), planned, preview=False))
    ports = {one.inputs["host"]: one for one in graph.of("HostPort")}
    assert set(ports) == set(HOSTS)
    (gate,) = graph.of("PodHealth")
    for one in ports.values():
        assert (one.inputs["vpc"], one.inputs["subnet"]) == ("cluster", "cluster-a")
        assert one.inputs["prefixes"] == ["10.244.0.0/16", "10.96.0.0/16"]
        assert one.urn in graph.before(gate.urn)


def test_what_stands_in_a_network_goes_before_it_when_it_is_made_anew(built: None) -> None:
    """The engine takes those along whose inputs come from what it removes, and nobody else."""
    wanted, _ = settings.examine({"target": "local-k8s", "hosts": 1, "vpcs": [{**VPCS[0], "hostReachable": True}]})
    planned = plan.make(wanted, "local-k8s-abc123")
    graph, _ = register(lambda: program.build(LocalKubernetes(Path("/nowhere"), wanted), planned, preview=False))
    (vpc,), (subnet,) = graph.of("Vpc"), graph.of("Subnet")
    assert (subnet.inputs["vpc"], subnet.through["vpc"]) == ("cluster", (vpc.urn,))
    for port in graph.of("HostPort"):
        assert (port.inputs["subnet"], port.through["subnet"]) == ("cluster-a", (subnet.urn,))


def test_hosts_are_in_one_vpc_at_most(built: None) -> None:
    wanted, mistakes = settings.examine(
        {"target": "local-k8s", "vpcs": [{**vpc, "hostReachable": True} for vpc in VPCS]}
    )
    assert not mistakes.found
    (told,) = LocalKubernetes(Path("/nowhere"), wanted).problems(wanted)
    assert told == "vpcs[1].hostReachable: true: hosts are in one VPC only, cluster"


def test_the_gate_comes_last_and_asks_for_what_runs(registered: tuple[Graph, dict[str, Any]]) -> None:
    graph, outputs = registered
    (gate,) = graph.of("PodHealth")
    assert {one.urn for kind in ("NodeAgent", "Vpc", "Subnet") for one in graph.of(kind)} <= graph.before(gate.urn)
    assert gate.inputs["image"] == IMAGE.reference
    assert gate.inputs["nodes"] == list(HOSTS)
    assert gate.inputs["networks"] == [
        {"vpc": "cluster", "subnet": "cluster-a"},
        {"vpc": "blue", "subnet": "blue-a"},
    ]
    assert outputs["health"]["healthy"] is True


def test_pods_that_ask_for_nothing_get_the_first_vpc(registered: tuple[Graph, dict[str, Any]]) -> None:
    graph, _ = registered
    (told,) = (one for one in graph.of("ConfigMap") if "agent.json" in one.inputs["data"])
    cni = json.loads(told.inputs["data"]["agent.json"])["cni"]
    assert (cni["vpc"], cni["subnet"]) == ("cluster", "cluster-a")


def test_prefixes_leave_room_for_the_clusters_services(built: None) -> None:
    wanted, _ = settings.examine(
        {
            "target": "local-k8s",
            "underlay": "10.96.0.0/24",
            "vpcs": [{**VPCS[1], "cidr": "10.64.0.0/10", "subnets": []}],
        }
    )
    told = LocalKubernetes(Path("/nowhere"), wanted).problems(wanted)
    assert [one.partition(":")[0] for one in told if "services 10.96.0.0/16" in one] == ["underlay", "vpcs[0].cidr"]


def test_what_is_not_built_is_told_before_anything_is_made(built: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_k8s.images, "missing", lambda root: ["build image: the shim is missing"])
    wanted, _ = settings.examine({"target": "local-k8s", "vpcs": VPCS})
    assert LocalKubernetes(Path("/nowhere"), wanted).problems(wanted) == ["build image: the shim is missing"]


def test_pods_need_a_vpc(built: None) -> None:
    wanted, _ = settings.examine({"target": "local-k8s"})
    (told,) = LocalKubernetes(Path("/nowhere"), wanted).problems(wanted)
    assert told.startswith("vpcs: ")


def test_an_unknown_target_is_a_mistake() -> None:
    _, mistakes = settings.examine({"target": "moon"})
    assert mistakes.found == ["target: moon: must be one of local, local-k8s"]
