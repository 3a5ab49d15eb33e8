"""bench.bpf.o: frames by live test runs, what swallows and counts them. Called by `scenarios`, `bouncer`, `rivals`.

A live frame never was a socket's: it is written by a program, leaves by a device, and costs what the path costs. All of
it happens on the CPU of the calling thread, which is pinned meanwhile.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from node_agent.bench.bed import cpus
from node_agent.bench.pairs import Pair
from node_agent.datapath import elements, libbpf
from node_agent.datapath.layout import Limit
from node_agent.kernel import filters, links, netns

FRAME, ROOM = 64, 104  # bytes of a frame; bytes that settings hold
SOURCE_PORT, SUNK_PORT = 40000, 9
WARM = 50_000  # frames before the ones that count; they also find out how long the others will take
FRAMES, VERDICTS, OTHERS = 0, 1, 2  # enum count
_SETTINGS = struct.Struct(f"=6I2sH4x{ROOM}s")
_PEER = struct.Struct("=II6s2x")


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Where an address lives: `remote` host as a number, or 0 and a device (ifindex) here with the endpoint's MAC."""

    remote: int = 0
    device: int = 0
    mac: str = "00:00:00:00:00:00"


class Frames:
    """One load of the object: maps of its own, closed with it; what is attached lives on with its device."""

    def __init__(self, programs: Path) -> None:
        self._object = libbpf.load(programs / "bench.bpf.o")
        self._programs, self._maps = self._object.programs(), self._object.maps()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._object.close()

    def program(self, name: str) -> int:
        """Its descriptor, valid until the end."""
        return self._programs[name]

    def configure(
        self, *, out: int = 0, redirect: bool = False, endpoints: int = 1, stride: int = 1, base: int = 0,
        askers: int = 0, vni: int = 0, frame: bytes = b"",
    ) -> None:  # fmt: skip
        """struct settings of bench.bpf.c; addresses as numbers."""
        sunk = SUNK_PORT.to_bytes(2, "big")
        value = _SETTINGS.pack(out, redirect, endpoints, stride, base, askers, sunk, vni, frame.ljust(ROOM, b"\0"))
        elements.update(self._maps["settings"], bytes(4), value)

    def know(self, peers: Mapping[str, Peer]) -> None:
        for address, peer in peers.items():
            value = _PEER.pack(peer.remote, peer.device, mac_bytes(peer.mac))
            elements.update(self._maps["peers"], ipaddress.IPv4Address(address).packed, value)

    def counted(self, which: int) -> int:
        """Frames counted by the sinks so far."""
        size = 8 * libbpf.possible_cpus()
        value = elements.lookup(self._maps["counts"], which.to_bytes(4, "little"), size) or bytes(size)
        return sum(struct.unpack(f"={size // 8}Q", value))

    def send(self, name: str, number: int) -> float:
        """So many live frames of that generator, in the namespace of the thread; returns seconds."""
        began = time.monotonic()
        libbpf.test_run(self._programs[name], bytes(ROOM), repeat=number, flags=libbpf.TEST_LIVE_FRAMES)
        return time.monotonic() - began

    def rate(self, name: str, which: int, seconds: float) -> float:
        """Millions a second that arrive at the sinks as `which`, over about so many seconds."""
        warm = self.send(name, WARM)
        before = self.counted(which)
        passed = self.send(name, max(WARM, int(WARM * seconds / warm)))
        return (self.counted(which) - before) / passed / 1e6


def through(frames: Frames, pair: Pair, seconds: float) -> float:
    """Millions of small UDP frames a second that one core carries from the sender's device to the receiver's."""
    with links.opened(pair.sender.netns) as net:
        out = net.need(pair.sender.device).index
    frames.configure(out=out, frame=udp_frame(pair))
    with links.opened(pair.receiver.netns) as net:
        filters.attach(net, pair.receiver.device, "ingress", frames.program("sink_frames"), "sink_frames")
        try:
            with netns.enter(pair.sender.netns), pinned():
                return frames.rate("send_frame", FRAMES, seconds)
        finally:
            filters.detach(net, pair.receiver.device, "ingress")


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """The calling thread stays on one CPU for the length of the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpus()[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def udp_frame(pair: Pair) -> bytes:
    """An Ethernet frame of FRAME bytes from one end to the other."""
    return mac_bytes(pair.next_hop) + mac_bytes(pair.sender.mac) + b"\x08\x00" + udp_packet(
        ipaddress.IPv4Address(pair.sender.address).packed,
        ipaddress.IPv4Address(pair.receiver.address).packed,
        FRAME - 14,
        (SOURCE_PORT, SUNK_PORT),
    )  # fmt: skip


def udp_packet(source: bytes, destination: bytes, length: int, ports: tuple[int, int]) -> bytes:
    """IPv4 and UDP (without a checksum) around zeros, `length` bytes in all."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0x4000, 64, 17, 0, source, destination)
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    udp: bytes = struct.pack("!HHHH", *ports, length - 20, 0)
    packet: bytes = ip[:10] + total.to_bytes(2, "big") + ip[12:] + udp
    return packet.ljust(length, b"\0")


def tunnelled(inner: bytes, vni: int, destination: bytes, head: int) -> bytes:
    """The message around an inner packet, from the outer IP header on; `head`: version, type and flags."""
    length = len(inner) + Limit.WIRE_BYTES
    outer = udp_packet(bytes(4), destination, length, (Limit.WIRE_PORT_BASE, Limit.WIRE_PORT))[:28]
    vxlan = struct.pack("!BBBBI", 0x08, head, 0, 0, vni << 8)
    return outer + vxlan + bytes(12) + b"\x08\x00" + inner
