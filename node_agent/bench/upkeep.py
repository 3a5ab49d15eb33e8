"""What Mizar itself takes: time to create and remove an endpoint, memory of a host. Called by `scenarios`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from node_agent.bench.bed import HOSTS, Bed
from node_agent.bench.figures import quantile
from node_agent.datapath import inner, libbpf
from node_agent.emulation import endpoints

MIB = 1 << 20


def creation(bed: Bed, number: int) -> dict[str, float]:
    """{"p50", "p99", "delete", "netns"} in ms over so many endpoints: ADD until the agent's reply (claim, devices,
    programs, rows, every bouncer knows it), DEL's p50, and the p50 of making the namespace before, which is no part of
    ADD."""
    adds, deletes, spaces = [], [], []
    names = [(f"new-{n}", HOSTS[n % len(HOSTS)]) for n in range(number)]
    for name, host in names:
        spaces.append(_ms(partial(endpoints.make, bed.places, name)))
        adds.append(_ms(partial(bed.add, name, host)))
    for name, host in names:
        deletes.append(_ms(partial(bed.delete, name, host)))
        endpoints.remove(bed.places, name)
    return {
        "p50": quantile(adds, 0.5),
        "p99": quantile(adds, 0.99),
        "delete": quantile(deletes, 0.5),
        "netns": quantile(spaces, 0.5),
    }


def memory(bed: Bed) -> dict[str, float]:
    """{"rss", "pss", "supervisor", "maps"} in MiB, the mean of the hosts: the agent's resident memory, its share of
    what it has in common with others counted in parts, its supervisor's, and what the kernel keeps for maps."""
    pids = bed.agent_pids().values()
    maps = [sum(_map_bytes(bed.places.host(host).maps)) for host in HOSTS]
    return {
        "rss": _mean(_rollup(agent, "Rss") for agent, _ in pids) / MIB,
        "pss": _mean(_rollup(agent, "Pss") for agent, _ in pids) / MIB,
        "supervisor": _mean(_rollup(supervisor, "Rss") for _, supervisor in pids) / MIB,
        "maps": _mean(maps) / MIB,
    }


def _ms(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return (time.monotonic() - began) * 1000


def _mean(values: Iterable[int]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else 0.0


def _rollup(pid: int, field: str) -> int:
    """Bytes that /proc/<pid>/smaps_rollup gives for this field."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _map_bytes(pins: Path) -> Iterator[int]:
    """Bytes of each pinned map and of each flow and NAT table behind them, as the kernel accounts for them."""
    for pin in sorted(pins.iterdir()):
        fd = libbpf.get(pin)
        if fd is not None:
            yield _locked(fd)
            os.close(fd)
    for outer in inner.TABLES:
        with inner.tables(pins, outer) as found:
            yield from map(_locked, found.values())


def _locked(fd: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
        if line.startswith("memlock:"):
            return int(line.split()[1])
    return 0
