"""`mizar status` from objects to words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from node_agent.cli import status
from node_agent.cli.running import Running
from node_agent.model.objects import (
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkHost,
    NetworkHostSpec,
    NetworkHostStatus,
    ProgramStatus,
    SetMember,
    Subnet,
    SubnetSpec,
    SubnetStatus,
    Vpc,
    VpcSpec,
    VpcStatus,
)

NOW = 1000.0


def host(number: int, **told: Any) -> NetworkHost:
    program = ProgramStatus(device="uplink0", hook="xdp", mode="generic", tag="ab12")
    usual: dict[str, Any] = {"heartbeat": NOW - 2, "ready": True, "mode": "generic", "programs": (program,)}
    return NetworkHost(
        name=f"host-{number}",
        spec=NetworkHostSpec(address=f"198.18.0.{10 + number}"),
        status=NetworkHostStatus(**{**usual, **told}),
    )


MEMBERS = tuple(SetMember(place=n, host=f"host-{n + 1}", address=f"198.18.0.{11 + n}") for n in range(2))
VPC = Vpc(name="blue", spec=VpcSpec(cidr="10.10.0.0/16"), status=VpcStatus(vni=1000, members=MEMBERS))
SUBNET = Subnet(name="blue-a", spec=SubnetSpec(vpc="blue", cidr="10.10.1.0/24"), status=SubnetStatus(bouncers=(1,)))
ENDPOINT = NetworkEndpoint(
    name="1000-10.10.1.2",
    spec=NetworkEndpointSpec(
        vpc="blue", subnet="blue-a", address="10.10.1.2", host="host-1", container_id="web", workload="web"
    ),
    status=NetworkEndpointStatus(host="host-1", host_address="198.18.0.11"),
)


RUNNING = {"controller": Running(pid=5), **{f"host-{number}": Running(pid=10) for number in (1, 2, 3)}}


def told(*hosts: NetworkHost, running: Mapping[str, Running] = RUNNING) -> dict[str, Any]:
    return status.assemble(
        "local-abc123", running, NOW, hosts=hosts, vpcs=[VPC], subnets=[SUBNET], endpoints=[ENDPOINT]
    )


def test_roles_and_pids() -> None:
    found = told(host(1), host(2), host(3))
    assert found["healthy"] is True
    assert found["controller"]["pid"] == 5
    assert [(h["divides"], h["bounces"], h["endpoints"]) for h in found["hosts"]] == [
        (["blue"], [], 1),
        (["blue"], ["blue-a"], 0),
        ([], [], 0),
    ]
    assert found["endpoints"][0]["held"] is True
    assert found["hosts"][0]["pid"] == 10


def test_what_a_host_does_is_looked_up_once_per_subnet(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    bouncers = status._bouncers
    monkeypatch.setattr(status, "_bouncers", lambda one, *rest: looked.append(one.name) or bouncers(one, *rest))
    found = told(*(host(number) for number in range(1, 50)))
    assert looked == ["blue-a"]
    assert found["subnets"][0]["bouncers"] == ["host-2"]


def test_every_reason_is_told() -> None:
    silent = told(
        host(1, heartbeat=NOW - 90, ready=False, problems=("uplink0 is down",)), running={"controller": Running(pid=5)}
    )
    assert silent["healthy"] is False
    assert silent["hosts"][0]["health"] == (
        "its agent does not run; its agent is not ready; no heartbeat for 90 s; uplink0 is down"
    )


def test_no_controller_is_not_healthy() -> None:
    found = told(host(1), running={"host-1": Running(pid=10)})
    assert (found["healthy"], found["controller"]) == (False, {"pid": None, "pod": "", "health": "does not run"})


def test_in_pods_there_are_no_pids_of_this_computer() -> None:
    pods = {"controller": Running(pod="the-controller"), "host-1": Running(pod="an-agent", ready=False)}
    found = told(host(1, pid=1), running=pods)
    assert found["controller"] == {"pid": None, "pod": "the-controller", "health": "ok"}
    assert (found["hosts"][0]["pid"], found["hosts"][0]["pod"]) == (None, "an-agent")
    assert found["healthy"] is True, "an agent says itself whether it is ready, and sooner than its pod"
    text = status.text(found)
    assert "controller: ok, pod the-controller" in text and "pod an-agent" in text


def test_a_controller_whose_loop_stands_is_not_healthy() -> None:
    found = told(host(1), running={**RUNNING, "controller": Running(pod="the-controller", ready=False)})
    assert (found["healthy"], found["controller"]["health"]) == (False, "is not ready")


def test_text_names_everything() -> None:
    text = status.text(told(host(1), host(2, ready=False)))
    for word in ("NOT HEALTHY", "host-1", "198.18.0.12", "blue-a", "1000", "its agent is not ready"):
        assert word in text
