"""A network of hosts that are only programs and maps: packets walk from one BPF_PROG_TEST_RUN to the next.

Each Host has its own pinned maps and loaded programs; `Net.walk` takes a frame that an endpoint sends and carries it
from host to host until an endpoint gets it or a program drops it. What was decided on the way is in the returned Walk.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field
from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from node_agent.datapath import libbpf, programs
from node_agent.datapath.layout import (
    Config,
    DropReason,
    EndpointKey,
    EndpointRow,
    FlowEntry,
    FlowKey,
    Limit,
    LocalRow,
    PortKey,
    PortRow,
    Prefix,
    RouteKey,
    RouteRow,
    ServingRow,
    SubnetKey,
    SubnetRow,
    VpcKey,
    VpcRow,
    WireType,
)
from node_agent.datapath.maps import HostMaps, counted_events

Drops = dict[tuple[int, DropReason], int]
TC_OK, TC_SHOT, TC_REDIRECT, TC_UNSPEC = 0, 2, 7, 0xFFFFFFFF
XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3
GATEWAY_MAC = "02:6d:7a:00:00:01"
UPLINK = 99  # test runs never look the device up
HZ = 1000  # only an order of magnitude: tests that need time to pass change the config


def ip_int(text: str) -> int:
    return int(ipaddress.IPv4Address(text))


def mapped(text: str) -> bytes:
    return ipaddress.IPv6Address(f"::ffff:{text}").packed


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def check_outer(ether: Ether) -> None:
    """The outer headers are as they would be if scapy had made them."""
    fixed = Ether(bytes(ether))
    del fixed[IP].chksum, fixed[IP].len, fixed[UDP].len
    fixed = Ether(bytes(fixed))
    assert (ether[IP].chksum, ether[IP].len, ether[UDP].len, ether[UDP].chksum) == (
        fixed[IP].chksum,
        fixed[IP].len,
        fixed[UDP].len,
        0,
    )


@dataclass(frozen=True)
class Endpoint:
    """`tag` as in the contract: bit 8 clear. `port`: ifindex of an existing device of the test's namespace."""

    name: str
    vni: int
    address: str
    subnet: str
    gateway: str
    tag: int
    port: int

    @property
    def mac(self) -> str:
        return f"02:00:00:00:{self.tag >> 8:02x}:{self.tag & 0xFF:02x}"


@dataclass
class Hop:
    host: str
    program: str
    code: int
    type: WireType | None


@dataclass
class Walk:
    """How a packet fared: `delivered` is the endpoint's name, `dropped` the reason, `reply` what came straight back."""

    hops: list[Hop] = field(default_factory=list)
    delivered: str = ""
    frame: bytes = b""
    dropped: DropReason | None = None
    reply: bytes = b""

    @property
    def wire(self) -> list[tuple[str, WireType]]:
        """(sending host, message) of everything that went over the wire."""
        return [(h.host, h.type) for h in self.hops if h.type is not None]


class Host:
    def __init__(self, name: str, address: str, pins: Path, objects: Path, xdp: bool = True) -> None:
        self.name, self.address, self.xdp = name, address, xdp
        self.programs = programs.ensure_loaded(objects, pins)
        self.maps = HostMaps(pins / "maps")
        self.locals: dict[str, Endpoint] = {}
        self.slots: dict[int, int] = {}
        self.configure()

    def configure(self, **changes: int) -> None:
        values: dict[str, int] = {
            "self": ip_int(self.address),
            "uplink": UPLINK,
            "hop_limit": 8,
            "fresh": 30 * HZ,
            "idle_tcp": 3600 * HZ,
            "idle_closed": 10 * HZ,
            "idle_udp": 180 * HZ,
            "idle_icmp": 30 * HZ,
            "pending": 60 * HZ,
            "negative": HZ,
            "pending_packets": 64,
            "pending_bytes": 256000,
            "fragment": 2 * HZ,
        }
        row = Config(
            **(values | changes),
            underlay=(
                Prefix(address=ip_int("198.18.0.0"), mask=0xFFFF0000),
                *(Prefix(),) * (Limit.UNDERLAY_PREFIXES - 1),
            ),
        )
        self.maps.put("config", {bytes(4): row.pack()})

    def close(self) -> None:
        self.maps.close()
        self.programs.close()

    # --- rows, written by hand: what the agent's rows should be is another test's business ---

    def vpc(self, vni: int, members: list[str], ask: int = 0xFFFF, accept: int = 0xFFFF) -> None:
        addresses = [ip_int(m) for m in members]
        real = (1 << len(members)) - 1
        row = VpcRow(
            slot=self._slot(vni),
            ask=ask & real,
            accept=accept & real,
            members=tuple(addresses + [0] * (Limit.SET_PLACES - len(addresses))),
        )
        self.maps.put("vpcs", {VpcKey(vni=vni).pack(): row.pack()})

    def _slot(self, vni: int) -> int:
        if vni not in self.slots:
            self.slots[vni] = len(self.slots) + 1
            self.maps.ensure_flow_table(self.slots[vni], 1024)
        return self.slots[vni]

    def subnet(self, vni: int, subnet: str, mask: int) -> None:
        key = SubnetKey(vni=vni, subnet=ip_int(subnet))
        self.maps.put("subnets", {key.pack(): SubnetRow(bouncers=mask).pack()})

    def route(self, vni: int, subnet: str, length: int) -> None:
        key = RouteKey(prefixlen=32 + 96 + length, vni=vni, addr=mapped(subnet))
        self.maps.put("routes", {key.pack(): RouteRow(subnet=ip_int(subnet)).pack()})

    def serve(self, vni: int, subnet: str = "0.0.0.0", on: bool = True) -> None:
        key = SubnetKey(vni=vni, subnet=ip_int(subnet)).pack()
        if on:
            self.maps.put("serving", {key: ServingRow().pack()})
        else:
            self.maps.delete("serving", [key])

    def knows(self, e: Endpoint, host: str, tag: int | None = None) -> None:
        row = EndpointRow(host=ip_int(host), subnet=ip_int(e.subnet), tag=e.tag if tag is None else tag)
        self.maps.put("endpoints", {EndpointKey(vni=e.vni, addr=mapped(e.address)).pack(): row.pack()})

    def holds(self, e: Endpoint) -> None:
        self.locals[e.name] = e
        slot, mac = self._slot(e.vni), mac_bytes(e.mac)
        local = LocalRow(ifindex=e.port, slot=slot, subnet=ip_int(e.subnet), mac=mac, tag=e.tag)
        port = PortRow(
            vni=e.vni,
            slot=slot,
            addr=mapped(e.address),
            subnet=ip_int(e.subnet),
            gateway=ip_int(e.gateway),
            mac=mac,
            tag=e.tag,
        )
        self.maps.put("locals", {EndpointKey(vni=e.vni, addr=mapped(e.address)).pack(): local.pack()})
        self.maps.put("ports", {PortKey(ifindex=e.port).pack(): port.pack()})

    def loses(self, e: Endpoint, moved_to: str = "") -> None:
        self.locals.pop(e.name)
        key = EndpointKey(vni=e.vni, addr=mapped(e.address)).pack()
        self.maps.delete("ports", [PortKey(ifindex=e.port).pack()])
        if moved_to:
            self.maps.put("locals", {key: LocalRow(moved_to=ip_int(moved_to), tag=e.tag).pack()})
        else:
            self.maps.delete("locals", [key])

    # --- running and reading ---

    def run(self, program: str, frame: bytes, ifindex: int = 1) -> libbpf.TestResult:
        context = b""
        if program != programs.TRANSIT_XDP:
            skb = bytearray(192)
            struct.pack_into("=I", skb, 40, ifindex)  # struct __sk_buff, ifindex
            context = bytes(skb)
        return libbpf.test_run(self.programs[program].fd, frame, context)

    def flows(self, vni: int) -> dict[FlowKey, FlowEntry]:
        rows = self.maps.read_flows(self.slots[vni]) if vni in self.slots else {}
        return {FlowKey.unpack(k): FlowEntry.unpack(v) for k, v in rows.items()}

    def events(self) -> dict[str, int]:
        return {c.name.removeprefix("COUNTER_"): n for c, n in counted_events(self.maps.read("counters")).items() if n}


