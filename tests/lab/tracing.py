"""Traces of tests: run as the command runs them, and never without looking whether they left anything behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from node_agent.cli import trace
from node_agent.cli.trace import Question
from node_agent.datapath import inner
from node_agent.datapath.layout import MAPS
from node_agent.kernel import netns
from tests.lab.network import Network

T = TypeVar("T")


def everything(network: Network) -> dict[str, Any]:
    """Every byte in every map of every host, and what lies on the bpffs, in the folder and among the namespaces."""
    found: dict[str, Any] = {}
    for host in network.hosts:
        pins = network.places.host(host).maps
        with network.maps(host) as maps:
            found |= {f"{host} {name}": maps.read(name) for name in MAPS}
        for outer in ("flows", "nats"):
            with inner.tables(pins, outer) as tables:
                found |= {f"{host} {outer} {slot}": inner.rows(fd, outer) for slot, fd in tables.items()}
    found["pins"] = sorted(str(path) for path in network.places.bpffs.rglob("*"))
    found["namespaces"] = netns.listed(network.places.netns(""), network.places.netns_path("x").parent)
    found["veths"] = {host: _received(network, host) for host in network.hosts}
    return found


def _received(network: Network, host: str) -> list[str]:
    """Packets that the host's endpoints' devices have sent and received."""
    with netns.enter(network.places.netns_path(host)):
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    return [line for line in lines if line.strip().startswith("mz")]


def traced(network: Network, source: str, destination: str, **how: Any) -> dict[str, Any]:
    """A trace, having made sure that it leaves everything as it was."""
    question = Question(source=source, destination=destination, **how)
    told = untouched(network, lambda: trace.collect(network.places, question))
    trace.text(told)
    return told


def untouched(network: Network, act: Callable[[], T]) -> T:
    """What `act` returns, having made sure that it leaves everything as it was.

    A pod's kernel may ask for its gateway's MAC address at any moment, and its device counts that. What sends
    something itself does so each time: packets alone are held against `act` only if three in a row moved some.
    """
    for _ in range(3):
        before = everything(network)
        result = act()
        changed = difference(before, everything(network))
        if changed.keys() != {"veths"}:
            break
    assert not changed
    return result


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What is not as it was, as (before, after)."""
    pairs = {name: (before.get(name), after.get(name)) for name in before | after}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def way(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["host"], step["sends"] or step["dropped"]) for step in told["steps"]]
