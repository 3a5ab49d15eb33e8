from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN

from node_agent.bench import frames
from node_agent.bench.bouncer import SELF, VNI, query_frame
from node_agent.bench.pairs import End, Pair
from node_agent.datapath.layout import Limit

SENDER = End(Path("/a"), "eth0", "10.0.0.1", "02:00:00:00:00:01")
RECEIVER = End(Path("/b"), "eth0", "10.0.0.2", "02:00:00:00:00:02")


def test_the_frame_of_a_pair_is_a_whole_udp_packet() -> None:
    raw = frames.udp_frame(Pair("x", "x", SENDER, RECEIVER, "02:00:00:00:00:09"))
    packet = Ether(raw)
    assert len(raw) == frames.FRAME
    assert (packet.src, packet.dst) == (SENDER.mac, "02:00:00:00:00:09")
    assert (packet[IP].src, packet[IP].dst, packet[IP].len) == ("10.0.0.1", "10.0.0.2", frames.FRAME - 14)
    assert (packet[UDP].dport, packet[UDP].len) == (frames.SUNK_PORT, frames.FRAME - 34)
    sum_ = packet[IP].chksum
    del packet[IP].chksum
    assert Ether(bytes(packet))[IP].chksum == sum_


def test_a_query_is_what_hosts_send() -> None:
    raw = query_frame(SENDER.mac, RECEIVER.mac)
    packet = Ether(raw)
    assert len(raw) == 98
    assert packet[IP].dst == SELF and packet[UDP].dport == Limit.WIRE_PORT
    assert packet[VXLAN].vni == VNI and raw[14 + 28 + 1] == 1 << 3
    assert raw[14 + 50 - 2 : 14 + 50] == b"\x08\x00" and raw[14 + 50] == 0x45
