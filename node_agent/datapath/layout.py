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


class BackendFlag(IntEnum):
    EGRESS = 1


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
    NAT_INSTALLED = 14
    NAT_HEALED = 15
    REVALIDATIONS = 16
    REVALIDATIONS_UNANSWERED = 17
    QUERIES_REFUSED_BUSY = 18
    BOUNCERS_SKIPPED = 19
    BOUNCERS_PROBED = 20
    BOUNCERS_BACK = 21
    EGRESS_SENT = 22
    EGRESS_RECEIVED = 23
    COUNT = 24


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
    QUERY_BUDGET = 16
    UNKNOWN_DESTINATION = 17
    DENIED = 18
    NO_BACKEND = 19
    NAT_CLASH = 20
    UNKNOWN_REPLY = 21
    UNKNOWN_VERSION = 22
    UNKNOWN_TYPE = 23
    UNKNOWN_ACTION = 24
    UNTRUSTED = 25
    ASKER_MISMATCH = 26
    STRAY_VERDICT = 27
    TOO_BIG = 28
    ENCAPSULATION = 29
    OUTER_HEADER = 30
    CONGESTION_MARK = 31
    NO_CONFIG = 32
    EGRESS_FORBIDDEN = 33
    EGRESS_FRAGMENT = 34
    COUNT = 35


class EgressFlag(IntEnum):
    ANSWERED = 1
    CLOSING = 2


class FlowFlag(IntEnum):
    ASKED = 1
    LEARNED = 2
    NATED = 4
    CLOSING = 8
    STALE = 16
    REPLY = 32


class Limit(IntEnum):
    WIRE_PORT = 4789
    WIRE_VERSION = 0
    WIRE_BYTES = 50
    WIRE_PORTS = 1024
    WIRE_PORT_BASE = 49152
    SET_PLACES = 16
    UNDERLAY_PREFIXES = 8
    MAGLEV_SIZE = 251
    TAG_MASK = 65279
    EGRESS_PORT_BASE = 61440
    EGRESS_PORTS = 4096
    EGRESS_VPC_PORTS = 1024
    EGRESS_ENDPOINT_PORTS = 256


class NatKind(IntEnum):
    FORWARD = 1
    REVERSE = 2
    HAIRPIN = 4
    EGRESS = 8


class Scope(IntEnum):
    EXACT = 0


class ServiceFlag(IntEnum):
    AFFINITY = 1


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
class FlowEntry(Record):
    SIZE: ClassVar[int] = 32
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
        Field("vip", 24, ">I"),
        Field("vip_port", 28, ">H"),
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
    vip: int = 0
    vip_port: int = 0


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
class BackendKey(Record):
    SIZE: ClassVar[int] = 20
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
        Field("addr", 4, ">I"),
        Field("vip", 8, ">I"),
        Field("port", 12, ">H"),
        Field("vip_port", 14, ">H"),
        Field("proto", 16, "=B"),
    )
    vni: int = 0
    addr: int = 0
    vip: int = 0
    port: int = 0
    vip_port: int = 0
    proto: int = 0


@dataclass(frozen=True, kw_only=True)
class BackendRow(Record):
    SIZE: ClassVar[int] = 4
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("flags", 0, "=I"),
    )
    flags: int = 0


@dataclass(frozen=True, kw_only=True)
class BouncerKey(Record):
    SIZE: ClassVar[int] = 4
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("host", 0, ">I"),
    )
    host: int = 0


@dataclass(frozen=True, kw_only=True)
class BouncerState(Record):
    SIZE: ClassVar[int] = 16
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("unanswered", 0, "=I"),
        Field("first", 4, "=I"),
        Field("until", 8, "=I"),
        Field("dead", 12, "=I"),
    )
    unanswered: int = 0
    first: int = 0
    until: int = 0
    dead: int = 0


@dataclass(frozen=True, kw_only=True)
class Budget(Record):
    SIZE: ClassVar[int] = 8
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("tokens", 0, "=I"),
        Field("filled", 4, "=I"),
    )
    tokens: int = 0
    filled: int = 0


@dataclass(frozen=True, kw_only=True)
class BudgetKey(Record):
    SIZE: ClassVar[int] = 8
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("host", 0, ">I"),
        Field("id", 4, "=I"),
    )
    host: int = 0
    id: int = 0


