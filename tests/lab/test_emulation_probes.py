"""The probes against plain interfaces on one bridge: no Mizar between the endpoints."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.emulation import endpoints
from node_agent.health import assess, gate, probes
from node_agent.health.answers import Answer, Request
from node_agent.health.pairs import Endpoint
from node_agent.kernel import links, netns
from node_agent.model.places import StackPlaces
from tests import probing

pytestmark = pytest.mark.root

NOBODY = 65532


def make(places: StackPlaces, count: int, *, vpc: str = "a", switch: str = "switch") -> list[Endpoint]:
    """Endpoints on three hosts (in name only) and in two subnets, all on one bridge, with a workload each."""
    made = []
    netns.create(places.netns_path(switch))
    with links.opened(places.netns_path(switch)) as bridge:
        bridge.ensure_bridge("br0")
        bridge.ensure("br0", up=True)
        for number in range(count):
            name, address = f"{vpc}{number}", f"10.9.0.{number + 2}"
            pod = places.netns_path(name)
            endpoints.make(places, name)
            bridge.ensure_veth(name, peer_netns=pod, peer="eth0", mtu=1450)
            bridge.ensure(name, up=True, master="br0")
            with links.opened(pod) as net:
                net.ensure("eth0", up=True)
                net.ensure_address("eth0", f"{address}/24")
            endpoints.start_workload(places, name, vpc=vpc, address=address)
            host, subnet = f"host-{number % 3}", f"subnet-{number % 2}"
            made.append(Endpoint(vpc=vpc, subnet=subnet, name=name, address=address, host=host, place=str(pod)))
    return made


def test_a_matrix_of_nine_is_answered(places: StackPlaces) -> None:
    everyone = make(places, 9)
    assert gate.examine(everyone, timeout=5).ok  # the workloads are up
    requests = [
        Request(protocol=protocol, source=a.place, address=b.address, count=3 if protocol == "icmp" else 1)
        for a in everyone
        for b in everyone
        if a != b
        for protocol in ("icmp", "tcp", "udp")
    ]
    began = time.perf_counter()
    answers = probes.run(requests)
    took = time.perf_counter() - began
    print(f"\n{len(requests)} probes in {took * 1e3:.0f} ms")
    assert [answer.reason for answer in answers if answer.reason] == []
    names = {endpoint.address: endpoint.name for endpoint in everyone}
    for request, answer in zip(requests, answers, strict=True):
        assert answer.identity is None or answer.identity["name"] == names[request.address]


def test_more_probes_than_can_be_under_way(places: StackPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "UNDER_WAY", 4)
    first, second = make(places, 2)
    request = Request(protocol="tcp", source=first.place, address=second.address)
    assert all(answer.answered for answer in probes.run([request] * 50))


def test_a_missing_peer_is_named_with_its_reason(places: StackPlaces) -> None:
    everyone = make(places, 3)
    with links.opened(places.netns_path("switch")) as bridge:
        bridge.ensure("a2", up=False)
    health = gate.examine(everyone, hosts=["host-0", "host-1", "host-2"], timeout=0.8)
    assert not health.ok
    line = "host-0 -> host-2: a/a0 (10.9.0.2) -> a/a2 (10.9.0.4): tcp: no answer within 0.8 s"
    assert line in health.problems
    assert "icmp: 0 of 3 echoes answered within 0.8 s" in assess.summary(health)
    assert all("10.9.0.4" in problem for problem in health.problems)


def test_a_missing_workload_is_refused_and_the_echo_is_not(places: StackPlaces) -> None:
    first, second = make(places, 2)
    endpoints.stop_workload(places, second.name)
    source = first.place
    assert probing.ping(source, second.address).answered
    assert probing.tcp(source, second.address, 0.3).reason == "no answer within 0.3 s: connect: Connection refused"
    assert probing.udp(source, second.address, 0.3).reason == "no answer within 0.3 s: Connection refused"


def test_a_late_workload_is_waited_for(places: StackPlaces) -> None:
    first, second = make(places, 2)
    endpoints.stop_workload(places, second.name)
    endpoints.start_workload(places, second.name, vpc="a", address=second.address)
    assert probing.tcp(first.place, second.address).answered


def test_a_missing_source_is_a_reason(places: StackPlaces) -> None:
    (only,) = make(places, 1)
    gone = replace(only, place="/run/netns/none")
    for protocol in (probing.ping, probing.tcp, probing.udp):
        answer = protocol(gone.place, only.address)
        assert "open network namespace /run/netns/none" in answer.reason and answer.sent == 0


def test_an_address_without_a_route_is_a_reason(places: StackPlaces) -> None:
    (only,) = make(places, 1)
    for protocol in (probing.ping, probing.tcp, probing.udp):
        answer = protocol(only.place, "10.77.0.1", timeout=0.3)
        assert answer.reason.endswith("Network is unreachable") and answer.sent


def test_vpcs_that_reach_each_other_fail(places: StackPlaces) -> None:
    one, other = make(places, 2)
    endpoints.stop_workload(places, other.name)
    endpoints.start_workload(places, other.name, vpc="b", address=other.address)
    health = gate.examine([one, replace(other, vpc="b")])
    assert not health.ok
    assert "tcp: answered by b/a1, though a and b must not reach each other" in assess.summary(health)


def test_vpcs_that_do_not_reach_each_other_pass(places: StackPlaces) -> None:
    first = make(places, 2)
    second = [replace(e, address=e.address.replace("10.9.", "10.8.")) for e in make(places, 2, vpc="b", switch="other")]
    health = gate.examine(first + second, timeout=0.8)
    assert all("b/" in problem and "a/" not in problem for problem in health.problems)


def test_the_wrong_answerer_is_named(places: StackPlaces) -> None:
    first, second = make(places, 2)
    health = gate.examine([first, replace(second, name="somebody")])
    assert any(problem.endswith("answered by a/a1 instead of a/somebody") for problem in health.problems)


def test_the_direct_path_is_asked_about_after_packets_flowed(places: StackPlaces) -> None:
    everyone = make(places, 3)
    asked: list[gate.Probed] = []

    def direct(probed: Sequence[gate.Probed]) -> list[str | None]:
        asked.extend(probed)
        return ["goes by host-2" if one.pair.target.name == "a1" else None for one in probed]

    health = gate.examine(everyone, mtu=1450, direct=direct)
    assert len(asked) == 6 * 4  # two echoes, the second of full size, TCP and UDP
    assert all(0 < one.answer.port <= 0xFFFF for one in asked)
    assert len({one.answer.port for one in asked if one.protocol == "icmp"}) == 6 * 2
    assert [p.rpartition(": ")[2] for p in health.problems] == ["goes by host-2"] * 2


def as_nobody(place: Path, requests: Sequence[Request]) -> list[Answer]:
    """What becomes of them in a process of that namespace without any right."""
    netns.move(place)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    return probes.run(requests, first=500)


def test_echoes_of_the_own_namespace_take_no_privilege(places: StackPlaces) -> None:
    first, second = make(places, 2)
    requests = [
        Request(protocol="icmp", source="", address=second.address, count=3),
        Request(protocol="icmp", source="", address=second.address, size=1450),
        Request(protocol="icmp", source="", address=second.address, size=1451, timeout=0.3),
        Request(protocol="icmp", source="", address="10.77.0.1", timeout=0.3),
    ]

    netns.set_sysctl(Path(first.place), "net/ipv4/ping_group_range", f"{NOBODY} {NOBODY}")
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as child:
        well, full, large, nowhere = child.submit(as_nobody, Path(first.place), requests).result(20)
    assert (well.reason, well.received, full.reason) == ("", 3, "")
    assert {well.port, full.port} == {500, 501}
    assert large.reason.endswith("Message too long")
    assert nowhere.reason.endswith("Network is unreachable") and nowhere.sent
