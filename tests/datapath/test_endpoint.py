"""What the endpoint program allows, refuses and answers on the spot."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP, ICMPerror, IPerror
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from node_agent.datapath.layout import DropReason
from tests.datapath.conftest import VNI
from tests.datapath.host import Endpoint
from tests.datapath.walk import GATEWAY_MAC, TC_SHOT, Net

pytestmark = pytest.mark.root


def send(net: Net, frame: object, e: Endpoint) -> tuple[int, bytes, DropReason | None]:
    host = net.endpoints[e.name][0]
    before = host.maps.drops()
    result = host.run("endpoint_tc", bytes(frame), e.port)
    return result.code, result.data, Net._reason(before, host.maps.drops())


@pytest.mark.parametrize("target", ["169.254.1.1", "10.10.1.1"])
def test_arp_for_the_gateway_is_answered(three_hosts: Net, cast: dict[str, Endpoint], target: str) -> None:
    anna = cast["anna"]
    _, data, _ = send(
        three_hosts,
        Ether(src=anna.mac, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=anna.mac, psrc=anna.address, pdst=target),
        anna,
    )
    reply = Ether(data)
    assert (reply.src, reply.dst) == (GATEWAY_MAC, anna.mac)
    assert (reply[ARP].op, reply[ARP].hwsrc, reply[ARP].psrc) == (2, GATEWAY_MAC, target)
    assert (reply[ARP].hwdst, reply[ARP].pdst) == (anna.mac, anna.address)


@pytest.mark.parametrize("sender", ["10.10.1.99", "169.254.1.1"])
def test_arp_that_claims_another_address_is_dropped(three_hosts: Net, cast: dict[str, Endpoint], sender: str) -> None:
    anna = cast["anna"]
    frame = Ether(src=anna.mac) / ARP(hwsrc=anna.mac, psrc=sender, pdst="169.254.1.1")
    assert send(three_hosts, frame, anna)[2] == DropReason.SOURCE_ARP


def test_gateway_answers_ping(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    sent = IP(src="10.10.1.10", dst="10.10.1.1") / ICMP(id=5, seq=9) / b"are you there"
    reply = IP(three_hosts.walk("anna", sent).reply[14:])
    want = IP(bytes(IP(src="10.10.1.1", dst="10.10.1.10") / ICMP(type=0, id=5, seq=9) / b"are you there"))
    assert bytes(reply) == bytes(want)


def test_gateway_takes_nothing_but_ping(three_hosts: Net) -> None:
    walk = three_hosts.walk("anna", IP(src="10.10.1.10", dst="10.10.1.1") / UDP(dport=4789))
    assert walk.dropped == DropReason.UNKNOWN_DESTINATION


def test_foreign_source_address_is_dropped(three_hosts: Net) -> None:
    assert three_hosts.walk("anna", IP(src="10.10.1.20", dst="10.10.2.30") / UDP()).dropped == DropReason.SOURCE_ADDRESS


def test_foreign_source_mac_is_dropped(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    frame = Ether(src=cast["bert"].mac) / IP(src="10.10.1.10", dst="10.10.1.20") / UDP()
    assert send(three_hosts, frame, cast["anna"])[2] == DropReason.SOURCE_MAC


@pytest.mark.parametrize("dst", ["224.0.0.1", "239.1.2.3", "255.255.255.255"])
def test_multicast_and_broadcast_have_a_reason_of_their_own(three_hosts: Net, dst: str) -> None:
    assert three_hosts.walk("anna", IP(src="10.10.1.10", dst=dst) / UDP()).dropped == DropReason.MULTICAST


def test_what_is_not_ipv4_is_a_named_drop(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    frame = Ether(src=cast["anna"].mac, dst=GATEWAY_MAC) / IPv6() / UDP()
    assert send(three_hosts, frame, cast["anna"])[2] == DropReason.UNSUPPORTED_PROTOCOL


def test_packet_from_a_device_of_nobody_is_dropped(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    host = three_hosts.hosts["198.18.0.11"]
    result = host.run("endpoint_tc", three_hosts.frame("anna", IP(src="10.10.1.10")), cast["eve"].port)
    assert result.code == TC_SHOT and host.maps.drops() == {(0, DropReason.NO_ENDPOINT): 1}


def test_expired_ttl_is_told_by_the_gateway(three_hosts: Net) -> None:
    sent = IP(src="10.10.1.10", dst="10.10.2.30", ttl=1) / UDP(sport=33434, dport=33435) / (b"trace" * 10)
    reply = IP(three_hosts.walk("anna", sent).reply[14:])
    assert (reply.src, reply.dst, reply[ICMP].type) == ("10.10.1.1", "10.10.1.10", 11)
    assert (reply[IPerror].dst, reply[IPerror].payload.dport) == ("10.10.2.30", 33435)
    fixed = IP(bytes(reply))
    del fixed.chksum, fixed[ICMP].chksum
    assert bytes(IP(bytes(fixed)))[:28] == bytes(reply)[:28]
    assert ICMPerror not in reply or reply[ICMPerror]


def test_icmp_error_about_a_known_flow_passes_without_a_question(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    asked = IP(src="10.10.1.10", dst="10.10.1.20") / UDP(sport=4000, dport=53)
    error = IP(src="10.10.1.20", dst="10.10.1.10") / ICMP(type=3, code=3) / bytes(asked)[:28]
    assert three_hosts.walk("bert", error).dropped == DropReason.ICMP_ERROR_NO_FLOW
    three_hosts.walk("anna", asked)
    walk = three_hosts.walk("bert", error)
    assert walk.delivered == "anna" and len(walk.wire) == 1


def test_icmp_error_about_anothers_flow_is_dropped(three_hosts: Net) -> None:
    about = IP(src="10.10.1.10", dst="10.10.2.30") / UDP(sport=4000, dport=53)
    error = IP(src="10.10.1.20", dst="10.10.1.10") / ICMP(type=3, code=3) / bytes(about)[:28]
    assert three_hosts.walk("bert", error).dropped == DropReason.SOURCE_ADDRESS


@pytest.mark.parametrize("change", [{"ihl": 4}, {"len": 10}, {"len": 2000}])
def test_contradicting_header_is_malformed(three_hosts: Net, change: dict[str, int]) -> None:
    walk = three_hosts.walk("anna", IP(src="10.10.1.10", dst="10.10.1.20", **change) / UDP() / b"x")
    assert walk.dropped == DropReason.MALFORMED


def test_cut_short_packets_are_never_read_past_their_end(three_hosts: Net, cast: dict[str, Endpoint]) -> None:
    whole = three_hosts.frame("anna", IP(src="10.10.1.10", dst="10.10.1.20") / UDP() / b"payload")
    host = three_hosts.hosts["198.18.0.11"]
    for length in range(34, 42):  # shorter ones the kernel itself refuses to run
        assert host.run("endpoint_tc", whole[:length], cast["anna"].port).code == TC_SHOT, length


def test_drops_are_counted_by_vpc_and_reason(three_hosts: Net) -> None:
    for _ in range(3):
        three_hosts.walk("anna", IP(src="10.10.1.20", dst="10.10.2.30") / UDP())
    assert three_hosts.hosts["198.18.0.11"].maps.drops() == {(VNI, DropReason.SOURCE_ADDRESS): 3}


def test_packet_too_big_for_the_uplink_is_told_how_much_fits(three_hosts: Net) -> None:
    fits = IP(src="10.10.1.10", dst="10.10.1.20", flags="DF") / UDP() / (b"x" * (1450 - 28))
    assert three_hosts.walk("anna", fits).delivered == "bert"
    reply = IP(three_hosts.walk("anna", fits / b"y").reply[14:])
    assert (reply.src, reply[ICMP].type, reply[ICMP].code, reply[ICMP].nexthopmtu) == ("169.254.1.1", 3, 4, 1450)
    fixed = IP(bytes(reply))
    del fixed.chksum, fixed[ICMP].chksum
    assert IP(bytes(fixed))[ICMP].chksum == reply[ICMP].chksum
    assert three_hosts.hosts["198.18.0.11"].maps.drops() == {(VNI, DropReason.TOO_BIG): 1}


def test_later_fragment_to_the_gateway_is_no_ping(three_hosts: Net) -> None:
    first = IP(src="10.10.1.10", dst="10.10.1.1", id=9, flags="MF") / ICMP() / (b"x" * 16)
    later = IP(src="10.10.1.10", dst="10.10.1.1", id=9, frag=3, proto=1) / (b"\x08" + b"x" * 15)
    assert three_hosts.walk("anna", first).reply
    assert three_hosts.walk("anna", later).dropped == DropReason.UNKNOWN_DESTINATION