@dataclass(frozen=True, kw_only=True)
class Config(Record):
    SIZE: ClassVar[int] = 176
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("self", 0, ">I"),
        Field("uplink", 4, "=I"),
        Field("mtu", 8, "=I"),
        Field("flags", 12, "=I"),
        Field("hop_limit", 16, "=I"),
        Field("fresh", 20, "=I"),
        Field("idle_tcp", 24, "=I"),
        Field("idle_closed", 28, "=I"),
        Field("idle_udp", 32, "=I"),
        Field("idle_icmp", 36, "=I"),
        Field("pending", 40, "=I"),
        Field("negative", 44, "=I"),
        Field("pending_packets", 48, "=I"),
        Field("pending_bytes", 52, "=I"),
        Field("fragment", 56, "=I"),
        Field("reask", 60, "=I"),
        Field("renew", 64, "=I"),
        Field("skip", 68, "=I"),
        Field("busy", 72, "=I"),
        Field("dead_queries", 76, "=I"),
        Field("query_burst", 80, "=I"),
        Field("query_rate", 84, "=I"),
        Field("busy_rate", 88, "=I"),
        Field("busy_burst", 92, "=I"),
        Field("link", 96, ">I"),
        Field("link_mask", 100, ">I"),
        Field("outlet", 104, "=I"),
        Field("outlet_address", 108, ">I"),
        Field("underlay", 112, "", 8, Prefix),
    )
    self: int = 0
    uplink: int = 0
    mtu: int = 0
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
    reask: int = 0
    renew: int = 0
    skip: int = 0
    busy: int = 0
    dead_queries: int = 0
    query_burst: int = 0
    query_rate: int = 0
    busy_rate: int = 0
    busy_burst: int = 0
    link: int = 0
    link_mask: int = 0
    outlet: int = 0
    outlet_address: int = 0
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
class EgressKey(Record):
    SIZE: ClassVar[int] = 16
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("peer", 0, ">I"),
        Field("own", 4, ">I"),
        Field("peer_port", 8, ">H"),
        Field("own_port", 10, ">H"),
        Field("proto", 12, "=B"),
    )
    peer: int = 0
    own: int = 0
    peer_port: int = 0
    own_port: int = 0
    proto: int = 0


@dataclass(frozen=True, kw_only=True)
class EgressRow(Record):
    SIZE: ClassVar[int] = 24
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
        Field("endpoint", 4, ">I"),
        Field("vip", 8, ">I"),
        Field("port", 12, ">H"),
        Field("vip_port", 14, ">H"),
        Field("seen", 16, "=I"),
        Field("tag", 20, ">H"),
        Field("flags", 22, "=B"),
    )
    vni: int = 0
    endpoint: int = 0
    vip: int = 0
    port: int = 0
    vip_port: int = 0
    seen: int = 0
    tag: int = 0
    flags: int = 0


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
        Field("next", 12, ">I"),
    )
    host: int = 0
    subnet: int = 0
    tag: int = 0
    identity: int = 0
    next: int = 0


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
class ListedKey(Record):
    SIZE: ClassVar[int] = 8
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("addr", 0, ">I"),
        Field("port", 4, ">H"),
        Field("proto", 6, "=B"),
    )
    addr: int = 0
    port: int = 0
    proto: int = 0


@dataclass(frozen=True, kw_only=True)
class ListedRow(Record):
    SIZE: ClassVar[int] = 4
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("local", 0, "=I"),
    )
    local: int = 0


@dataclass(frozen=True, kw_only=True)
class LocalRow(Record):
    SIZE: ClassVar[int] = 32
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("ifindex", 0, "=I"),
        Field("slot", 4, "=I"),
        Field("subnet", 8, ">I"),
        Field("moved_to", 12, ">I"),
        Field("gateway", 16, ">I"),
        Field("mac", 20, "6s", 6),
        Field("tag", 26, ">H"),
        Field("queued", 28, "=B"),
    )
    ifindex: int = 0
    slot: int = 0
    subnet: int = 0
    moved_to: int = 0
    gateway: int = 0
    mac: bytes = bytes(6)
    tag: int = 0
    queued: int = 0


