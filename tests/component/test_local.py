"""The resource graph of target `local`: names, parents, order of making and so of removal, outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra import plan, program, settings
from infra.plan import Plan
from infra.settings import Settings
from infra.targets.local import Local
from tests.component.graph import Graph, Registered, register

CONFIG = {
    "hosts": 3,
    "vpcs": [
        {
            "name": "blue",
            "cidr": "10.10.0.0/16",
            "subnets": [{"name": "blue-a", "cidr": "10.10.1.0/24"}, {"name": "blue-b", "cidr": "10.10.2.0/24"}],
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
    wanted = settings.parse({**CONFIG, **changes})
    return wanted, plan.make(wanted, "local-abc123")


def graph_of(root: Path, preview: bool = False, **changes: Any) -> tuple[Graph, dict[str, Any]]:
    wanted, planned = intent(**changes)
    return register(lambda: program.build(Local(root, wanted), planned, preview=preview))


def test_what_exists(objects: Path) -> None:
    graph, _ = graph_of(objects)
    kinds = ["StackRoot", "Fabric", "Store", "Controller", "Programs", "Host", "Agent", "Vpc", "Subnet", "Endpoint"]
    assert {kind: len(graph.of(kind)) for kind in [*kinds, "HealthGate"]} == {
        **dict.fromkeys(kinds, 1),
        "Host": 3,
        "Agent": 3,
        "Subnet": 2,
        "Endpoint": 6,
        "HealthGate": 1,
    }


def test_children_are_parented_and_named_after_their_component(objects: Path) -> None:
    graph, _ = graph_of(objects)
    custom = [one for one in graph.heard.values() if one.type.startswith("pulumi-python:dynamic/local:")]
    assert len(custom) == 21
    for one in custom:
        parent = graph.heard[one.parent]
        assert parent.type.startswith("mizar:local:"), one
        assert one.name.startswith(f"{parent.name}-"), one


def test_everything_is_removed_before_what_it_stands_on(objects: Path) -> None:
    graph, _ = graph_of(objects)

    def needs(later: str, earlier: str) -> bool:
        return all({two.urn for two in graph.of(earlier)} <= graph.before(one.urn) for one in graph.of(later))

    assert needs("HealthGate", "Endpoint")
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
    for one in graph.heard.values():
        if one.type.startswith("pulumi-python:") and one.urn not in ground:
            assert root.urn in one.after, one
            if one.kind not in ("Fabric", "Controller"):
                assert ground <= set(one.after), one


def test_each_agent_waits_for_its_own_host(objects: Path) -> None:
    graph, _ = graph_of(objects)
    hosts = {one.inputs["name"]: one for one in graph.of("Host")}
    for agent in graph.of("Agent"):
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
    assert outputs["services"] == []
    assert outputs["health"] == {"healthy": True, "pairs": 15, "probes": 57, "failures": []}


def test_providers_are_referred_to_by_name_and_not_secret(objects: Path) -> None:
    # By value they would carry their code into the state, and a fix would never reach a destroy.
    graph, _ = graph_of(objects)
    for one in graph.heard.values():
        if one.type.startswith("pulumi-python:"):
            assert isinstance(one.inputs["__provider"], str)
            assert len(one.inputs["__provider"]) < 120, one


def gate(graph: Graph) -> Registered:
    return graph.of("HealthGate")[0]


def test_the_gate_knows_a_preview(objects: Path) -> None:
    assert gate(graph_of(objects)[0]).inputs["preview"] is False
    assert gate(graph_of(objects, preview=True)[0]).inputs["preview"] is True


def test_an_edited_program_reaches_every_agent(objects: Path) -> None:
    def configs() -> set[str]:
        return {one.inputs["config"] for one in graph_of(objects)[0].of("Agent")}

    before = configs()
    assert configs() == before
    (objects / "bpf" / "build" / "transit.bpf.o").write_bytes(b"edited")
    assert len(configs() - before) == 3


def test_missing_programs_are_a_mistake(tmp_path: Path) -> None:
    wanted, _ = intent()
    assert any("bpfObjects" in problem for problem in Local(tmp_path, wanted).problems(wanted))
