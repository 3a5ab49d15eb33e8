"""`mizar flows HOST`: what a host's programs remember: flows, NAT pairs, open questions and refusals.

`collect` reads the maps, `assemble` is pure (bytes in, plain values out: what --json prints), `text` lays them out.
Reading changes nothing, not even the order in which the tables forget.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from node_agent.cli import kinds, names, table
from node_agent.cli.names import Names
from node_agent.datapath import inner, libbpf, ticks
from node_agent.datapath.layout import (
    AskedEntry,
    AskedState,
    Config,
    EndpointKey,
    FlowEntry,
    FlowFlag,
    FlowKey,
    LocalRow,
    NatEntry,
    NatKind,
)
from node_agent.datapath.maps import HostMaps
from node_agent.model import config as configs
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid, Permanent
from node_agent.model.places import StackPlaces
from node_agent.rows import slots

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}
_CLOCK_MASK = 0x7FFFFFFF  # clock.bpf.o tells 31 bits of the tick; ages are far shorter
Rows = Mapping[bytes, bytes]


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The programs' time: the tick `now`, of which the low 31 bits count, and `hz` ticks a second."""

    now: int
    hz: int

    def since(self, then: int) -> float:
        """Seconds from that tick to now."""
        return round((self.now - then & _CLOCK_MASK) / self.hz, 2)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What was read of a host. `flows` and `nats`: by slot; `slots`: VNI -> slot; `sizes`: slot -> room for flows."""

    config: Config
    clock: Clock
    slots: Mapping[int, int] = field(default_factory=dict)
    sizes: Mapping[int, int] = field(default_factory=dict)
    flows: Mapping[int, Rows] = field(default_factory=dict)
    nats: Mapping[int, Rows] = field(default_factory=dict)
    asked: Rows = field(default_factory=dict)
    locals: Rows = field(default_factory=dict)


def collect(
    places: StackPlaces, host: str, *, vpc: str = "", endpoint: str = "", every: bool = False
) -> dict[str, Any]:
    """Of one host; only of that VPC, only from or to that endpoint. `every`: also what no packet uses any more. Raises
    MizarError."""
    with names.opened(places) as store:
        known = names.read(store)
    known.host_address(host)
    vni = known.vni(vpc) if vpc else 0
    ends: tuple[int, str] | None = None
    if endpoint:
        found = names.endpoint(names.endpoints(places), endpoint)
        ends = names.vni_of(found), found.spec.address
    told = assemble(read(places, host), known, vni=vni, ends=ends)
    return {"host": host, **(told if every else in_use(told))}


def in_use(told: Mapping[str, Any]) -> dict[str, Any]:
    """Without what no packet uses any more; "hidden" says how much that is. Pure."""
    kept = {part: [one for one in told[part] if one["state"] == "live"] for part in ("flows", "nats")}
    kept["asked"] = [one for one in told["asked"] if not one["expired"]]
    return {**told, **kept, "hidden": sum(len(told[part]) - len(kept[part]) for part in kept)}


def read(places: StackPlaces, host: str) -> Held:
    """Everything that `flows` needs of a host's maps. Raises MizarError."""
    folder = places.host(host).maps
    with (
        HostMaps(folder) as maps,
        inner.tables(folder, "flows") as flow_tables,
        inner.tables(folder, "nats") as nat_tables,
    ):
        return Held(
            config=Config.unpack(maps.read("config")[bytes(4)]),
            clock=clock(Path(configured(places, host).bpf_objects)),
            slots=slots.read(maps.read("vpcs")),
            sizes={slot: libbpf.map_info(fd).max_entries for slot, fd in flow_tables.items()},
            flows={slot: inner.rows(fd, "flows") for slot, fd in flow_tables.items()},
            nats={slot: inner.rows(fd, "nats") for slot, fd in nat_tables.items()},
            asked=maps.read("asked"),
            locals=maps.read("locals"),
        )


def configured(places: StackPlaces, host: str) -> AgentConfig:
    """What the host's agent was told; `bpf_objects` is where this computer has them. Raises Permanent."""
    try:
        told = configs.load_agent(places.host(host).config.read_text())
    except (OSError, Invalid) as error:
        raise Permanent(f"read configuration of {host}: {error}") from error
    return replace(told, bpf_objects=str(kinds.of(places).objects(told)))


