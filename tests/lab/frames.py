"""Frames made by hand, sent out of a pod's interface or a host's uplink. Nothing here comes from the programs."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from node_agent.kernel import netns

GATEWAY_MAC = "02:6d:7a:00:00:01"
SINK = 9000


def raw(where: Path, interface: str = "eth0") -> socket.socket:
    """Sends whole frames out of the interface."""
    with netns.enter(where):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sock.bind((interface, 0))
    return sock


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ethernet(source: str, kind: int, target: str = GATEWAY_MAC) -> bytes:
    return mac(target) + mac(source) + kind.to_bytes(2, "big")


def ip(source: str, target: str, payload: bytes, proto: int = 17, ttl: int = 64) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, ttl, proto, 0)
    head += socket.inet_aton(source) + socket.inet_aton(target)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[12:] + payload


def udp(data: bytes, sport: int = 4000, dport: int = SINK) -> bytes:
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def arp(operation: int, sender: str, sender_mac: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return head + mac(sender_mac) + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target)
