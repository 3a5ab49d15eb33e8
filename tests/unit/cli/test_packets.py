"""Frames of a trace: built as scapy would, and messages of the tunnel read back."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether

from node_agent.cli import packets
from node_agent.datapath.layout import Action, FlowKey, Limit, WireBit, WireFlag, WireType
from node_agent.rows.image import mapped

MAC = bytes.fromhex("020000000a01")


def key(proto: int) -> FlowKey:
    return FlowKey(vni=1000, src=mapped("10.10.1.10"), dst=mapped("10.10.2.30"), sport=40000, dport=443, proto=proto)


@pytest.mark.parametrize(("proto", "layer"), [(packets.ICMP, ICMP), (packets.TCP, TCP), (packets.UDP, UDP)])
def test_frames_have_the_sums_that_scapy_makes(proto: int, layer: type) -> None:
    raw = packets.frame(MAC, key(proto))
    again = Ether(raw)
    del again[IP].chksum, again[layer].chksum
    assert bytes(again) == raw
    assert (again.src, again[IP].src, again[IP].dst) == ("02:00:00:00:0a:01", "10.10.1.10", "10.10.2.30")
    if proto == packets.ICMP:
        assert (again[ICMP].type, again[ICMP].id) == (8, 40000)
    else:
        assert (again[layer].sport, again[layer].dport) == (40000, 443)
    assert proto != packets.TCP or again[TCP].flags == "S"


def test_a_segment_of_a_flow_that_is_there_does_not_begin_another() -> None:
    again = Ether(packets.frame(MAC, key(packets.TCP), first=False))
    assert again[TCP].flags == "A"


def tunnel(kind: int, flags: int = 0, bits: int = 0, counts: int = 0, first: bytes = b"", second: bytes = b"") -> bytes:
    vxlan = bytes([8, kind << 3 | flags, bits, counts]) + (1000 << 8).to_bytes(4, "big")
    outer = Ether() / IP(src="198.18.0.11", dst="198.18.0.12") / UDP(sport=50000, dport=Limit.WIRE_PORT)
    return bytes(outer / (vxlan + first.ljust(6, b"\0") + second.ljust(6, b"\0") + b"\x08\0"))


HOST = bytes([198, 18, 0, 13])


def test_a_query_names_its_asker() -> None:
    found = packets.message(tunnel(WireType.QUERY, bits=WireBit.PASSED, counts=1 << 4 | 2 << 1, first=b"\0\0" + HOST))
    assert found == packets.Message(
        type=WireType.QUERY, vni=1000, sender="198.18.0.11", receiver="198.18.0.12", asker="198.18.0.13",
        attempt=2, passed=True,
    )  # fmt: skip


def test_a_verdict_says_where_and_which_backend() -> None:
    backend = bytes([10, 10, 1, 5]) + (8080).to_bytes(2, "big")
    raw = tunnel(WireType.VERDICT, WireFlag.NATED, Action.ALLOW, first=b"\x0a\x02" + HOST, second=backend)
    found = packets.message(raw)
    assert found and (found.action, found.target, found.tag, found.nat) == (
        Action.ALLOW, "198.18.0.13", 0x0A02, "10.10.1.5:8080",
    )  # fmt: skip
    refused = packets.message(tunnel(WireType.VERDICT, bits=Action.UNKNOWN, first=b"\0\0" + HOST))
    assert refused and (refused.action, refused.target, refused.asker) == (Action.UNKNOWN, "", "198.18.0.13")


def test_data_and_not_here() -> None:
    data = packets.message(tunnel(WireType.DATA, first=b"\x0a\x02\x0a\x01"))
    assert data and (data.type, data.tag, data.target, data.asker) == (WireType.DATA, 0x0A02, "", "")
    moved = packets.message(tunnel(WireType.NOT_HERE, first=b"\x0a\x02" + HOST))
    assert moved and moved.target == "198.18.0.13"


@pytest.mark.parametrize("raw", [b"", bytes(200), packets.frame(MAC, key(packets.UDP)), tunnel(7)])
def test_other_frames_are_no_messages(raw: bytes) -> None:
    assert packets.message(raw) is None
