"""Packets of a trace as bytes: the frame that an endpoint would send, and what a frame of the tunnel says. Pure.

Called by `trace` and its neighbours. Layout of the tunnel's header: docs/datapath.md.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from node_agent.datapath.layout import Action, FlowKey, Limit, WireBit, WireFlag, WireType

ICMP, TCP, UDP = 1, 6, 17
GATEWAY_MAC = bytes.fromhex("026d7a000001")
TTL = 64
_ETHERNET = 14
_IPV4 = 0x0800
_SYN, _ACK = 0x02, 0x10


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message of the tunnel. Addresses are text; `target`: where a verdict says the destination lives, "" if it does
    not; `nat`: backend or VIP as "address:port", "" for none."""

    type: WireType
    vni: int
    sender: str
    receiver: str
    asker: str = ""
    target: str = ""
    tag: int = 0
    nat: str = ""
    action: Action | None = None
    attempt: int = 0
    passed: bool = False
    reply: bool = False


def frame(mac: bytes, key: FlowKey, *, first: bool = True) -> bytes:
    """A packet of this flow as its source sends it to its gateway: an echo request, a segment, or a datagram.

    `mac`: the sender's, 6 bytes. Ports of an ICMP flow are the echo's id. `first`: of TCP a SYN, else an ACK.
    """
    src, dst = key.src[-4:], key.dst[-4:]
    payload = b"mizar trace"
    if key.proto == ICMP:
        l4 = struct.pack(">BBHHH", 8, 0, 0, key.sport, 1) + payload
        l4 = l4[:2] + _sum(l4) + l4[4:]
    elif key.proto == TCP:
        l4 = struct.pack(">HHIIBBHHH", key.sport, key.dport, 1, 0, 5 << 4, _SYN if first else _ACK, 64240, 0, 0)
        l4 = l4[:16] + _sum(_pseudo(src, dst, TCP, l4)) + l4[18:]
    else:
        l4 = struct.pack(">HHHH", key.sport, key.dport, 8 + len(payload), 0) + payload
        l4 = l4[:6] + _sum(_pseudo(src, dst, UDP, l4)) + l4[8:]
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(l4), 0, 0x4000, TTL, key.proto, 0, src, dst)
    return GATEWAY_MAC + mac + struct.pack(">H", _IPV4) + ip[:10] + _sum(ip) + ip[12:] + l4


def message(raw: bytes) -> Message | None:
    """The message in a frame of the underlay; None when the frame is none of the tunnel's."""
    if len(raw) < _ETHERNET + Limit.WIRE_BYTES or raw[12:14] != struct.pack(">H", _IPV4):
        return None
    ip, udp, vxlan = raw[14:34], raw[34:42], raw[42:50]
    if ip[9] != UDP or struct.unpack_from(">H", udp, 2)[0] != Limit.WIRE_PORT:
        return None
    first, second = raw[50:56], raw[56:62]
    kind = WireType(vxlan[1] >> 3 & 7) if vxlan[1] >> 3 & 7 in set(WireType) else None
    if kind is None:
        return None
    action = vxlan[2] & WireBit.ACTION_MASK
    allows = kind == WireType.VERDICT and action == Action.ALLOW
    named = allows or kind == WireType.NOT_HERE
    asked = kind == WireType.QUERY or (kind == WireType.VERDICT and not allows)
    return Message(
        type=kind,
        vni=struct.unpack_from(">I", vxlan, 4)[0] >> 8,
        sender=_dotted(ip[12:16]),
        receiver=_dotted(ip[16:20]),
        asker=_dotted(first[2:6]) if asked else "",
        target=_dotted(first[2:6]) if named and any(first[2:6]) else "",
        tag=0 if asked else struct.unpack_from(">H", first)[0],
        nat=f"{_dotted(second[:4])}:{struct.unpack_from('>H', second, 4)[0]}" if vxlan[1] & WireFlag.NATED else "",
        action=Action(action) if kind == WireType.VERDICT and action in set(Action) else None,
        attempt=vxlan[3] >> 1 & 7,
        passed=bool(vxlan[2] & WireBit.PASSED),
        reply=bool(vxlan[1] & WireFlag.REPLY),
    )


def _dotted(raw: bytes) -> str:
    return str(ipaddress.IPv4Address(raw))


def _pseudo(src: bytes, dst: bytes, proto: int, l4: bytes) -> bytes:
    return src + dst + struct.pack(">HH", proto, len(l4)) + l4


def _sum(data: bytes) -> bytes:
    """The internet checksum (RFC 1071) of data whose checksum field is zero."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)
