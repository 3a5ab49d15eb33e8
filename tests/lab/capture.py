"""What hosts really send: every frame that comes out of a host, taken at the fabric's ports, decoded by our own rules.

The decoder is written from docs/datapath.md and uses nothing of the programs, so that the two can disagree.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from node_agent.emulation import fabric, hosts
from node_agent.kernel import netns
from node_agent.model.places import StackPlaces

ETH_P_ALL, ETH_P_IP, ETH_P_ARP = 0x0003, 0x0800, 0x0806
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
SO_RCVBUFFORCE = 33
ETHERNET = 14
OUTER = 50  # bytes between the outer Ethernet header and the inner IP packet
PORT = 4789


class Type(IntEnum):
    DATA = 0
    QUERY = 1
    VERDICT = 2
    NOT_HERE = 3


@dataclass(frozen=True)
class Flow:
    """Of the inner packet. Ports are 0 where there are none."""

    vni: int
    src: str
    dst: str
    proto: int
    sport: int
    dport: int

    @property
    def back(self) -> Flow:
        return Flow(self.vni, self.dst, self.src, self.proto, self.dport, self.sport)


@dataclass(frozen=True)
class Frame:
    """A frame and the name of the host it came out of."""

    host: str
    data: bytes

    @property
    def protocol(self) -> int:
        return int.from_bytes(self.data[12:14], "big")

    @property
    def mac(self) -> str:
        return self.data[6:12].hex(":")

    @property
    def claimed(self) -> str:
        """The IPv4 address that the frame says it is from; "" for neither IPv4 nor ARP."""
        at = {ETH_P_IP: 12, ETH_P_ARP: 14}.get(self.protocol)
        return "" if at is None else socket.inet_ntoa(self.data[ETHERNET + at : ETHERNET + at + 4])


@dataclass(frozen=True)
class Message:
    """A frame of the tunnel. `source`, `target`: outer addresses; `outer`: the 50 bytes, `inner`: the packet in it."""

    frame: Frame
    source: str
    target: str
    type: Type
    vni: int
    passed: bool
    action: int
    attempt: int
    outer: bytes
    inner: bytes

    @property
    def flow(self) -> Flow:
        ip = self.inner
        header, proto = (ip[0] & 15) * 4, ip[9]
        sport, dport = struct.unpack_from("!HH", ip, header) if proto in (6, 17) else (0, 0)
        return Flow(self.vni, socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20]), proto, sport, dport)

    @property
    def leg(self) -> tuple[Type, str, str]:
        return self.type, self.source, self.target

    @property
    def tcp_flags(self) -> int:
        return self.inner[(self.inner[0] & 15) * 4 + 13]


class Capture:
    """Listens from its making on. `addresses`: host -> underlay address."""

    def __init__(self, places: StackPlaces, addresses: Mapping[str, str]) -> None:
        self._ports = {hosts.port_name(name): name for name in addresses}
        with netns.enter(places.netns_path(fabric.NAME)):
            # One socket for all ports keeps the order; what the bridge sends on is the same frame again.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        self._socket.setblocking(False)
        self.frames: list[Frame] = []

    def close(self) -> None:
        self._socket.close()

    def take(self) -> list[Message]:
        """The tunnel's messages since the last call. A frame is here before its receiver can have it."""
        taken = []
        while True:
            try:
                data, (port, *_) = self._socket.recvfrom(1 << 17)
            except BlockingIOError:
                break
            if port in self._ports:
                taken.append(Frame(self._ports[port], data))
        self.frames += taken
        return [message for frame in taken if (message := decode(frame))]

    def of(self, flow: Flow) -> list[Message]:
        """Those of `take` that carry this flow, in either direction."""
        return [message for message in self.take() if message.flow in (flow, flow.back)]


def decode(frame: Frame) -> Message | None:
    """The tunnel's message in a frame; None: it carries none. Raises AssertionError for one that breaks the rules."""
    ip = frame.data[ETHERNET:]
    if frame.protocol != ETH_P_IP or ip[9] != 17 or int.from_bytes(ip[22:24], "big") != PORT:
        return None
    outer, inner = ip[:OUTER], ip[OUTER:]
    assert (outer[0], outer[6:8], outer[26:28]) == (0x45, b"\x40\0", b"\0\0"), "IPv4 without options, DF, no UDP sum"
    assert outer[28] == 0x08 and outer[29] >> 6 == 0, "VXLAN with a VNI, version 0"
    assert outer[48:50] == b"\x08\x00" and inner[0] >> 4 == 4, "8 bytes of VXLAN, then an Ethernet frame of IPv4"
    return Message(
        frame,
        socket.inet_ntoa(outer[12:16]),
        socket.inet_ntoa(outer[16:20]),
        Type(outer[29] >> 3 & 7),
        int.from_bytes(outer[32:35], "big"),
        bool(outer[30] & 0x40),
        outer[30] & 0x0F,
        outer[31] >> 1 & 7,
        outer,
        inner,
    )