class Net:
    def __init__(self, hosts: list[Host]) -> None:
        self.hosts = {h.address: h for h in hosts}
        self.endpoints: dict[str, tuple[Host, Endpoint]] = {}

    def place(self, e: Endpoint, host: Host) -> None:
        host.holds(e)
        self.endpoints[e.name] = (host, e)

    def frame(self, sender: str, payload: object) -> bytes:
        """The Ethernet frame in which this endpoint sends an IP packet."""
        return bytes(Ether(src=self.endpoints[sender][1].mac, dst=GATEWAY_MAC) / payload)

    def walk(self, sender: str, payload: object) -> Walk:
        host, e = self.endpoints[sender]
        return self._carry(host, programs.ENDPOINT_TC, self.frame(sender, payload), e.port)

    def arrive(self, at: Host, frame: bytes) -> Walk:
        """Inject a frame of the wire at a host's uplink."""
        return self._carry(at, programs.TRANSIT_XDP if at.xdp else programs.TRANSIT_TC, frame, 1)

    def _carry(self, host: Host, program: str, frame: bytes, ifindex: int) -> Walk:
        walk = Walk()
        for _ in range(80):  # nine rounds of query and not-here are the longest legal way
            before = host.maps.drops()
            result = host.run(program, frame, ifindex)
            hop = Hop(host.name, program, result.code, None)
            walk.hops.append(hop)
            if result.code == XDP_PASS and program == programs.TRANSIT_XDP:
                program, frame = programs.TRANSIT_TC, result.data
                continue
            if result.code not in (TC_REDIRECT, XDP_TX):
                walk.dropped = self._reason(before, host.maps.drops())
                return walk
            frame = result.data
            ether = Ether(frame)
            if not (ether.haslayer(UDP) and ether[UDP].dport == Limit.WIRE_PORT and ether[IP].src in self.hosts):
                self._finish(walk, host, frame, program, ifindex)
                return walk
            assert ether[IP].src == host.address, "a host sent another host's address"
            check_outer(ether)
            hop.type = WireType(frame[14 + 28 + 1] >> 3 & 7)
            host = self.hosts[ether[IP].dst]
            program, ifindex = (programs.TRANSIT_XDP if host.xdp else programs.TRANSIT_TC), 1
        raise AssertionError(f"the packet goes round and round: {walk.wire}")

    def _finish(self, walk: Walk, host: Host, frame: bytes, program: str, ifindex: int) -> None:
        walk.frame = frame
        for e in host.locals.values():
            if frame[:6] == mac_bytes(e.mac):
                if program == programs.ENDPOINT_TC and e.port == ifindex:
                    walk.reply = frame
                else:
                    walk.delivered = e.name
                return
        raise AssertionError(f"{host.name} handed a frame to nobody: {Ether(frame).summary()}")

    @staticmethod
    def _reason(before: Drops, after: Drops) -> DropReason | None:
        risen = [reason for (vni, reason), n in after.items() if n > before.get((vni, reason), 0)]
        assert len(risen) <= 1, f"one packet counted as several drops: {risen}"
        return risen[0] if risen else None
