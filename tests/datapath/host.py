"""One host that is only programs and maps, with rows that tests write into them by hand. Used by `walk` and tests."""

from __future__ import annotations

import errno
import ipaddress
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node_agent.datapath import elements, inner, libbpf, programs
from node_agent.datapath.layout import (
    MAPS,
    BackendFlag,
    BackendKey,
    BackendRow,
    Config,
    DropKey,
    EgressKey,
    EgressRow,
    EndpointKey,
    EndpointRow,
    FlowEntry,
    FlowKey,
    Limit,
    ListedKey,
    ListedRow,
    LocalRow,
    MaglevKey,
    MaglevRow,
    NatEntry,
    PortKey,
    PortRow,
    Prefix,
    RouteKey,
    RouteRow,
    ServiceKey,
    ServiceRow,
    ServingRow,
    SubnetKey,
    SubnetRow,
    VpcKey,
    VpcRow,
)
from node_agent.datapath.library import BpfError
from node_agent.datapath.maps import HostMaps, counted_events
from node_agent.datapath.record import Record

UPLINK = 99  # test runs never look the device up
HZ = 1000  # only an order of magnitude: tests that need time to pass change the config


def ip_int(text: str) -> int:
    return int(ipaddress.IPv4Address(text))


def mapped(text: str) -> bytes:
    return ipaddress.IPv6Address(f"::ffff:{text}").packed


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


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


