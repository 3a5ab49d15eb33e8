"""The figures of one host's agent, read at every question: from the pinned maps, the store and its own requests.

Called by `server`. Counting a map costs the agent what its own check of every ten seconds costs, so counts are kept for
that long.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from node_agent.datapath import inner, libbpf
from node_agent.datapath.layout import EndpointKey, LocalRow
from node_agent.datapath.maps import Maps
from node_agent.metrics.figures import Figure, Histogram, Metric
from node_agent.metrics.timings import BOUNDS, Timing, Timings
from node_agent.model.errors import MizarError
from node_agent.model.objects import NetworkHost, Vpc
from node_agent.rows import slots
from node_agent.store.base import Store

COUNTED = ("asked", "backends", "egress", "endpoints", "locals", "maglev", "ports", "routes", "services", "serving",
           "subnets", "vpcs")  # fmt: skip
KEPT = 10.0  # seconds


class AgentFigures:
    """`pins`: folder of the pinned maps; `maps`: the same maps. Any thread may ask."""

    def __init__(
        self,
        host: str,
        store: Store,
        pins: Path,
        maps: Maps,
        timings: Timings,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._store, self._pins, self._maps, self._timings = host, store, pins, maps, timings
        self._wall, self._monotonic = wall, monotonic
        self._lock = threading.Lock()
        self._counted: list[Metric] = []
        self._counted_at = float("-inf")

    def __call__(self) -> list[Metric]:
        """All of them. A store that cannot be read costs its own figures and the VPCs' names. Raises BpfError."""
        vpcs, told = self._stored()
        with self._lock:
            if self._monotonic() - self._counted_at >= KEPT:
                self._counted = list(self._count(vpcs))
                self._counted_at = self._monotonic()
            counted = list(self._counted)
        return [*told, *self._packets(vpcs), *counted, requests(self._host, self._timings.read())]

    def _stored(self) -> tuple[dict[int, str], list[Metric]]:
        try:
            vpcs = {vpc.status.vni: vpc.name for vpc in self._store.list(Vpc)}
            status = self._store.get(NetworkHost, self._host).status
        except MizarError:
            return {}, [_gauge("store_readable", "1 when the store can be read", ("host",), [((self._host,), 0)])]
        own = (self._host,)
        age = max(0.0, self._wall() - status.heartbeat)
        return vpcs, [
            _gauge("store_readable", "1 when the store can be read", ("host",), [(own, 1)]),
            _gauge("heartbeat_age_seconds", "Age of the host's heartbeat in the store", ("host",), [(own, age)]),
            _gauge("agent_ready", "1 when rows are the store's and nothing is wrong", ("host",), [(own, status.ready)]),
            _gauge("agent_problems", "Problems that the agent reports", ("host",), [(own, len(status.problems))]),
        ]

    def _packets(self, vpcs: dict[int, str]) -> Iterator[Metric]:
        drops = [
            ((self._host, _vpc(vpcs, vni), reason.name.lower()), float(number))
            for (vni, reason), number in sorted(self._maps.drops().items())
        ]
        yield Figure("counter", "mizar_drops", "Packets dropped", ("host", "vpc", "reason"), drops)
        events = [((self._host, which.name.lower()), float(n)) for which, n in sorted(self._maps.counters().items())]
        yield Figure("counter", "mizar_events", "Events counted by the programs", ("host", "event"), events)

    def _count(self, vpcs: dict[int, str]) -> Iterator[Metric]:
        names = {slot: _vpc(vpcs, vni) for vni, slot in slots.read(self._maps.read("vpcs")).items()}
        for outer, word in (("flows", "flow"), ("nats", "nat")):
            entries, sizes = [], []
            with inner.tables(self._pins, outer) as tables:
                for slot, fd in sorted(tables.items()):
                    own = (self._host, names.get(slot, ""))
                    sizes.append((own, float(libbpf.map_info(fd).max_entries)))
                    entries.append((own, float(sum(1 for _ in inner.rows(fd, outer)))))
            yield _gauge(f"{word}_entries", f"Entries in the VPC's {word} table", ("host", "vpc"), entries)
            yield _gauge(f"{word}_entries_max", f"Room in the VPC's {word} table", ("host", "vpc"), sizes)
        filled = {name: inner.fill(self._pins, name) for name in COUNTED}
        labels = ("host", "map")
        yield _gauge("map_entries", "Rows in a map", labels, [((self._host, m), n) for m, (n, _) in filled.items()])
        yield _gauge("map_entries_max", "Room in a map", labels, [((self._host, m), n) for m, (_, n) in filled.items()])
        yield _gauge("endpoints", "Endpoints that live on the host", ("host", "vpc"), self._endpoints(vpcs))

    def _endpoints(self, vpcs: dict[int, str]) -> list[tuple[tuple[str, ...], float]]:
        numbers: dict[str, int] = {}
        for key, value in self._maps.read("locals").items():
            if LocalRow.unpack(value).ifindex:  # else it has moved away
                vpc = _vpc(vpcs, EndpointKey.unpack(key).vni)
                numbers[vpc] = numbers.get(vpc, 0) + 1
        return [((self._host, vpc), float(number)) for vpc, number in sorted(numbers.items())]


def requests(host: str, timings: dict[tuple[str, str], Timing]) -> Histogram:
    """How long the verbs of the endpoint socket took. Pure."""
    samples = []
    for which, timing in sorted(timings.items()):
        total, buckets = 0, []
        for bound, number in zip([*map(str, BOUNDS), "+Inf"], timing.counts, strict=True):
            total += number
            buckets.append((bound, float(total)))
        samples.append(((host, *which), buckets, timing.total))
    return Histogram("mizar_request_seconds", "Requests at the endpoint socket", ("host", "verb", "outcome"), samples)


def _gauge(name: str, told: str, labels: tuple[str, ...], samples: list[Any]) -> Figure:
    return Figure("gauge", f"mizar_{name}", told, labels, [(values, float(number)) for values, number in samples])


def _vpc(vpcs: dict[int, str], vni: int) -> str:
    return vpcs.get(vni, str(vni)) if vni else ""