def clock(folder: Path) -> Clock:
    """The tick of now, asked of the clock program."""
    with libbpf.load(folder / "clock.bpf.o") as loaded:
        now = libbpf.test_run(loaded.program("clock"), bytes(64)).code
    return Clock(now=now, hz=ticks.coarse_hz())


def assemble(held: Held, known: Names, *, vni: int = 0, ends: tuple[int, str] | None = None) -> dict[str, Any]:
    """`vni`: of the only VPC to tell of, 0 for all; `ends`: (VNI, address) of the only endpoint."""
    vnis = {slot: number for number, slot in held.slots.items()}

    def wanted(key: FlowKey) -> bool:
        own = ends is None or (key.vni == ends[0] and ends[1] in (address(key.src), address(key.dst)))
        return own and vni in (0, key.vni)

    return {
        "hidden": 0,
        "tables": [
            {"vpc": known.vpc(vnis.get(slot, 0)), "entries": len(rows), "size": held.sizes.get(slot, 0)}
            for slot, rows in sorted(held.flows.items())
            if vni in (0, vnis.get(slot, 0))
        ],
        "flows": _sorted(flow(k, FlowEntry.unpack(v), held, known) for k, v in _chosen(held.flows.values(), wanted)),
        "nats": _sorted(nat(k, NatEntry.unpack(v), held, known) for k, v in _chosen(held.nats.values(), wanted)),
        "asked": _sorted(asked(k, AskedEntry.unpack(v), held, known) for k, v in _chosen([held.asked], wanted)),
    }


def flow(key: FlowKey, entry: FlowEntry, held: Held, known: Names, owner: bytes = b"") -> dict[str, Any]:
    """One entry. `age`: seconds since it was last confirmed; `idle`: since its last packet; `fresh`: until it is asked
    about again, give or take a quarter of the fresh time, negative when that is due. `state`: live, expired (idle for
    too long) or former (of an endpoint that is gone): the last two are not used, and removed by the next packet.
    `owner`: mapped address of the endpoint whose entry it is, the flow's source unless given."""
    at, config = held.clock, held.config
    age, idle = at.since(entry.confirmed), at.since(entry.seen)
    return {
        **_ends(key, known),
        "peer": known.host(dotted(entry.host)),
        "kind": "learned" if entry.flags & FlowFlag.LEARNED else "asked",
        "flags": _flags(entry.flags),
        "vip": f"{dotted(entry.vip)}:{entry.vip_port}" if entry.vip else "",
        "age": age,
        "idle": idle,
        "fresh": round(config.fresh / at.hz - age, 2),
        "asking": bool(entry.asked),
        "unanswered": entry.unanswered,
        "state": _state(key, entry, idle * at.hz, held, owner or key.src),
    }


def nat(key: FlowKey, entry: NatEntry, held: Held, known: Names) -> dict[str, Any]:
    """One half of a NAT pair: a packet from `source` to `destination` becomes one as `becomes` says."""
    kinds = [kind.name.lower() for kind in NatKind if entry.kind & kind]
    becomes = {
        "source": f"{dotted(entry.src)}:{entry.sport}",
        "destination": f"{dotted(entry.dst)}:{entry.dport}",
    }
    # What comes back goes to the client, which in a hairpin is the backend itself, behind the gateway's address.
    returns = entry.kind & NatKind.REVERSE and not entry.kind & NatKind.HAIRPIN
    owner = key.dst if returns else key.src
    return {**flow(key, entry.flow[0], held, known, owner), "nat": "+".join(kinds), "becomes": becomes}


def asked(key: FlowKey, entry: AskedEntry, held: Held, known: Names) -> dict[str, Any]:
    """One open question (pending) or remembered refusal (negative: nobody there; denied). `age`: seconds since the
    present try; `expired`: it is not believed any more."""
    age = held.clock.since(entry.since)
    state = AskedState(entry.state).name.lower() if entry.state in set(AskedState) else str(entry.state)
    return {
        **_ends(key, known),
        "state": state,
        "age": age,
        "tries": entry.attempt + 1,
        "packets": entry.packets,
        "bytes": entry.bytes,
        "expired": entry.state != AskedState.PENDING and age * held.clock.hz > held.config.negative,
    }


