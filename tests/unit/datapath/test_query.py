"""The bytes of the agent's own question, held against a packet library."""

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from node_agent.datapath.layout import FlowKey
from node_agent.datapath.query import asked_flow, question


def test_a_question_is_an_ask_only_query_about_the_address_itself() -> None:
    raw = question(0x123456, "10.0.1.5", "198.18.0.11", 0xBEEF)
    assert raw[:8] == bytes([0x08, 0x08, 0x80, 0xF0, 0x12, 0x34, 0x56, 0])
    frame = Ether(raw[8:])
    assert (frame.dst, frame.src, frame.type) == ("00:00:c6:12:00:0b", "00:00:00:00:00:00", 0x0800)
    inner = frame[IP]
    assert (inner.src, inner.dst, inner.proto, inner.len) == ("10.0.1.5", "10.0.1.5", 17, 28)
    assert (frame[UDP].sport, frame[UDP].dport, frame[UDP].len) == (0xBEEF, 0xBEEF, 8)
    sent = inner.chksum
    del inner.chksum
    assert IP(bytes(inner)).chksum == sent


def test_its_answer_is_found_under_the_flow_it_names() -> None:
    key = asked_flow(7, "10.0.1.5", 0xBEEF)
    assert key == FlowKey(
        vni=7, src=bytes(10) + b"\xff\xff\x0a\x00\x01\x05", dst=key.src, sport=0xBEEF, dport=0xBEEF, proto=17
    )
