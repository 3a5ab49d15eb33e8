"""The direct path as the very entries of one flow in the tables of its client's host show it."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from node_agent.datapath.direct import ICMP, TCP, UDP, Flow, HostFlows, Question, StackFlows
from node_agent.datapath.layout import FlowEntry, FlowFlag, FlowKey, NatEntry, NatKind, VpcKey, VpcRow
from node_agent.model.places import StackPlaces
from node_agent.testing.maps import FakeMaps

SLOT = 3
HERE, PEER, OTHER = "198.18.0.1", "198.18.0.2", "198.18.0.9"
ECHO = Flow(vni=7, proto=ICMP, src="10.0.1.2", dst="10.0.1.3", sport=5, dport=5)
CONNECT = Flow(vni=7, proto=TCP, src="10.0.1.2", dst="10.0.9.1", sport=40000, dport=80)


@pytest.fixture
def maps() -> FakeMaps:
    made = FakeMaps()
    made.put("vpcs", {VpcKey(vni=7).pack(): VpcRow(slot=SLOT).pack()})
    made.ensure_flow_tables({SLOT: 256})
    return made


def entry(host: str, flags: int) -> FlowEntry:
    return FlowEntry(host=int(ipaddress.IPv4Address(host)), flags=flags)


def install(maps: FakeMaps, flow: Flow = ECHO, host: str = PEER, flags: int = FlowFlag.ASKED) -> None:
    maps.learn(SLOT, FlowKey.unpack(flow.key()), entry(host, flags))


def translate(
    maps: FakeMaps, backend: str, host: str, kind: int = NatKind.FORWARD, flags: int = FlowFlag.ASKED
) -> None:
    pair = NatEntry(flow=(entry(host, flags),), dst=int(ipaddress.IPv4Address(backend)), kind=kind)
    maps.nats[SLOT][CONNECT.key()] = pair.pack()


def test_a_verdicts_entry_for_the_right_host_is_the_direct_path(maps: FakeMaps) -> None:
    install(maps)
    assert HostFlows("h1", maps).direct(ECHO, PEER) is None


@pytest.mark.parametrize(
    "change", [{"sport": 6}, {"dport": 6}, {"proto": UDP}, {"src": "10.0.1.9"}, {"dst": "10.0.1.9"}]
)
def test_an_entry_of_another_flow_of_these_endpoints_proves_nothing(maps: FakeMaps, change: dict[str, Any]) -> None:
    asked = replace(ECHO, **change)
    install(maps)
    assert HostFlows("h1", maps).direct(asked, PEER) == (
        f"host h1 has no entry for {asked}: the verdict was not installed"
    )


def test_an_entry_learned_from_the_reply_proves_nothing(maps: FakeMaps) -> None:
    install(maps, flags=FlowFlag.LEARNED)
    assert HostFlows("h1", maps).direct(ECHO, PEER) == (
        "host h1 has only learned ICMP 10.0.1.2 to 10.0.1.3 from an answer: the verdict was not installed"
    )


def test_an_entry_for_another_host_is_not_the_direct_path(maps: FakeMaps) -> None:
    install(maps, host=OTHER)
    assert HostFlows("h1", maps).direct(ECHO, PEER) == (
        "host h1 sends ICMP 10.0.1.2 to 10.0.1.3 by host 198.18.0.9 instead of 198.18.0.2"
    )


def test_a_service_goes_straight_to_the_backend_that_answered(maps: FakeMaps) -> None:
    flows = HostFlows("h1", maps)
    told = "TCP 10.0.1.2:40000 to 10.0.9.1:80"
    assert flows.translated(CONNECT, "10.0.1.3", PEER) == (
        f"host h1 has no NAT pair for {told}: the verdict was not installed"
    )
    translate(maps, "10.0.1.3", PEER)
    assert flows.translated(CONNECT, "10.0.1.3", PEER) is None
    assert flows.translated(CONNECT, "10.0.1.4", PEER) == (
        f"host h1 sends {told} to backend 10.0.1.3, and 10.0.1.4 answered"
    )
    assert flows.translated(CONNECT, "10.0.1.3", OTHER) == f"host h1 sends {told} by host {PEER} instead of {OTHER}"


@pytest.mark.parametrize(("kind", "flags"), [(NatKind.REVERSE, FlowFlag.ASKED), (NatKind.FORWARD, FlowFlag.LEARNED)])
def test_a_nat_entry_that_no_verdict_made_for_a_client_proves_nothing(maps: FakeMaps, kind: int, flags: int) -> None:
    translate(maps, "10.0.1.3", PEER, kind, flags)
    assert "that is no client's" in (HostFlows("h1", maps).translated(CONNECT, "10.0.1.3", PEER) or "")


def test_missing_tables_are_named() -> None:
    maps = FakeMaps()
    assert HostFlows("h1", maps).direct(ECHO, PEER) == "host h1 has no row for VNI 7"
    maps.put("vpcs", {VpcKey(vni=7).pack(): VpcRow().pack()})
    assert HostFlows("h1", maps).direct(ECHO, PEER) == "host h1 has no flow table for VNI 7"
    assert HostFlows("h1", maps).translated(CONNECT, "10.0.1.3", PEER) == "host h1 has no flow table for VNI 7"


def test_a_host_without_maps_is_a_reason_and_no_error() -> None:
    with StackFlows(StackPlaces("no-such-stack")) as flows:
        assert "host h1: " in (flows.answer("h1", Question(flow=ECHO, peer=PEER)) or "")
        assert "nothing is pinned" in (flows.answer("h1", Question(flow=CONNECT, peer=PEER, backend="10.0.1.3")) or "")
