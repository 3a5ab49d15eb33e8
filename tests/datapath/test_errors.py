"""ICMP errors: about a service's flow in both directions, their budget, and what must never be taken for headers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw

from node_agent.datapath.layout import DropReason, WireType
from tests.datapath.conftest import VNI, roles
from tests.datapath.host import HZ, Endpoint, Host
from tests.datapath.walk import TC_REDIRECT, TC_SHOT, Net, Walk

pytestmark = pytest.mark.root
VIP, PORT, TARGET = "10.10.200.1", 80, 8080
ANNA, BERT = "10.10.1.10", "10.10.1.20"


def homes(host: Callable[..., Host], cast: dict[str, Endpoint], bert: int = 2, bouncer: int = 4) -> Net:
    """anna on host 1; bert stands behind the VIP."""
    net = roles(host, cast, {"anna": 1, "bert": bert}, [bouncer], {"10.10.1.0": [bouncer]})
    for proto in (6, 17):
        net.hosts[f"198.18.0.{10 + bouncer}"].service(VNI, VIP, PORT, [(BERT, TARGET)], proto=proto)
    return net


@pytest.fixture
def net(host: Callable[..., Host], cast: dict[str, Endpoint]) -> Net:
    return homes(host, cast)


def sent(make: type = UDP, sport: int = 4000, dst: str = VIP, dport: int = PORT, size: int = 20) -> IP:
    return IP(src=ANNA, dst=dst) / make(sport=sport, dport=dport) / (b"x" * size)


def error(about: bytes, code: int = 3, quote: int = 28) -> IP:
    """From whom this packet reached, back to whom it came from."""
    ip = IP(about)
    return IP(src=ip.dst, dst=ip.src) / ICMP(type=3, code=code, nexthopmtu=1300 if code == 4 else 0) / about[:quote]


def got_error(walk: Walk, quote: int = 28) -> tuple[IP, bytes]:
    """The error as it was delivered, every sum of its own right, and what it quotes."""
    raw = walk.frame[14:]
    assert total(raw[:20]) == total(raw[20:]) == 0xFFFF
    quoted = raw[28:]
    assert len(quoted) == quote and total(quoted[:20]) == 0xFFFF
    return IP(raw), quoted


def total(data: bytes) -> int:
    """The sum of 16-bit words that is 0xFFFF where a checksum is right."""
    whole = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while whole >> 16:
        whole = (whole & 0xFFFF) + (whole >> 16)
    return whole


def after_one_hop(packet: IP) -> bytes:
    """As its sender would see it quoted, were there no translation: a router lowered its TTL."""
    out = IP(bytes(packet))
    out.ttl -= 1
    del out.chksum
    return bytes(out)


@pytest.mark.parametrize("make,code,quote", [(UDP, 3, 28), (UDP, 3, 48), (TCP, 4, 28), (TCP, 4, 40), (TCP, 4, 60)])
@pytest.mark.parametrize("bert,bouncer", [(2, 4), (1, 4), (2, 1), (1, 1), (2, 2)])
def test_error_of_a_backend_reaches_the_client_as_from_the_vip(
    host: Callable[..., Host], cast: dict[str, Endpoint], make: type, code: int, quote: int, bert: int, bouncer: int
) -> None:
    net = homes(host, cast, bert, bouncer)
    there = net.walk("anna", sent(make)).frame[14:]
    walk = net.walk("bert", error(there, code, quote))
    assert walk.delivered == "anna" and {t for _, t in walk.wire} <= {WireType.DATA}
    told, quoted = got_error(walk, quote)
    assert (told.src, told.dst, told[ICMP].type, told[ICMP].code) == (VIP, ANNA, 3, code)
    assert quoted == after_one_hop(sent(make))[:quote]


@pytest.mark.parametrize("make,code,quote", [(UDP, 3, 28), (TCP, 4, 28), (TCP, 4, 40)])
@pytest.mark.parametrize("bert", [1, 2])
def test_error_of_the_client_reaches_the_backend_about_its_own_packet(
    host: Callable[..., Host], cast: dict[str, Endpoint], make: type, code: int, quote: int, bert: int
) -> None:
    net = homes(host, cast, bert)
    net.walk("anna", sent(make))
    answer = IP(src=BERT, dst=ANNA) / make(sport=TARGET, dport=4000) / b"world"
    back = net.walk("bert", answer)
    assert back.delivered == "anna"
    walk = net.walk("anna", error(back.frame[14:], code, quote))
    assert walk.delivered == "bert"
    told, quoted = got_error(walk, quote)
    assert (told.src, told.dst) == (ANNA, BERT)
    assert quoted == after_one_hop(answer)[:quote]


def test_error_about_a_changed_port_names_the_clients_own(net: Net) -> None:
    net.walk("anna", sent(dst=BERT, dport=TARGET))  # takes the port
    there = net.walk("anna", sent()).frame[14:]
    assert IP(there)[UDP].sport != 4000
    _, quoted = got_error(net.walk("bert", error(there)))
    assert quoted == after_one_hop(sent())[:28]


def test_quoted_datagram_without_a_sum_stays_without(net: Net) -> None:
    packet = IP(src=ANNA, dst=VIP) / UDP(sport=4000, dport=PORT, chksum=0) / b"bare"
    _, quoted = got_error(net.walk("bert", error(net.walk("anna", packet).frame[14:])))
    assert quoted == after_one_hop(packet)[:28]


def test_error_of_an_endpoint_behind_its_own_vip(net: Net) -> None:
    net.hosts["198.18.0.14"].service(VNI, VIP, PORT, [(ANNA, TARGET)], proto=17)
    there = net.walk("anna", sent()).frame[14:]
    walk = net.walk("anna", error(there))
    told, quoted = got_error(walk)
    assert (told.src, told.dst) == (VIP, ANNA) and quoted == after_one_hop(sent())[:28]


def test_error_about_a_pair_that_was_lost_is_dropped_by_name(net: Net) -> None:
    there = net.walk("anna", sent()).frame[14:]
    net.hosts["198.18.0.11"].lose_nats(VNI)
    assert net.walk("bert", error(there)).dropped == DropReason.ICMP_ERROR_NO_FLOW
    assert net.hosts["198.18.0.11"].nats(VNI) == {}


def test_error_asks_about_no_entry(net: Net) -> None:
    net.walk("anna", sent())
    answer = net.walk("bert", IP(src=BERT, dst=ANNA) / UDP(sport=TARGET, dport=4000) / b"world")
    one = net.hosts["198.18.0.11"]
    aged = {
        k: replace(n, flow=(replace(n.flow[0], confirmed=(n.flow[0].confirmed - 100 * HZ) & 0xFFFFFFFF),))
        for k, n in one.nats(VNI).items()
    }
    one.put_nats(VNI, aged)
    assert net.walk("anna", error(answer.frame[14:])).delivered == "bert"
    assert {n.flow[0].asked for n in one.nats(VNI).values()} == {0}


def test_errors_of_an_endpoint_are_rationed(net: Net) -> None:
    there = net.walk("anna", sent()).frame[14:]
    net.hosts["198.18.0.12"].configure(query_burst=5, query_rate=0)
    found = [net.walk("bert", error(there)) for _ in range(8)]
    assert [w.delivered for w in found] == ["anna"] * 5 + [""] * 3
    assert found[-1].dropped == DropReason.QUERY_BUDGET


@pytest.mark.parametrize(
    "packet",
    [IP(src=ANNA, dst=BERT, ttl=1) / UDP(), IP(src=ANNA, dst=BERT) / UDP() / bytes(1600)],
    ids=["ttl", "too-big"],
)
def test_errors_to_an_endpoint_are_rationed(net: Net, packet: IP) -> None:
    one, e = net.endpoints["anna"]
    net.walk("anna", IP(src=ANNA, dst=BERT) / UDP())
    one.configure(query_burst=5, query_rate=0)
    codes = [one.run("endpoint_tc", net.frame("anna", packet), e.port).code for _ in range(8)]
    assert codes == [TC_REDIRECT] * 5 + [TC_SHOT] * 3


def test_error_about_the_rest_of_a_datagram_is_dropped(net: Net) -> None:
    later = IP(src=ANNA, dst=BERT, id=7, frag=5, proto=17) / Raw(b"y" * 16)
    assert net.walk("bert", error(bytes(later))).dropped == DropReason.ICMP_ERROR_NO_FLOW


def test_piece_of_an_error_teaches_no_ports(net: Net) -> None:
    forged = error(bytes(IP(src=BERT, dst=ANNA) / UDP(sport=1, dport=2)))
    forged.src, forged.dst, forged.flags = ANNA, BERT, "MF"
    assert net.walk("anna", forged).dropped == DropReason.MALFORMED
    assert net.hosts["198.18.0.11"].maps.read("fragments") == {}


def test_rest_of_a_datagram_is_never_answered_as_if_it_began_with_headers(net: Net) -> None:
    """The payload of each looks like a ping, or has a TTL at its end, or is for a service that nobody serves."""
    one = net.hosts["198.18.0.11"]
    ping = {"src": ANNA, "dst": VIP, "id": 9}
    assert net.walk("anna", IP(**ping, flags="MF") / ICMP() / bytes(16)).delivered == "anna"
    later = net.walk("anna", IP(**ping, frag=3, proto=1) / Raw(b"\x08" + bytes(15)))
    assert (later.frame, later.dropped) == (b"", DropReason.UNKNOWN_DESTINATION)
    expired = IP(src=ANNA, dst=BERT, id=10, ttl=1, proto=17)
    assert net.walk("anna", expired / Raw(bytes(UDP()) + bytes(16))).reply
    net.walk("anna", IP(src=ANNA, dst=BERT, id=10, flags="MF", proto=17) / Raw(bytes(UDP()) + bytes(16)))
    assert net.walk("anna", IP(src=ANNA, dst=BERT, id=10, ttl=1, frag=3, proto=17) / bytes(16)).reply == b""
    for proto, first in ((6, TCP(dport=PORT)), (17, UDP(dport=PORT))):
        net.hosts["198.18.0.14"].service(VNI, VIP, PORT, [], proto=proto)
        whole = {"src": ANNA, "dst": VIP, "id": 20 + proto, "proto": proto}
        assert net.walk("anna", IP(**whole, flags="MF") / Raw(bytes(first) + bytes(12))).frame
        assert net.walk("anna", IP(**whole, frag=4) / Raw(bytes(40))).frame == b""
    assert one.maps.drops()[VNI, DropReason.NO_BACKEND] == 4


@pytest.mark.parametrize(
    "options,segment,fits",
    [([], 1410, True), ([], 1411, False), ([("NOP", None)] * 12, 1398, True), ([("NOP", None)] * 12, 1399, False)],
)
def test_segments_of_a_super_packet_must_fit_with_their_real_headers(
    net: Net, options: list[tuple[str, None]], segment: int, fits: bool
) -> None:
    packet = IP(src=ANNA, dst=BERT) / TCP(sport=7, dport=80, options=options) / bytes(3000)
    one, e = net.endpoints["anna"]
    one.run("endpoint_tc", net.frame("anna", packet), e.port, segment=segment)
    # The kernel refuses to encapsulate a test run's super-packet, of which it does not know the protocol.
    assert one.maps.drops() == {(VNI, DropReason.ENCAPSULATION if fits else DropReason.TOO_BIG): 1}