def text(told: Mapping[str, Any]) -> str:
    """Three tables; those without an entry are left out, the sizes of the flow tables come first."""
    rooms = ", ".join(f"{one['vpc']} {one['entries']} of {one['size']}" for one in told["tables"])
    rows: list[tuple[str, ...]]
    lines = [f"host {told['host']}: flow tables: {rooms or 'none'}"]
    if told["flows"]:
        heading = ("VPC", "PROTO", "SOURCE", "DESTINATION", "PEER HOST", "KIND", "AGE", "IDLE", "FRESH", "STATE")
        rows = [heading, *((*_four(o), o["peer"], _kind(o), *_times(o), o["state"]) for o in told["flows"])]
        lines += ["", *table.lines(rows)]
    if told["nats"]:
        rows = [("VPC", "PROTO", "SOURCE", "DESTINATION", "NAT", "BECOMES SOURCE", "BECOMES DESTINATION", "PEER HOST",
                 "IDLE", "STATE")]  # fmt: skip
        for one in told["nats"]:
            becomes = one["becomes"]
            rows.append(
                (*_four(one), one["nat"], becomes["source"], becomes["destination"], one["peer"], _seconds(one["idle"]),
                 one["state"])
            )  # fmt: skip
        lines += ["", *table.lines(rows)]
    if told["asked"]:
        rows = [("VPC", "PROTO", "SOURCE", "DESTINATION", "QUESTION", "AGE", "TRIES", "PACKETS")]
        for one in told["asked"]:
            state = one["state"] + (" (expired)" if one["expired"] else "")
            rows.append((*_four(one), state, _seconds(one["age"]), str(one["tries"]), str(one["packets"])))
        lines += ["", *table.lines(rows)]
    if told["hidden"]:
        lines += ["", f"{told['hidden']} more that no packet uses any more (--all shows them)"]
    return "\n".join(lines)


def address(mapped: bytes) -> str:
    """The IPv4 address in a key."""
    return str(ipaddress.IPv4Address(mapped[-4:]))


def dotted(number: int) -> str:
    """The IPv4 address in a row."""
    return str(ipaddress.IPv4Address(number))


def _chosen(groups: Iterable[Rows], wanted: Callable[[FlowKey], bool]) -> Iterable[tuple[FlowKey, bytes]]:
    for rows in groups:
        for raw, value in rows.items():
            key = FlowKey.unpack(raw)
            if wanted(key):
                yield key, value


def _ends(key: FlowKey, known: Names) -> dict[str, Any]:
    src, dst = address(key.src), address(key.dst)
    return {
        "vpc": known.vpc(key.vni),
        "protocol": PROTOCOLS.get(key.proto, str(key.proto)),
        "source": {"address": src, "port": key.sport, "name": known.endpoints.get((key.vni, src), "")},
        "destination": {"address": dst, "port": key.dport, "name": known.endpoints.get((key.vni, dst), "")},
    }


def _flags(flags: int) -> list[str]:
    shown = (flag for flag in FlowFlag if flag not in (FlowFlag.ASKED, FlowFlag.LEARNED))
    return [flag.name.lower() for flag in shown if flags & flag]


def _state(key: FlowKey, entry: FlowEntry, idle: float, held: Held, owner: bytes) -> str:
    config = held.config
    limits = {6: config.idle_closed if entry.flags & FlowFlag.CLOSING else config.idle_tcp, 17: config.idle_udp}
    row = held.locals.get(EndpointKey(vni=key.vni, addr=owner).pack())
    if row is None or LocalRow.unpack(row).tag != entry.owner_tag:
        return "former"
    return "expired" if idle > limits.get(key.proto, config.idle_icmp) else "live"


def _sorted(told: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    def place(one: dict[str, Any]) -> tuple[Any, ...]:
        ends = one["source"], one["destination"]
        return one["vpc"], one["protocol"], *((ipaddress.IPv4Address(e["address"]), e["port"]) for e in ends)

    return sorted(told, key=place)


def _four(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    ends = (f"{end['name'] or end['address']}:{end['port']}" for end in (one["source"], one["destination"]))
    source, destination = ends
    return one["vpc"], one["protocol"], source, destination


def _kind(one: Mapping[str, Any]) -> str:
    return " ".join([one["kind"].upper(), *one["flags"]])


def _times(one: Mapping[str, Any]) -> tuple[str, str, str]:
    fresh = "-" if one["state"] != "live" else _seconds(one["fresh"]) if one["fresh"] > 0 else "due"
    return _seconds(one["age"]), _seconds(one["idle"]), fresh


def _seconds(value: float) -> str:
    return f"{value:.1f} s"
