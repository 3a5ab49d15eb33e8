"""Which endpoints are probed from which: pure, and the same choice for the same endpoints.

Called by `health.gate`. A pair is one direction; probing every pair of every endpoint would grow with the square of
their number, so each relation between two hosts is probed by one pair per VPC, spread over the endpoints.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from node_agent.health.answers import WORKLOAD_PORT, Wire

Relation = Literal["same subnet", "other subnet", "same host", "other vpc", "equal address", "service", "common"]


@dataclass(frozen=True, kw_only=True, order=True)
class Endpoint:
    """`place`: where to send from, in the words of those who ask: for `probes.run` the path of its namespace. "": it
    cannot be sent from."""

    vpc: str
    subnet: str
    name: str
    address: str
    host: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.vpc}/{self.name} ({self.address})"


@dataclass(frozen=True, kw_only=True, order=True)
class Service:
    """A VIP. `ports`: protocol and port of those that workloads answer; `backends`: names of the endpoints that may."""

    vpc: str
    name: str
    address: str
    ports: tuple[tuple[Wire, int], ...] = ()
    backends: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """It lives on none."""
        return ""

    def __str__(self) -> str:
        return f"service {self.vpc}/{self.name} ({self.address})"


@dataclass(frozen=True, kw_only=True, order=True)
class Common:
    """Outside of every VPC and reached from each: the name server, the API server. Its address is what a pod was told,
    so only the pod knows it. `vpc`: whose endpoints are meant, "" all. `question`, `answer`: a name, and the address
    that a name server must have for it."""

    name: str
    protocol: Wire
    vpc: str = ""
    question: str = ""
    answer: str = ""

    @property
    def host(self) -> str:
        """It lives on none that we know."""
        return ""

    @property
    def address(self) -> str:
        return ""

    def __str__(self) -> str:
        return f"{self.name} for {self.question}" if self.question else self.name


@dataclass(frozen=True, kw_only=True)
class Pair:
    """`relation` "other vpc": no answer is the right one. "equal address": another VPC has an endpoint of the target's
    address, which must not be the one that answers. "service": one of the target's backends answers."""

    source: Endpoint
    target: Endpoint | Service | Common
    relation: Relation

    def ports(self) -> tuple[tuple[Wire, int], ...]:
        """Where the target answers requests; 0: where those know who know its address."""
        match self.target:
            case Service(ports=ports):
                return ports
            case Common(protocol=protocol):
                return ((protocol, 0),)
            case Endpoint():
                return (("tcp", WORKLOAD_PORT), ("udp", WORKLOAD_PORT))

    def __str__(self) -> str:
        where = f"{self.source.host} -> {self.target.host}" if self.target.host else self.source.host
        return f"{where}: {self.source} -> {self.target}"


