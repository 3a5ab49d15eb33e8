"""The direct path as the flow table of the source's host shows it."""

import ipaddress

import pytest

from node_agent.datapath.direct import ICMP, TCP, direct_path, judged
from node_agent.datapath.layout import FlowEntry, FlowFlag, FlowKey, VpcKey, VpcRow
from node_agent.model.objects import NetworkEndpoint, NetworkEndpointSpec, NetworkEndpointStatus
from node_agent.model.places import StackPlaces
from node_agent.testing.maps import FakeMaps


def endpoint(address: str, host: int) -> NetworkEndpoint:
    return NetworkEndpoint(
        name=f"7-{address}",
        spec=NetworkEndpointSpec(vpc="blue", subnet="s", address=address, host=f"h{host}", container_id=address),
        status=NetworkEndpointStatus(host=f"h{host}", host_address=f"198.18.0.{host}"),
    )


SRC, DST = endpoint("10.0.1.2", 1), endpoint("10.0.1.3", 2)


def mapped(address: str) -> bytes:
    return ipaddress.IPv6Address(f"::ffff:{address}").packed


@pytest.fixture
def maps() -> FakeMaps:
    made = FakeMaps()
    made.put("vpcs", {VpcKey(vni=7).pack(): VpcRow(slot=3).pack()})
    made.ensure_flow_tables({3: 256})
    return made


def learn(maps: FakeMaps, host: str, flags: int = FlowFlag.ASKED, proto: int = ICMP) -> None:
    maps.learn(
        3,
        FlowKey(vni=7, src=mapped("10.0.1.2"), dst=mapped("10.0.1.3"), sport=5, dport=6, proto=proto),
        FlowEntry(host=int(ipaddress.IPv4Address(host)), flags=flags),
    )


def test_an_entry_for_the_right_host_is_the_direct_path(maps: FakeMaps) -> None:
    learn(maps, "198.18.0.2")
    assert judged(maps, SRC, DST, ICMP) is None
    assert judged(maps, SRC, DST, ICMP, sport=5, dport=6) is None
    assert "no entry for ICMP 10.0.1.2 to 10.0.1.3" in (judged(maps, SRC, DST, ICMP, sport=9) or "")
    assert "no entry for TCP" in (judged(maps, SRC, DST, TCP) or "")
    assert "no entry for ICMP 10.0.1.3 to 10.0.1.2" in (judged(maps, DST, SRC, ICMP) or "")


def test_an_entry_for_another_host_is_not(maps: FakeMaps) -> None:
    learn(maps, "198.18.0.9")
    assert judged(maps, SRC, DST, ICMP) == (
        "host h1 sends ICMP 10.0.1.2 to 10.0.1.3 to 198.18.0.9 instead of 198.18.0.2"
    )


def test_missing_tables_are_named() -> None:
    maps = FakeMaps()
    assert judged(maps, SRC, DST, ICMP) == "host h1 has no row for VNI 7"
    maps.put("vpcs", {VpcKey(vni=7).pack(): VpcRow().pack()})
    assert judged(maps, SRC, DST, ICMP) == "host h1 has no flow table for VNI 7"


def test_a_host_without_maps_is_a_reason_and_no_error() -> None:
    assert "nothing is pinned" in (direct_path(StackPlaces("no-such-stack"), SRC, DST, ICMP) or "")
