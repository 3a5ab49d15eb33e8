"""What is measured, one entry each: its figures, whom it measures, on which wire, and how. Called by `run`.

A scenario is run once a round for each of its subjects, one after the other, so that all see the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from node_agent.bench import upkeep
from node_agent.bench.bed import Bed
from node_agent.bench.bouncer import Bouncer
from node_agent.bench.figures import COUNT, HOST, METADATA, MIZAR, PLAIN, VXLAN, Figure, Goal
from node_agent.bench.frames import Frames, through
from node_agent.bench.pairs import Pair
from node_agent.bench.wire import Kind

PAIRS = (MIZAR, PLAIN, VXLAN, METADATA, HOST)
FLOW_PORTS = (10000, 4000, 12)  # source ports of the first-packet flows: first, a round's number, rounds until reuse


@dataclass(frozen=True)
class Rig:
    """What there is to measure; a part that no chosen scenario needs is absent."""

    bed: Bed
    pairs: Mapping[str, Pair]
    frames: Frames | None = None
    bouncer: Bouncer | None = None


@dataclass(frozen=True)
class Turn:
    """One measurement: `seconds` long at about, in round `round`."""

    rig: Rig
    subject: str
    round: int
    seconds: float

    @property
    def pair(self) -> Pair:
        return self.rig.pairs[self.subject]

    @property
    def ms(self) -> int:
        return max(1, int(self.seconds * 1000))


Values = dict[str, float]  # name of a figure -> value


@dataclass(frozen=True)
class Scenario:
    """`wire`: what the underlay carries meanwhile. `measure` gives a value for each of `figures`, by name."""

    name: str
    told: str
    figures: tuple[Figure, ...]
    subjects: tuple[str, ...]
    wire: Kind
    measure: Callable[[Turn], Values]


def _bulk(name: str, streams: int, wire: Kind, told: str) -> Scenario:
    lost = Figure(f"{name}-retransmits", f"{told}: segments sent again", COUNT, 0, "less")

    def measure(turn: Turn) -> Values:
        said = turn.rig.bed.traffic.bulk(turn.pair, streams, turn.ms)
        return {name: said["bits"] / 1e9, lost.name: said["retransmits"]}

    return Scenario(name, told, (Figure(name, told, "Gbit/s", 2, "more"), lost), PAIRS, wire, measure)


def _datagrams(turn: Turn) -> Values:
    return {"udp-sockets": turn.rig.bed.traffic.datagrams(turn.pair, turn.ms)["packets"] / 1e3}


def _frames(turn: Turn) -> Values:
    assert turn.rig.frames is not None
    # Frames go one way only, and a bridge that has never seen their receiver floods them: it gets to speak first.
    turn.rig.bed.traffic.requests(turn.pair, 5, one_cpu=True)
    return {"udp-frames": through(turn.rig.frames, turn.pair, turn.seconds) * 1e3}


def _requests(name: str, one_cpu: bool, told: str) -> Scenario:
    def measure(turn: Turn) -> Values:
        said = turn.rig.bed.traffic.requests(turn.pair, turn.ms, one_cpu=one_cpu)
        return {name: said["p50"] / 1e3}

    return Scenario(name, told, (Figure(name, told, "us", 2, "less"),), PAIRS, "gso", measure)


def _connections(name: str, open_at_once: int, told: str) -> Scenario:
    def measure(turn: Turn) -> Values:
        return {name: turn.rig.bed.traffic.connections(turn.pair, turn.ms, open_at_once)["connections"]}

    return Scenario(name, told, (Figure(name, told, "a second", 0, "more"),), PAIRS, "gso", measure)


def _first(turn: Turn) -> Values:
    start, number, rounds = FLOW_PORTS
    said = turn.rig.bed.traffic.first(turn.pair, turn.ms, start + turn.round % rounds * number)
    return {"first": said["first"] / 1e3, "second": said["second"] / 1e3, "first-lost": said["lost"]}


def _bouncer(name: str, mode: str, draw: str, told: str) -> Scenario:
    def measure(turn: Turn) -> Values:
        assert turn.rig.bouncer is not None
        rate = turn.rig.bouncer.measure(turn.subject, mode, draw, turn.seconds)  # type: ignore[arg-type]
        return {name: rate}

    return Scenario(name, told, (Figure(name, told, "Mpps", 2, "more"),), ("bouncer", "reflector"), "gso", measure)


def _creation(turn: Turn) -> Values:
    found = upkeep.creation(turn.rig.bed, max(6, int(15 * turn.seconds)))
    return {f"create-{name}": value for name, value in found.items()}


def _memory(turn: Turn) -> Values:
    return {f"memory-{name}": value for name, value in upkeep.memory(turn.rig.bed).items()}


SCENARIOS: tuple[Scenario, ...] = (
    _bulk("tcp1-gso", 1, "gso", "bulk TCP, 1 stream, GSO wire"),
    _bulk("tcp4-gso", 4, "gso", "bulk TCP, 4 streams, GSO wire"),
    Scenario(
        "udp-sockets", "small UDP through sockets, one CPU sends, one receives",
        (Figure("udp-sockets", "small UDP through sockets", "kpps", 0, "more"),), PAIRS, "gso", _datagrams,
    ),
    Scenario(
        "udp-frames", "small UDP as live frames of one flow, everything on one core",
        (Figure("udp-frames", "small UDP by live frames, one core", "kpps", 0, "more"),), PAIRS, "gso", _frames,
    ),
    _requests("rr-one", True, "request/response p50, both ends on one CPU"),
    _requests("rr-two", False, "request/response p50, an end on each of two CPUs"),
    _connections("connect-1", 1, "connections, 1 open at a time"),
    _connections("connect-32", 32, "connections, 32 open at a time"),
    Scenario(
        "first", "round trips of a flow's first and second datagram, both ends on one CPU",
        (
            Figure("first", "first round trip of a flow, p50", "us", 1, "less"),
            Figure("second", "second round trip of a flow, p50", "us", 1, "less"),
            Figure("first-lost", "flows whose first packets were lost", COUNT, 0, "less"),
        ),
        PAIRS, "gso", _first,
    ),
    _bulk("tcp1-mtu", 1, "mtu", "bulk TCP, 1 stream, per-MTU wire"),
    _bulk("tcp4-mtu", 4, "mtu", "bulk TCP, 4 streams, per-MTU wire"),
    _bouncer("bouncer-native-hot", "native", "hot", "queries, native XDP, 1,024 endpoints hot"),
    _bouncer("bouncer-native-random", "native", "random", "queries, native XDP, random of 1,000,000"),
    _bouncer("bouncer-generic-hot", "generic", "hot", "queries, generic XDP, 1,024 endpoints hot"),
    _bouncer("bouncer-generic-random", "generic", "random", "queries, generic XDP, random of 1,000,000"),
    Scenario(
        "create", "ADD and DEL of endpoints, over all hosts",
        (
            Figure("create-p50", "create an endpoint, store SQLite: ADD to reply, p50", "ms", 1, "less"),
            Figure("create-p99", "create an endpoint, store SQLite: ADD to reply, p99", "ms", 1, "less"),
            Figure("create-delete", "remove an endpoint, store SQLite: DEL to reply, p50", "ms", 1, "less"),
            Figure("create-netns", "its namespace, made before ADD, p50", "ms", 1, "less"),
        ),
        (MIZAR,), "gso", _creation,
    ),
    Scenario(
        "memory", "memory of a host, after all the others",
        (
            Figure("memory-rss", "agent, resident", "MiB", 1, "less"),
            Figure("memory-pss", "agent, shared pages in parts", "MiB", 1, "less"),
            Figure("memory-supervisor", "its supervisor, resident", "MiB", 1, "less"),
            Figure("memory-maps", "maps in the kernel", "MiB", 1, "less"),
        ),
        (MIZAR,), "gso", _memory,
    ),
)  # fmt: skip

FIGURES: dict[str, Figure] = {figure.name: figure for scenario in SCENARIOS for figure in scenario.figures}

# What the project wants of itself, Mizar over kernel VXLAN; nothing fails when it is missed.
GOALS = (
    Goal("tcp1-gso", 1.0),
    Goal("tcp4-gso", 1.0),
    Goal("tcp1-mtu", 1.0),
    Goal("udp-frames", 2.5),
    Goal("udp-sockets", 1.5),
    Goal("rr-one", 1.0),
    Goal("rr-two", 1.0),
    Goal("connect-1", 1.0),
    Goal("connect-32", 1.0),
)
BOUNCER_GOAL = ("bouncer-native-hot", 70.0)  # ns a query above the reflector