def choose(endpoints: Iterable[Endpoint], limit: int = 500) -> tuple[Pair, ...]:
    """Per VPC, and for every two hosts in both directions: one pair in one subnet and one between subnets, where they
    exist; and for every host one pair on it (of each sort).

    Where that would be more than `limit` pairs, VPCs share it evenly, those that need less leave the rest to the
    others, and a VPC takes an even sample: of its two hosts' relations first, so that the work grows with the limit and
    not with the square of the hosts. Every host is in it both ways while the VPC's share is as large as its hosts.
    """
    by_vpc: dict[str, list[Endpoint]] = {}
    for endpoint in sorted(endpoints):
        by_vpc.setdefault(endpoint.vpc, []).append(endpoint)
    hosts = {vpc: _Hosts(members) for vpc, members in by_vpc.items()}
    chosen: dict[str, Sequence[Pair]] = {}
    left = limit
    for turn, vpc in enumerate(sorted(hosts, key=lambda name: (hosts[name].relations, name))):
        chosen[vpc] = _of_vpc(hosts[vpc], left // (len(hosts) - turn))
        left -= len(chosen[vpc])
    return tuple(pair for vpc in by_vpc for pair in chosen[vpc])


def of_services(endpoints: Iterable[Endpoint], services: Iterable[Service], limit: int = 200) -> tuple[Pair, ...]:
    """Every service that has backends, from every host of its VPC: from one of them and from one that is none, where
    there are such."""
    everyone, pairs = sorted(endpoints), list[Pair]()
    for turn, service in enumerate(sorted(services)):
        if not service.backends:
            continue
        groups: dict[tuple[str, bool], list[Endpoint]] = {}
        for one in everyone:
            if one.vpc == service.vpc and one.place:
                groups.setdefault((one.host, one.name in service.backends), []).append(one)
        sources = [group[turn % len(group)] for _, group in sorted(groups.items())]
        pairs += [Pair(source=source, target=service, relation="service") for source in sources]
    return _sample(pairs, limit)


def of_common(endpoints: Iterable[Endpoint], common: Iterable[Common], limit: int = 200) -> tuple[Pair, ...]:
    """Each of them from every host of every VPC that it is for."""
    everyone, pairs = sorted(endpoints), list[Pair]()
    for turn, target in enumerate(sorted(common)):
        groups: dict[tuple[str, str], list[Endpoint]] = {}
        for one in everyone:
            if one.place and target.vpc in ("", one.vpc):
                groups.setdefault((one.vpc, one.host), []).append(one)
        pairs += [
            Pair(source=group[turn % len(group)], target=target, relation="common")
            for _, group in sorted(groups.items())
        ]
    return _sample(pairs, limit)


def equal_addresses(endpoints: Iterable[Endpoint], limit: int = 200) -> tuple[Pair, ...]:
    """For every two VPCs in both directions, and every host of the source VPC: one pair whose target's address the
    other VPC uses as well, and there on the source's own host where possible: a leak would need no wire."""
    everyone = sorted(endpoints)
    pairs: list[Pair] = []
    for source_vpc, target_vpc in itertools.permutations(sorted({e.vpc for e in everyone}), 2):
        there = {e.address: e.host for e in everyone if e.vpc == target_vpc}
        own = [e for e in everyone if e.vpc == source_vpc]
        sources = {e.host: e for e in reversed(own) if e.place}
        for turn, source in enumerate(sorted(sources.values())):
            targets = [e for e in own if e.address in there and e != source]
            near = [e for e in targets if there[e.address] == source.host] or targets
            if near:
                pairs.append(Pair(source=source, target=near[turn % len(near)], relation="equal address"))
    return _sample(pairs, limit)


def isolation(endpoints: Iterable[Endpoint], services: Iterable[Service] = (), limit: int = 200) -> tuple[Pair, ...]:
    """For every two VPCs in both directions, and every host of the source VPC: one pair that must get no answer. And
    the same for the target VPC's services.

    An address that the source's own VPC uses too is no such target: it is rightly answered by its own VPC. Of very many
    VPCs, `limit` pairs of them are tried.
    """
    pairs: list[Pair] = []
    for own, other in _couples(_sides(endpoints, services), limit):
        foreign = [s for s in other.vips if s.address not in own.addresses and s.ports]
        targets = [e for e in other.endpoints if e.address not in own.addresses]
        for turn, source in enumerate(own.senders):
            if targets:
                # On its own host first: there a leak needs no wire.
                near = [e for e in targets if e.host == source.host] or targets
                target = near[turn % len(near)] if turn % 2 == 0 else targets[turn % len(targets)]
                pairs.append(Pair(source=source, target=target, relation="other vpc"))
            if foreign:
                pairs.append(Pair(source=source, target=foreign[turn % len(foreign)], relation="other vpc"))
    return _sample(pairs, limit)


@dataclass(frozen=True)
class _Side:
    """A VPC. `addresses`: all that it uses; `senders`: one endpoint of each host that has one that can send."""

    endpoints: tuple[Endpoint, ...]
    vips: tuple[Service, ...]
    addresses: frozenset[str]
    senders: tuple[Endpoint, ...]


def _couples(sides: Sequence[_Side], limit: int) -> Iterator[tuple[_Side, _Side]]:
    """Two VPCs of which the first can send; of so many at most, spread over all."""
    from_them = [number for number, side in enumerate(sides) if side.senders]
    others = len(sides) - 1
    number = len(from_them) * others
    for turn in range(min(number, limit)):
        first, second = divmod(turn * number // min(number, limit), others)
        own = from_them[first]
        yield sides[own], sides[second + (second >= own)]


def _sides(endpoints: Iterable[Endpoint], services: Iterable[Service]) -> list[_Side]:
    """By name of the VPC."""
    members: dict[str, tuple[list[Endpoint], list[Service]]] = {}
    for endpoint in sorted(endpoints):
        members.setdefault(endpoint.vpc, ([], []))[0].append(endpoint)
    for service in sorted(services):
        if service.vpc in members:
            members[service.vpc][1].append(service)
    return [
        _Side(
            tuple(own),
            tuple(vips),
            frozenset(e.address for e in own) | frozenset(s.address for s in vips),
            tuple(sorted({e.host: e for e in reversed(own) if e.place}.values())),
        )
        for _, (own, vips) in sorted(members.items())
    ]


class _Hosts:
    """The endpoints of one VPC by host. `names`: of the hosts; `senders`: places among them of those that have an
    endpoint that can send."""

    def __init__(self, members: Iterable[Endpoint]) -> None:
        self.endpoints: dict[str, list[Endpoint]] = {}
        for endpoint in members:
            self.endpoints.setdefault(endpoint.host, []).append(endpoint)
        self.names = sorted(self.endpoints)
        self.senders = [n for n, host in enumerate(self.names) if any(e.place for e in self.endpoints[host])]

    @property
    def relations(self) -> int:
        """Between two hosts or on one: from a sender to whomever."""
        return len(self.senders) * len(self.names)


def _of_vpc(hosts: _Hosts, limit: int) -> Sequence[Pair]:
    """One pair per (source host, target host, same subnet or not); among the possible ones the least used endpoints.
    Where there are more relations of hosts than `limit`, an even sample of them with one pair each."""
    used: Counter[Endpoint] = Counter()
    chosen: list[Pair] = []
    if hosts.relations <= limit:
        for sender, target in itertools.product(hosts.senders, hosts.names):
            chosen += _between(hosts.endpoints, hosts.names[sender], target, used)
        return _sample(chosen, limit)
    for turn, (source, target) in enumerate(itertools.islice(_rounds(hosts), limit)):
        # The sort changes from host to host, and from round to round for each of them.
        prefer = sum(divmod(turn, len(hosts.senders))) % 2 == 0
        chosen += _between(hosts.endpoints, source, target, used, prefer=prefer)
    return chosen


def _rounds(hosts: _Hosts) -> Iterator[tuple[str, str]]:
    """All relations of hosts, each once. In a round every sender has a turn, with a target as far away in the order of
    names as everybody else's, so that no host is asked twice; distances of neighbouring rounds differ widely."""
    names = hosts.names
    step = next(n for n in itertools.count(round(len(names) * 0.618)) if math.gcd(n, len(names)) == 1)
    for number in range(1, len(names) + 1):
        for sender in hosts.senders:
            yield names[sender], names[(sender + number * step) % len(names)]


def _between(
    by_host: Mapping[str, Sequence[Endpoint]],
    source_host: str,
    target_host: str,
    used: Counter[Endpoint],
    *,
    prefer: bool | None = None,
) -> list[Pair]:
    """A pair in one subnet and one between subnets, where they exist, counted among the `used`. `prefer`: only one of
    them, which is in one subnet or is not, if there is the choice."""
    # A few of each host are enough to choose from, and keep the work small on hosts of thousands.
    sources = [e for e in _least(used, by_host[source_host]) if e.place]
    targets = _least(used, by_host[target_host])
    found: dict[bool, tuple[Endpoint, Endpoint]] = {}
    for source, target in itertools.product(sources, targets):
        same = source.subnet == target.subnet
        if source == target or same in found:
            continue
        found[same] = source, target
        if len(found) == 2 or same == prefer:
            break
    if prefer in found:
        found = {prefer: found[prefer]}
    pairs = []
    for same, (source, target) in found.items():
        relation: Relation = "same subnet" if same else "other subnet"
        if source_host == target_host:
            relation = "same host"
        used.update((source, target))
        pairs.append(Pair(source=source, target=target, relation=relation))
    return pairs


def _least(used: Counter[Endpoint], endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Per subnet the four least used endpoints, the least used first."""
    kept: Counter[str] = Counter()
    result = []
    for endpoint in sorted(endpoints, key=lambda e: (used[e], e)):
        kept[endpoint.subnet] += 1
        if kept[endpoint.subnet] <= 4:
            result.append(endpoint)
    return result


def _sample(pairs: Sequence[Pair], limit: int) -> tuple[Pair, ...]:
    if len(pairs) <= limit:
        return tuple(pairs)
    return tuple(pairs[i * len(pairs) // limit] for i in range(limit))
