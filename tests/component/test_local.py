"""The resource graph of target `local`: names, parents, order of making and so of removal, outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra import plan, program, settings
from infra.plan import Plan
from infra.providers import daemons
from infra.targets.local import Local
from infra.wanted import Settings
from tests.component.graph import Graph, Registered, register

CONFIG: dict[str, Any] = {
    "hosts": 3,
    "vpcs": [
        {
            "name": "blue",
            "cidr": "10.10.0.0/16",
            "subnets": [{"name": "blue-a", "cidr": "10.10.1.0/24"}, {"name": "blue-b", "cidr": "10.10.2.0/24"}],
            "services": [
                {
                    "name": "blue-web",
                    "vip": "10.10.0.10",
                    "ports": [{"port": 80, "targetPort": 8080}, {"protocol": "udp", "port": 53, "targetPort": 5353}],
                    "backends": {"subnet": "blue-b"},
                }
            ],
        }
    ],
}


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """A project with something compiled in it."""
    folder = tmp_path / "bpf" / "build"
    folder.mkdir(parents=True)
    for name in ("transit", "endpoint"):
        (folder / f"{name}.bpf.o").write_bytes(name.encode())
    return tmp_path


def intent(**changes: Any) -> tuple[Settings, Plan]:
    wanted = settings.examine({**CONFIG, **changes})[0]
    return wanted, plan.make(wanted, "local-abc123")


def graph_of(root: Path, preview: bool = False, **changes: Any) -> tuple[Graph, dict[str, Any]]:
    wanted, planned = intent(**changes)
    return register(lambda: program.build(Local(root, wanted), planned, preview=preview))


def test_what_exists(objects: Path) -> None:
    graph, _ = graph_of(objects)
    kinds = [
        "StackRoot",
        "Fabric",
        "Store",
        "Controller",
        "Programs",
        "Host",
        "Agent",
        "Vpc",
        "Subnet",
        "Endpoint",
        "Service",
    ]
    assert {kind: len(graph.of(kind)) for kind in [*kinds, "HealthGate"]} == {
        **dict.fromkeys(kinds, 1),
        "Host": 3,
        "Agent": 3,
        "Subnet": 2,
        "Endpoint": 6,
        "Service": 1,
        "HealthGate": 1,
    }


def test_children_are_parented_and_named_after_their_component(objects: Path) -> None:
    graph, _ = graph_of(objects)
    custom = [one for one in graph.heard.values() if one.type.startswith("pulumi-python:dynamic/local:")]
    assert len(custom) == 22
    for one in custom:
        parent = graph.heard[one.parent]
        assert parent.type.startswith("mizar:local:"), one
        assert one.name.startswith(f"{parent.name}-"), one


def test_everything_is_removed_before_what_it_stands_on(objects: Path) -> None:
    graph, _ = graph_of(objects)

    def needs(later: str, earlier: str) -> bool:
        return all({two.urn for two in graph.of(earlier)} <= graph.before(one.urn) for one in graph.of(later))

    assert needs("HealthGate", "Endpoint")
    assert needs("HealthGate", "Service")
    assert needs("Service", "Vpc")
    assert needs("Endpoint", "Vpc")
    assert needs("Endpoint", "Agent")
    assert needs("Subnet", "Vpc")
    assert needs("Vpc", "Agent")
    assert needs("Vpc", "Controller")
    assert needs("Agent", "Programs")
    assert needs("Host", "Fabric")
    assert needs("Host", "Store")


def test_a_gap_in_the_chain_leaves_the_ground_last(objects: Path) -> None:
    # A refresh that finds a resource gone takes its edges along: those to the ground must not go through another.
    graph, _ = graph_of(objects)
    ground = {one.urn for kind in ("StackRoot", "Store") for one in graph.of(kind)}
    root = graph.of("StackRoot")[0]
    above = [one for one in graph.heard.values() if one.type.startswith("pulumi-python:") and one.urn not in ground]
    assert {"Fabric", "Controller", "Host", "Agent", "Endpoint"} <= {one.kind for one in above}
    for one in above:
        assert root.urn in one.after, one
        if one.kind not in ("Fabric", "Controller"):
            assert ground <= set(one.after), one


def test_each_agent_waits_for_its_own_host(objects: Path) -> None:
    graph, _ = graph_of(objects)
    hosts = {one.inputs["name"]: one for one in graph.of("Host")}
    agents = graph.of("Agent")
    assert len(agents) == len(hosts) == 3
    for agent in agents:
        assert hosts[agent.inputs["host"]].urn in agent.after


def test_outputs_have_the_promised_shape(objects: Path) -> None:
    _, outputs = graph_of(objects)
    assert list(outputs) == ["stackId", "hosts", "vpcs", "subnets", "endpoints", "services", "health"]
    assert outputs["hosts"][0] == {
        "name": "host-1",
        "address": "198.18.0.11",
        "netns": "mizar-local-abc123-host-1",
        "mode": "generic",
    }
    assert outputs["vpcs"] == [
        {"name": "blue", "vni": 7, "cidr": "10.10.0.0/16", "set": ["host-1", "host-2", "host-3"]}
    ]
    assert outputs["subnets"][1] == {
        "name": "blue-b",
        "vpc": "blue",
        "cidr": "10.10.2.0/24",
        "gateway": "10.10.2.1",
        "bouncers": ["host-1", "host-2"],
    }
    assert outputs["endpoints"][5] == {
        "name": "blue-b-3",
        "vpc": "blue",
        "subnet": "blue-b",
        "address": "10.10.2.4",
        "host": "host-3",
        "netns": "mizar-local-abc123-blue-b-3",
    }
    assert outputs["services"] == [
        {
            "name": "blue-web",
            "vpc": "blue",
            "vip": "10.10.0.10",
            "affinity": "none",
            "ports": [
                {"name": "", "protocol": "tcp", "port": 80, "targetPort": 8080},
                {"name": "", "protocol": "udp", "port": 53, "targetPort": 5353},
            ],
            "backends": ["blue-b-1", "blue-b-2", "blue-b-3"],
        }
    ]
    assert outputs["health"] == {"healthy": True, "pairs": 15, "probes": 57, "failures": []}


def test_providers_are_referred_to_by_name_and_not_secret(objects: Path) -> None:
    # By value they would carry their code into the state, and a fix would never reach a destroy.
    graph, _ = graph_of(objects)
    ours = [one for one in graph.heard.values() if one.type.startswith("pulumi-python:")]
    assert len(ours) > 10
    for one in ours:
        assert isinstance(one.inputs["__provider"], str)
        assert len(one.inputs["__provider"]) < 120, one


def test_a_service_follows_its_backends_and_the_gate_knows_it(objects: Path) -> None:
    graph, _ = graph_of(objects)
    [service] = graph.of("Service")
    behind = {one.urn for one in graph.of("Endpoint") if one.inputs["subnet"] == "blue-b"}
    assert {urn for urn in service.after if graph.heard[urn].kind == "Endpoint"} == behind
    assert service.inputs["backends"] == [{"address": f"10.10.2.{n}", "state": "ready"} for n in (2, 3, 4)]
    assert service.inputs["ports"][1] == {"protocol": "udp", "port": 53, "target_port": 5353, "name": ""}
    [told] = gate(graph).inputs["services"]
    assert (told["vip"], told["backends"]) == ("10.10.0.10", ["blue-b-1", "blue-b-2", "blue-b-3"])


def test_without_services_nothing_is_there_for_them(objects: Path) -> None:
    vpcs = [{**CONFIG["vpcs"][0], "services": []}]
    graph, outputs = graph_of(objects, vpcs=vpcs)
    assert not [one for one in graph.heard.values() if one.type == "mizar:local:Services"]
    assert outputs["services"] == []


def test_vpcs_and_subnets_know_which_hosts_stay(objects: Path) -> None:
    graph, _ = graph_of(objects, hosts=2)
    told = [one.inputs["hosts"] for kind in ("Vpc", "Subnet") for one in graph.of(kind)]
    assert told == [["host-1", "host-2"]] * 3


def gate(graph: Graph) -> Registered:
    return graph.of("HealthGate")[0]


def test_the_gate_knows_a_preview(objects: Path) -> None:
    # Two underscores: displays leave it out.
    assert gate(graph_of(objects)[0]).inputs["__preview"] is False
    assert gate(graph_of(objects, preview=True)[0]).inputs["__preview"] is True


def test_an_edited_program_reaches_every_agent(objects: Path) -> None:
    def configs() -> set[str]:
        return {one.inputs["config"] for one in graph_of(objects)[0].of("Agent")}

    before = configs()
    assert configs() == before
    (objects / "bpf" / "build" / "transit.bpf.o").write_bytes(b"edited")
    assert len(configs() - before) == 3


def test_edited_code_reaches_every_agent_and_the_controller(objects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for digest in ("one", "other"):
        monkeypatch.setattr(daemons, "sources", lambda digest=digest: digest)
        graph = graph_of(objects)[0]
        assert [one.inputs["code"] for one in (*graph.of("Agent"), *graph.of("Controller"))] == [digest] * 4


def test_missing_programs_are_a_mistake(tmp_path: Path) -> None:
    wanted, _ = intent()
    assert any("bpfObjects" in problem for problem in Local(tmp_path, wanted).problems(wanted))