@dataclass(frozen=True, kw_only=True)
class MaglevKey(Record):
    SIZE: ClassVar[int] = 16
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
        Field("vip", 4, ">I"),
        Field("port", 8, ">H"),
        Field("proto", 10, "=B"),
        Field("slot", 12, "=I"),
    )
    vni: int = 0
    vip: int = 0
    port: int = 0
    proto: int = 0
    slot: int = 0


@dataclass(frozen=True, kw_only=True)
class MaglevRow(Record):
    SIZE: ClassVar[int] = 8
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("addr", 0, ">I"),
        Field("port", 4, ">H"),
        Field("flags", 6, "=H"),
    )
    addr: int = 0
    port: int = 0
    flags: int = 0


@dataclass(frozen=True, kw_only=True)
class NatEntry(Record):
    SIZE: ClassVar[int] = 48
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("flow", 0, "", 1, FlowEntry),
        Field("src", 32, ">I"),
        Field("dst", 36, ">I"),
        Field("sport", 40, ">H"),
        Field("dport", 42, ">H"),
        Field("kind", 44, "=I"),
    )
    flow: tuple[FlowEntry, ...] = (FlowEntry(),) * 1
    src: int = 0
    dst: int = 0
    sport: int = 0
    dport: int = 0
    kind: int = 0


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
class ServiceKey(Record):
    SIZE: ClassVar[int] = 12
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("vni", 0, "=I"),
        Field("vip", 4, ">I"),
        Field("port", 8, ">H"),
        Field("proto", 10, "=B"),
    )
    vni: int = 0
    vip: int = 0
    port: int = 0
    proto: int = 0


@dataclass(frozen=True, kw_only=True)
class ServiceRow(Record):
    SIZE: ClassVar[int] = 8
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("size", 0, "=I"),
        Field("flags", 4, "=I"),
    )
    size: int = 0
    flags: int = 0


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
    SIZE: ClassVar[int] = 8
    FIELDS: ClassVar[tuple[Field, ...]] = (
        Field("bouncers", 0, "=H"),
        Field("mask", 4, ">I"),
    )
    bouncers: int = 0
    mask: int = 0


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
    "backends": MapSpec("backends", 1, 20, 4, 262144, 1, BackendKey, BackendRow),
    "bouncers": MapSpec("bouncers", 9, 4, 16, 4096, 0, BouncerKey, BouncerState),
    "budgets": MapSpec("budgets", 9, 8, 8, 16384, 0, BudgetKey, Budget),
    "config": MapSpec("config", 2, 4, 176, 1, 0, None, Config),
    "counters": MapSpec("counters", 6, 4, 8, 24, 0, None, None),
    "drops": MapSpec("drops", 5, 8, 8, 8192, 1, DropKey, None),
    "egress": MapSpec("egress", 1, 16, 24, 32768, 1, EgressKey, EgressRow),
    "endpoints": MapSpec("endpoints", 1, 20, 16, 1048576, 1, EndpointKey, EndpointRow),
    "flows": MapSpec("flows", 12, 4, 4, 1024, 0, None, None),
    "fragments": MapSpec("fragments", 9, 40, 8, 1024, 0, FragmentKey, FragmentRow),
    "listed": MapSpec("listed", 1, 8, 4, 256, 1, ListedKey, ListedRow),
    "locals": MapSpec("locals", 1, 20, 32, 16384, 1, EndpointKey, LocalRow),
    "maglev": MapSpec("maglev", 1, 16, 8, 1048576, 1, MaglevKey, MaglevRow),
    "nats": MapSpec("nats", 12, 4, 4, 1024, 0, None, None),
    "ports": MapSpec("ports", 1, 4, 40, 16384, 1, PortKey, PortRow),
    "routes": MapSpec("routes", 11, 24, 4, 65536, 1, RouteKey, RouteRow),
    "services": MapSpec("services", 1, 12, 8, 65536, 1, ServiceKey, ServiceRow),
    "serving": MapSpec("serving", 1, 8, 4, 65536, 1, SubnetKey, ServingRow),
    "subnets": MapSpec("subnets", 1, 8, 8, 65536, 1, SubnetKey, SubnetRow),
    "vpcs": MapSpec("vpcs", 1, 4, 72, 4096, 1, VpcKey, VpcRow),
}

# Of all the above: maps filled under another layout must not be read under this one.
DIGEST = "5860cdd7b43e"
