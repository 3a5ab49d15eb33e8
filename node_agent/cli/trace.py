"""`mizar trace SRC DST`: the way of a packet through the real programs, host by host, without sending it.

What was asked becomes a packet, whose way (`way`) is laid out. Nothing is left in the live maps, nor counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node_agent.cli import flows, names
from node_agent.cli.flows import PROTOCOLS
from node_agent.cli.hints import hints
from node_agent.cli.names import Names
from node_agent.cli.way import Way
from node_agent.datapath.layout import FlowKey
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkEndpoint, NetworkService, Vpc
from node_agent.model.places import StackPlaces
from node_agent.rows.image import mapped

NUMBERS = {name: number for number, name in PROTOCOLS.items()}
FIRST_PORT = 40000  # where the search for a source port that no live flow has begins
SHOWN = 3  # flows of the same kind that are named


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a person asked. `port`: of the destination, 0 for ICMP; `source_port` 0: one that no live flow has."""

    source: str
    destination: str
    protocol: str = "icmp"
    port: int = 0
    source_port: int = 0

    def mistakes(self) -> list[str]:
        """Everything that is wrong with it, one sentence each."""
        found = []
        if self.protocol not in NUMBERS:
            found.append(f"--proto: {self.protocol!r} is none of {', '.join(NUMBERS)}")
        if self.protocol == "icmp" and self.port:
            found.append("--port: ICMP has no ports")
        if self.protocol in ("tcp", "udp") and not 1 <= self.port <= 65535:
            found.append(f"--port: {self.port or 'missing'}: {self.protocol} needs one of 1 to 65535")
        if not 0 <= self.source_port <= 65535:
            found.append(f"--source-port: {self.source_port} is not one of 1 to 65535")
        return found


def collect(places: StackPlaces, asked: Question) -> dict[str, Any]:
    """The packet's way as plain values. Raises MizarError."""
    with names.opened(places) as store:
        known, all_endpoints = names.read(store), store.list(NetworkEndpoint)
        services, vpcs = store.list(NetworkService), store.list(Vpc)
    source = names.endpoint(all_endpoints, asked.source)
    target, target_name = names.destination(all_endpoints, services, source.spec.vpc, asked.destination)
    host = source.status.host or source.spec.host
    if not host:
        raise Permanent(f"trace from {asked.source}: no host holds it")
    kept = _kept(places, known, host, source, target, asked)
    key = _key(source, target, asked, {one["source"]["port"] for one in kept})
    # A SYN would begin another connection on the ports of a live one, and could be given another backend.
    new = key.sport not in {one["source"]["port"] for one in kept if one["state"] == "live"}
    way = Way(places, known, key, new=new)
    outcome = way.walk(host)
    return {
        "source": {"name": asked.source, "vpc": source.spec.vpc, "address": source.spec.address, "host": host},
        "destination": {"name": target_name, "address": target},
        "protocol": asked.protocol,
        "ports": [key.sport, key.dport],
        "steps": way.steps,
        "outcome": outcome,
        "notes": hints(
            source, target, asked.protocol, asked.port, vpcs=vpcs, endpoints=all_endpoints, services=services
        ),
        "live": {
            "used": way.steps[0]["hit"],
            "others": [one for one in kept if one["state"] == "live" and one["source"]["port"] != key.sport],
        },
    }


def text(told: Mapping[str, Any]) -> str:
    """A heading, the steps with one line per thing that happened, the outcome, and what the live network knows."""
    source, destination, ports = told["source"], told["destination"], told["ports"]
    name = f"{destination['name']} " if destination["name"] else ""
    flow = f"id {ports[0]}" if told["protocol"] == "icmp" else f"ports {ports[0]} -> {ports[1]}"
    lines = [
        f"{told['protocol']} {source['name']} {source['address']} -> {name}{destination['address']}, {flow}, "
        f"VPC {source['vpc']}"
    ]
    lines += _steps(told["steps"])
    outcome, last = told["outcome"], told["steps"][-1]["packet"]
    late = f"; {last - 1} of its packets lost before" if last > 1 and outcome["result"] != "lost" else ""
    detail = f" {outcome['detail']}" if outcome["result"] in ("delivered", "answered") else f": {outcome['detail']}"
    if outcome["result"] in ("delivered", "answered"):
        lines.append(f"result: {outcome['result'].upper()}{detail} on {outcome['host']}{late}")
    else:
        lines.append(f"result: {outcome['result'].upper()} on {outcome['host']}{detail}{late}")
    return "\n".join([*lines, *(f"note: {note}" for note in told["notes"]), *_live(told)])


def _steps(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    host, program = (max(len(step[part]) for step in steps) for part in ("host", "program"))
    lines, packet = [], 1
    for number, step in enumerate(steps, 1):
        if step["packet"] != packet:
            packet = step["packet"]
            lines.append("     no answer comes: the flow's next packet, at least 50 ms later")
        place = f"{number:3}  {step['host'].ljust(host)}  {step['program'].ljust(program)}  "
        for sentence in step["did"]:
            lines.append(place + sentence)
            place = " " * len(place)
    return lines


def _live(told: Mapping[str, Any]) -> list[str]:
    """What the live network has of this flow, and of its like."""
    host, live = told["source"]["host"], told["live"]
    if live["used"]:
        return [f"live: {host} has an entry for this very flow, which its packets use"]
    lines = [f"live: {host} has no entry for this flow; this is what its first packet would do"]
    if others := live["others"]:
        what = "--source-port" if told["protocol"] != "icmp" else "--source-port (their id)"
        shown = ", ".join(f"{one['source']['port']} (to {one['peer']})" for one in others[:SHOWN])
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        lines.append(f"live: others of this kind have one; follow them by {what}: {shown}{more}")
    return lines


def _kept(
    places: StackPlaces, known: Names, host: str, source: NetworkEndpoint, target: str, asked: Question
) -> list[dict[str, Any]]:
    """The entries on the source's host from there to the destination, of this protocol and port, as `flows` tells."""
    vni = names.vni_of(source)
    told = flows.assemble(flows.read(places, host), known, vni=vni, ends=(vni, source.spec.address))
    return [
        one
        for one in (*told["flows"], *told["nats"])
        if one["source"]["address"] == source.spec.address
        and one["destination"]["address"] == target
        and one["protocol"] == asked.protocol
        and asked.port in (0, one["destination"]["port"])
    ]


def _key(source: NetworkEndpoint, target: str, asked: Question, taken: Collection[int]) -> FlowKey:
    port = asked.source_port or next(port for port in range(FIRST_PORT, 65536) if port not in taken)
    return FlowKey(
        vni=names.vni_of(source),
        src=mapped(source.spec.address),
        dst=mapped(target),
        sport=port,
        dport=asked.port or port,
        proto=NUMBERS[asked.protocol],
    )