class Host:
    """Programs and maps of one host; `locals`: the endpoints that live on it, by name; `slots`: VNI -> slot."""

    def __init__(self, name: str, address: str, pins: Path, objects: Path, xdp: bool = True) -> None:
        self.name, self.address, self.xdp = name, address, xdp
        self.programs = programs.ensure_loaded(objects, pins)
        self._pins = pins / "maps"
        self.maps = HostMaps(self._pins)
        self.reset()

    def reset(self) -> None:
        """Empty maps and a config: what a new host would have, without loading the programs again."""
        self.locals: dict[str, Endpoint] = {}
        self.slots: dict[int, int] = {}
        for name in MAPS.keys() - {"config", "counters"}:
            self.maps.delete(name, list(self.maps.read(name)))
        self._counted = self._counts()
        self.configure()

    def configure(self, **changes: int) -> None:
        values: dict[str, int] = {
            "self": ip_int(self.address),
            "uplink": UPLINK,
            "mtu": 1500,
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
            "reask": HZ,
            "renew": HZ,
            "skip": 5 * HZ,
            "busy": HZ,
            "dead_queries": 8,
            "query_burst": 20000,
            "query_rate": 256 * 20,
            "busy_rate": 0,
            "busy_burst": 0,
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
            self.maps.ensure_flow_tables({self.slots[vni]: 1024})
        return self.slots[vni]

    def subnet(self, vni: int, subnet: str, mask: int) -> None:
        key = SubnetKey(vni=vni, subnet=ip_int(subnet))
        self.maps.put("subnets", {key.pack(): SubnetRow(bouncers=mask, mask=0xFFFFFF00).pack()})

    def route(self, vni: int, subnet: str, length: int) -> None:
        key = RouteKey(prefixlen=32 + 96 + length, vni=vni, addr=mapped(subnet))
        self.maps.put("routes", {key.pack(): RouteRow(subnet=ip_int(subnet)).pack()})

    def serve(self, vni: int, subnet: str = "0.0.0.0", on: bool = True, stale: bool = False) -> None:
        key = SubnetKey(vni=vni, subnet=ip_int(subnet)).pack()
        if on:
            self.maps.put("serving", {key: ServingRow(stale=int(stale)).pack()})
        else:
            self.maps.delete("serving", [key])

    def knows(self, e: Endpoint, host: str, tag: int | None = None) -> None:
        row = EndpointRow(host=ip_int(host), subnet=ip_int(e.subnet), tag=e.tag if tag is None else tag)
        self.maps.put("endpoints", {EndpointKey(vni=e.vni, addr=mapped(e.address)).pack(): row.pack()})

    def service(
        self,
        vni: int,
        vip: str,
        port: int,
        backends: list[tuple[str, int]],
        proto: int = 6,
        affinity: bool = False,
        serving: list[tuple[str, int]] | None = None,
        egress: bool = False,
    ) -> None:
        """A service with these backends, slot by slot in turn; `serving` ones keep what they have, too. `egress`: all
        are outside of every VPC."""
        flags = BackendFlag.EGRESS if egress else 0
        if proto != 1:
            self.service(vni, vip, 0, [], proto=1)
        key = ServiceKey(vni=vni, vip=ip_int(vip), port=port, proto=proto)
        slots, rows = {}, {}
        for slot in range(Limit.MAGLEV_SIZE if backends else 0):
            addr, target = backends[slot % len(backends)]
            slot_key = MaglevKey(vni=vni, vip=ip_int(vip), port=port, proto=proto, slot=slot)
            slots[slot_key.pack()] = MaglevRow(addr=ip_int(addr), port=target, flags=flags).pack()
        for addr, target in [*backends, *(serving or [])]:
            for at, at_port in ((ip_int(vip), port), *([] if egress else [(0, 0)])):
                row = BackendKey(vni=vni, addr=ip_int(addr), vip=at, port=target, vip_port=at_port, proto=proto)
                rows[row.pack()] = BackendRow(flags=flags).pack()
        self.maps.delete("backends", [k for k in self.maps.read("backends") if BackendKey.unpack(k).proto == proto])
        self.maps.put("maglev", slots)
        self.maps.put("backends", rows)
        size = Limit.MAGLEV_SIZE if backends else 0
        self.maps.put("services", {key.pack(): ServiceRow(size=size, flags=int(affinity)).pack()})

    def lists(self, address: str, port: int, proto: int = 6, local: bool = False) -> None:
        """Endpoints here may reach this address outside of every VPC."""
        key = ListedKey(addr=ip_int(address), port=port, proto=proto)
        self.maps.put("listed", {key.pack(): ListedRow(local=int(local)).pack()})

    def unlists(self) -> None:
        self.maps.delete("listed", list(self.maps.read("listed")))

    def egress(self) -> dict[EgressKey, EgressRow]:
        return {EgressKey.unpack(k): EgressRow.unpack(v) for k, v in self.maps.read("egress").items()}

    def put_egress(self, rows: dict[EgressKey, EgressRow]) -> None:
        """Overwrite rows: how a test makes time pass for them."""
        self.maps.put("egress", {k.pack(): v.pack() for k, v in rows.items()})

    def nats(self, vni: int) -> dict[FlowKey, NatEntry]:
        rows = self.maps.read_nats(self.slots[vni])
        return {FlowKey.unpack(k): NatEntry.unpack(v) for k, v in rows.items()}

    def lose_nats(self, vni: int) -> None:
        """As if every NAT pair had been evicted."""
        self.maps.delete_nats(self.slots[vni], list(self.maps.read_nats(self.slots[vni])))

    def forgets(self, e: Endpoint) -> None:
        self.maps.delete("endpoints", [EndpointKey(vni=e.vni, addr=mapped(e.address)).pack()])

    def holds(self, e: Endpoint) -> None:
        self.locals[e.name] = e
        slot, mac = self._slot(e.vni), mac_bytes(e.mac)
        local = LocalRow(
            ifindex=e.port, slot=slot, subnet=ip_int(e.subnet), gateway=ip_int(e.gateway), mac=mac, tag=e.tag
        )
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

    def fill_drops(self) -> None:
        """No room for another row."""
        fd = libbpf.get(self._pins / "drops")
        assert fd is not None
        try:
            for n in range(MAPS["drops"].max_entries + 1):
                elements.update(fd, DropKey(vni=1 << 24 | n).pack(), bytes(8 * libbpf.possible_cpus()))
        except BpfError as error:
            assert error.code == errno.E2BIG
        finally:
            os.close(fd)

    # --- running and reading ---

    def run(self, program: str, frame: bytes, ifindex: int = 1, mark: int = 0, segment: int = 0) -> libbpf.TestResult:
        """`segment`: the frame is a super-packet of segments with so many bytes each, their headers apart."""
        context = b""
        if program != programs.TRANSIT_XDP:
            skb = bytearray(192)
            struct.pack_into("=I", skb, 8, mark)  # struct __sk_buff
            struct.pack_into("=I", skb, 40, ifindex)
            struct.pack_into("=I", skb, 176, segment)
            context = bytes(skb)
        return libbpf.test_run(self.programs[program].fd, frame, context)

    def flows(self, vni: int) -> dict[FlowKey, FlowEntry]:
        rows = self.maps.read_flows(self.slots[vni]) if vni in self.slots else {}
        return {FlowKey.unpack(k): FlowEntry.unpack(v) for k, v in rows.items()}

    def put_flows(self, vni: int, flows: dict[FlowKey, FlowEntry]) -> None:
        """Overwrite entries: how a test makes time pass for them."""
        self._overwrite("flows", vni, flows)

    def put_nats(self, vni: int, nats: dict[FlowKey, NatEntry]) -> None:
        self._overwrite("nats", vni, nats)

    def _overwrite(self, table: str, vni: int, flows: Mapping[FlowKey, Record]) -> None:
        with inner.tables(self._pins, table) as fds:
            for key, entry in flows.items():
                elements.update(fds[self.slots[vni]], key.pack(), entry.pack())

    def _counts(self) -> dict[str, int]:
        return {c.name: n for c, n in counted_events(self.maps.read("counters")).items()}

    def events(self) -> dict[str, int]:
        """What was counted since the last reset."""
        return {name: n - self._counted[name] for name, n in self._counts().items() if n != self._counted[name]}
