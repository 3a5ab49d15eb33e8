"""Traces of tests: run as the command runs them, and never without looking whether they left anything behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from node_agent.cli import trace
from node_agent.cli.trace import Question
from node_agent.datapath import inner
from node_agent.datapath.layout import MAPS
from node_agent.kernel import netns
from tests.lab.network import Network


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
    before = everything(network)
    told = trace.collect(network.places, Question(source=source, destination=destination, **how))
    assert everything(network) == before
    trace.text(told)
    return told


def way(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["host"], step["sends"] or step["dropped"]) for step in told["steps"]]
