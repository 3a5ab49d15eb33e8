"""An ASK-ONLY question of the agent's own, as the payload of a datagram to a bouncer's tunnel port. Pure.

Called by `agent.acknowledge`: an endpoint that asks after its own address learns whether that bouncer knows it. The
answer is a verdict like any other; it ends at this host's transit program, which installs the entry of `asked_flow`.
"""

from __future__ import annotations

import ipaddress
import struct

from node_agent.datapath.layout import FlowKey, Limit, WireBit, WireType

UDP = 17
# More than any hop limit: a bouncer that cannot say is not helped by another one, we want to hear this one.
_HOP = 15
_VXLAN_HAS_VNI = 0x08
_ETHERTYPE_IPV4 = 0x0800


def asked_flow(vni: int, address: str, mark: int) -> FlowKey:
    """The flow the question is about: from the address to itself. `mark`: 1..65535, tells questions apart."""
    mapped = ipaddress.IPv6Address(f"::ffff:{address}").packed
    return FlowKey(vni=vni, src=mapped, dst=mapped, sport=mark, dport=mark, proto=UDP)


def question(vni: int, address: str, asker: str, mark: int) -> bytes:
    """VXLAN header, inner Ethernet with the asking host's address in it, and an empty inner UDP packet."""
    host, own = ipaddress.IPv4Address(asker).packed, ipaddress.IPv4Address(address).packed
    vxlan = struct.pack(
        ">BBBBI", _VXLAN_HAS_VNI, Limit.WIRE_VERSION << 6 | WireType.QUERY << 3, WireBit.ASK_ONLY, _HOP << 4, vni << 8
    )
    ethernet = struct.pack(">H4s6xH", 0, host, _ETHERTYPE_IPV4)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0x4000, 64, UDP, 0, own, own)
    checked = ip[:10] + _checksum(ip).to_bytes(2, "big") + ip[12:]
    return vxlan + ethernet + checked + struct.pack(">HHHH", mark, mark, 8, 0)


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
