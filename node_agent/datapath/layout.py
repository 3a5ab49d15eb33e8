"""GENERATED from bpf/include/abi.h and maps.h by tools/gen_layout.py: change those and run `make generate`.

Records of the maps, enums of the wire and of the counters, and the maps themselves.  Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from node_agent.datapath.record import Field, MapSpec, Record


class Action(IntEnum):
    NONE = 0
    ALLOW = 1
    DENY = 2
    UNKNOWN = 3
    NOT_SERVING = 4
    RETRY = 5
    BUSY = 6
    HERE = 7
    KEEP = 8
    GONE = 9
    EGRESS = 10


class AskedState(IntEnum):
    PENDING = 1
    NEGATIVE = 2
    DENIED = 3


class ConfigFlag(IntEnum):
    XDP_REDIRECT = 1


class Counter(IntEnum):
    QUERIES_SENT = 0
    QUERIES_ANSWERED_XDP = 1
    QUERIES_ANSWERED_TC = 2
    QUERIES_ANSWERED_LOCAL = 3
    QUERIES_PASSED = 4
    VERDICTS_APPLIED = 5
    ENTRIES_ASKED = 6
    ENTRIES_LEARNED = 7
    DATA_SENT = 8
    DATA_RECEIVED = 9
    DELIVERED = 10
    NOT_HERE_SENT = 11
    NOT_HERE_RECEIVED = 12
    GATEWAY_REPLIES = 13
    COUNT = 14


class DropReason(IntEnum):
    NONE = 0
    MALFORMED = 1
    UNSUPPORTED_PROTOCOL = 2
    MULTICAST = 3
    NO_ENDPOINT = 4
    SOURCE_ADDRESS = 5
    SOURCE_MAC = 6
    SOURCE_ARP = 7
    TTL = 8
    FRAGMENT_UNKNOWN = 9
    ICMP_ERROR_NO_FLOW = 10
    NO_VPC = 11
    NO_BOUNCER = 12
    NO_ANSWER = 13
    HOP_LIMIT = 14
    PENDING_BUDGET = 15
    UNKNOWN_DESTINATION = 16
    DENIED = 17
    UNKNOWN_VERSION = 18
    UNKNOWN_TYPE = 19
    UNKNOWN_ACTION = 20
    UNTRUSTED = 21
    ASKER_MISMATCH = 22
    STRAY_VERDICT = 23
    ENCAPSULATION = 24
    OUTER_HEADER = 25
    CONGESTION_MARK = 26
    NO_CONFIG = 27
    COUNT = 28


class FlowFlag(IntEnum):
    ASKED = 1
    LEARNED = 2
    NATED = 4
    CLOSING = 8
    STALE = 16


class Limit(IntEnum):
    WIRE_PORT = 4789
    WIRE_VERSION = 0
    WIRE_BYTES = 50
    WIRE_PORTS = 1024
    WIRE_PORT_BASE = 49152
    SET_PLACES = 16
    UNDERLAY_PREFIXES = 8
    TAG_MASK = 65279


class Scope(IntEnum):
    EXACT = 0


class WireBit(IntEnum):
    ACTION_MASK = 15
    SCOPE_MASK = 48
    PASSED = 64
    ASK_ONLY = 128


class WireFlag(IntEnum):
    STALE = 1
    REPLY = 2
    NATED = 4


class WireType(IntEnum):
    DATA = 0
    QUERY = 1
    VERDICT = 2
    NOT_HERE = 3


@dataclass(frozen=True, kw_only=True)
class Prefix(Record):
    SIZE: ClassVar[int] = 8
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("address", 0, ">I"),
        Field("mask", 4, ">I"),
    )
    address: int = 0
    mask: int = 0


@dataclass(frozen=True, kw_only=True)
class AskedEntry(Record):
    SIZE: ClassVar[int] = 16
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("since", 0, "=I"),
        Field("bytes", 4, "=I"),
        Field("packets", 8, "=I"),
        Field("state", 12, "=B"),
        Field("attempt", 13, "=B"),
        Field("owner_tag", 14, ">H"),
    )
    since: int = 0
    bytes: int = 0
    packets: int = 0
    state: int = 0
    attempt: int = 0
    owner_tag: int = 0


@dataclass(frozen=True, kw_only=True)
class Config(Record):
    SIZE: ClassVar[int] = 120
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("self", 0, ">I"),
        Field("uplink", 4, "=I"),
        Field("flags", 8, "=I"),
        Field("hop_limit", 12, "=I"),
        Field("fresh", 16, "=I"),
        Field("idle_tcp", 20, "=I"),
        Field("idle_closed", 24, "=I"),
        Field("idle_udp", 28, "=I"),
        Field("idle_icmp", 32, "=I"),
        Field("pending", 36, "=I"),
        Field("negative", 40, "=I"),
        Field("pending_packets", 44, "=I"),
        Field("pending_bytes", 48, "=I"),
        Field("fragment", 52, "=I"),
        Field("underlay", 56, "", 8, Prefix),
    )
    self: int = 0
    uplink: int = 0
    flags: int = 0
    hop_limit: int = 0
    fresh: int = 0
    idle_tcp: int = 0
    idle_closed: int = 0
    idle_udp: int = 0
    idle_icmp: int = 0
    pending: int = 0
    negative: int = 0
    pending_packets: int = 0
    pending_bytes: int = 0
    fragment: int = 0
    underlay: tuple[Prefix, ...] = (Prefix(),) * 8


@dataclass(frozen=True, kw_only=True)
class DropKey(Record):
    SIZE: ClassVar[int] = 8
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
        Field("reason", 4, "=I"),
    )
    vni: int = 0
    reason: int = 0


@dataclass(frozen=True, kw_only=True)
class EndpointKey(Record):
    SIZE: ClassVar[int] = 20
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
        Field("addr", 4, "16s"),
    )
    vni: int = 0
    addr: bytes = bytes(16)


@dataclass(frozen=True, kw_only=True)
class EndpointRow(Record):
    SIZE: ClassVar[int] = 16
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("host", 0, ">I"),
        Field("subnet", 4, ">I"),
        Field("tag", 8, ">H"),
        Field("identity", 10, ">H"),
        Field("flags", 12, "=I"),
    )
    host: int = 0
    subnet: int = 0
    tag: int = 0
    identity: int = 0
    flags: int = 0


@dataclass(frozen=True, kw_only=True)
class FlowEntry(Record):
    SIZE: ClassVar[int] = 24
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("host", 0, ">I"),
        Field("peer_tag", 4, ">H"),
        Field("owner_tag", 6, ">H"),
        Field("confirmed", 8, "=I"),
        Field("seen", 12, "=I"),
        Field("asked", 16, "=I"),
        Field("flags", 20, "=B"),
        Field("unanswered", 21, "=B"),
        Field("scope", 22, "=B"),
        Field("life", 23, "=B"),
    )
    host: int = 0
    peer_tag: int = 0
    owner_tag: int = 0
    confirmed: int = 0
    seen: int = 0
    asked: int = 0
    flags: int = 0
    unanswered: int = 0
    scope: int = 0
    life: int = 0


@dataclass(frozen=True, kw_only=True)
class FlowKey(Record):
    SIZE: ClassVar[int] = 44
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
        Field("src", 4, "16s"),
        Field("dst", 20, "16s"),
        Field("sport", 36, ">H"),
        Field("dport", 38, ">H"),
        Field("proto", 40, "=B"),
    )
    vni: int = 0
    src: bytes = bytes(16)
    dst: bytes = bytes(16)
    sport: int = 0
    dport: int = 0
    proto: int = 0


@dataclass(frozen=True, kw_only=True)
class FragmentKey(Record):
    SIZE: ClassVar[int] = 40
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
        Field("src", 4, "16s"),
        Field("dst", 20, "16s"),
        Field("id", 36, ">H"),
        Field("proto", 38, "=B"),
    )
    vni: int = 0
    src: bytes = bytes(16)
    dst: bytes = bytes(16)
    id: int = 0
    proto: int = 0


@dataclass(frozen=True, kw_only=True)
class FragmentRow(Record):
    SIZE: ClassVar[int] = 8
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("sport", 0, ">H"),
        Field("dport", 2, ">H"),
        Field("seen", 4, "=I"),
    )
    sport: int = 0
    dport: int = 0
    seen: int = 0


@dataclass(frozen=True, kw_only=True)
class LocalRow(Record):
    SIZE: ClassVar[int] = 24
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("ifindex", 0, "=I"),
        Field("slot", 4, "=I"),
        Field("subnet", 8, ">I"),
        Field("moved_to", 12, ">I"),
        Field("mac", 16, "6s", 6),
        Field("tag", 22, ">H"),
    )
    ifindex: int = 0
    slot: int = 0
    subnet: int = 0
    moved_to: int = 0
    mac: bytes = bytes(6)
    tag: int = 0


@dataclass(frozen=True, kw_only=True)
class PortKey(Record):
    SIZE: ClassVar[int] = 4
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("ifindex", 0, "=I"),
    )
    ifindex: int = 0


@dataclass(frozen=True, kw_only=True)
class PortRow(Record):
    SIZE: ClassVar[int] = 40
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
        Field("slot", 4, "=I"),
        Field("addr", 8, "16s"),
        Field("subnet", 24, ">I"),
        Field("gateway", 28, ">I"),
        Field("mac", 32, "6s", 6),
        Field("tag", 38, ">H"),
    )
    vni: int = 0
    slot: int = 0
    addr: bytes = bytes(16)
    subnet: int = 0
    gateway: int = 0
    mac: bytes = bytes(6)
    tag: int = 0


@dataclass(frozen=True, kw_only=True)
class RouteKey(Record):
    SIZE: ClassVar[int] = 24
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("prefixlen", 0, "=I"),
        Field("vni", 4, ">I"),
        Field("addr", 8, "16s"),
    )
    prefixlen: int = 0
    vni: int = 0
    addr: bytes = bytes(16)


@dataclass(frozen=True, kw_only=True)
class RouteRow(Record):
    SIZE: ClassVar[int] = 4
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("subnet", 0, ">I"),
    )
    subnet: int = 0


@dataclass(frozen=True, kw_only=True)
class ServingRow(Record):
    SIZE: ClassVar[int] = 4
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("stale", 0, "=I"),
    )
    stale: int = 0


@dataclass(frozen=True, kw_only=True)
class SubnetKey(Record):
    SIZE: ClassVar[int] = 8
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
        Field("subnet", 4, ">I"),
    )
    vni: int = 0
    subnet: int = 0


@dataclass(frozen=True, kw_only=True)
class SubnetRow(Record):
    SIZE: ClassVar[int] = 4
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("bouncers", 0, "=H"),
    )
    bouncers: int = 0


@dataclass(frozen=True, kw_only=True)
class VpcKey(Record):
    SIZE: ClassVar[int] = 4
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
    )
    vni: int = 0


@dataclass(frozen=True, kw_only=True)
class VpcRow(Record):
    SIZE: ClassVar[int] = 72
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("slot", 0, "=I"),
        Field("ask", 4, "=H"),
        Field("accept", 6, "=H"),
        Field("members", 8, ">I", 16),
    )
    slot: int = 0
    ask: int = 0
    accept: int = 0
    members: tuple[int, ...] = (0,) * 16


MAPS: dict[str, MapSpec] = {
    "asked": MapSpec("asked", 9, 44, 16, 8192, 0, FlowKey, AskedEntry),
    "config": MapSpec("config", 2, 4, 120, 1, 0, None, Config),
    "counters": MapSpec("counters", 6, 4, 8, 14, 0, None, None),
    "drops": MapSpec("drops", 5, 8, 8, 8192, 1, DropKey, None),
    "endpoints": MapSpec("endpoints", 1, 20, 16, 1048576, 1, EndpointKey, EndpointRow),
    "flows": MapSpec("flows", 12, 4, 4, 1024, 0, None, None),
    "fragments": MapSpec("fragments", 9, 40, 8, 1024, 0, FragmentKey, FragmentRow),
    "locals": MapSpec("locals", 1, 20, 24, 16384, 1, EndpointKey, LocalRow),
    "ports": MapSpec("ports", 1, 4, 40, 16384, 1, PortKey, PortRow),
    "routes": MapSpec("routes", 11, 24, 4, 65536, 1, RouteKey, RouteRow),
    "serving": MapSpec("serving", 1, 8, 4, 65536, 1, SubnetKey, ServingRow),
    "subnets": MapSpec("subnets", 1, 8, 4, 65536, 1, SubnetKey, SubnetRow),
    "vpcs": MapSpec("vpcs", 1, 4, 72, 4096, 1, VpcKey, VpcRow),
}
