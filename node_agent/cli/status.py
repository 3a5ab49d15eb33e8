"""`mizar status`: hosts with their roles, programs, modes and health; VPCs, subnets and endpoints.

`collect` reads, `assemble` is pure (objects in, plain values out: what --json prints), `text` lays them out.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from node_agent.cli import kinds, names, table
from node_agent.cli.running import CONTROLLER, Running
from node_agent.model.objects import NetworkEndpoint, NetworkHost, Subnet, Vpc
from node_agent.model.places import StackPlaces

SILENT_AFTER = 30.0  # seconds without a heartbeat


def collect(places: StackPlaces) -> dict[str, Any]:
    """The stack's state as plain values. Raises MizarError."""
    now = time.time()
    with names.opened(places) as store:
        return assemble(
            places.id,
            kinds.of(places).running(),
            now,
            hosts=store.list(NetworkHost),
            vpcs=store.list(Vpc),
            subnets=store.list(Subnet),
            endpoints=store.list(NetworkEndpoint),
        )


def assemble(
    stack: str,
    running: Mapping[str, Running],
    now: float,
    *,
    hosts: Sequence[NetworkHost],
    vpcs: Sequence[Vpc],
    subnets: Sequence[Subnet],
    endpoints: Sequence[NetworkEndpoint],
) -> dict[str, Any]:
    """`running`: "controller" and host name -> what lives; `now`: seconds since the epoch."""
    members = {vpc.name: {member.place: member.host for member in vpc.status.members} for vpc in vpcs}
    bouncers = {subnet.name: _bouncers(subnet, members) for subnet in subnets}
    divides = _turned({vpc: serving.values() for vpc, serving in members.items()})
    bounces = _turned(bouncers)
    held = Counter(endpoint.status.host for endpoint in endpoints)
    told = [
        _host(host, running.get(host.name), now)
        | {"divides": divides[host.name], "bounces": bounces[host.name], "endpoints": held[host.name]}
        for host in hosts
    ]
    controller = running.get(CONTROLLER)
    health = "does not run" if controller is None else "ok" if controller.ready else "is not ready"
    return {
        "stack": stack,
        "healthy": health == "ok" and all(host["health"] == "ok" for host in told),
        "controller": {**_where(controller), "health": health},
        "hosts": told,
        "vpcs": [
            {"name": v.name, "vni": v.status.vni, "cidr": v.spec.cidr, "set": [_member(m) for m in v.status.members]}
            for v in vpcs
        ],
        "subnets": [
            {"name": s.name, "vpc": s.spec.vpc, "cidr": s.spec.cidr, "bouncers": bouncers[s.name]} for s in subnets
        ],
        "endpoints": [
            {
                "name": e.spec.workload or e.name,
                "object": e.name,
                "vpc": e.spec.vpc,
                "subnet": e.spec.subnet,
                "address": e.spec.address,
                "host": e.spec.host,
                "held": e.status.host == e.spec.host,
            }
            for e in sorted(endpoints, key=lambda e: (e.spec.vpc, e.spec.subnet, e.spec.workload))
        ],
    }


def text(told: Mapping[str, Any]) -> str:
    """What a person reads: one table of hosts, one of VPCs; problems beneath the host they belong to."""
    controller = told["controller"]
    lines = [
        f"stack {told['stack']}: {'healthy' if told['healthy'] else 'NOT HEALTHY'}",
        f"controller: {', '.join([controller['health'], *_named(controller)])}",
        "",
    ]
    rows: list[tuple[str, ...]] = [
        ("HOST", "ADDRESS", "AGENT", "MODE", "PROGRAMS", "ENDPOINTS", "DIVIDES", "BOUNCES", "HEALTH")
    ]
    for host in told["hosts"]:
        rows.append(
            (
                host["name"],
                host["address"],
                "".join(_named(host)) or "-",
                host["mode"] or "-",
                str(len(host["programs"])),
                str(host["endpoints"]),
                ",".join(host["divides"]) or "-",
                ",".join(host["bounces"]) or "-",
                host["health"],
            )
        )
    lines += [*table.lines(rows), ""]
    rows = [("VPC", "VNI", "CIDR", "SUBNETS", "SET")]
    subnets: defaultdict[str, list[str]] = defaultdict(list)
    for subnet in told["subnets"]:
        subnets[subnet["vpc"]].append(subnet["name"])
    for vpc in told["vpcs"]:
        members = ",".join(member["host"] for member in vpc["set"]) or "-"
        rows.append((vpc["name"], str(vpc["vni"]), vpc["cidr"], ",".join(subnets[vpc["name"]]) or "-", members))
    return "\n".join([*lines, *table.lines(rows)])


def _host(host: NetworkHost, agent: Running | None, now: float) -> dict[str, Any]:
    """What the host's own object says."""
    status = host.status
    age = max(0.0, now - status.heartbeat)
    reasons = [] if agent else ["its agent does not run"]
    reasons += [] if status.ready else ["its agent is not ready"]
    reasons += [f"no heartbeat for {age:.0f} s"] if status.heartbeat and age > SILENT_AFTER else []
    reasons += status.problems
    return {
        "name": host.name,
        "address": host.spec.address,
        "mode": status.mode,
        **_where(agent),
        "ready": status.ready,
        "health": "; ".join(reasons) or "ok",
        "programs": [{"device": p.device, "hook": p.hook, "mode": p.mode, "tag": p.tag} for p in status.programs],
        "problems": list(status.problems),
    }


def _where(running: Running | None) -> dict[str, Any]:
    return {"pid": running.pid if running else None, "pod": running.pod if running else ""}


def _named(told: Mapping[str, Any]) -> list[str]:
    return [f"{what} {told[what]}" for what in ("pid", "pod") if told[what]]


def _member(member: Any) -> dict[str, Any]:
    return {"host": member.host, "address": member.address, "place": member.place, "state": member.state}


def _bouncers(subnet: Subnet, members: Mapping[str, Mapping[int, str]]) -> list[str]:
    """Host names; the status has places in the VPC's set. `members`: VPC -> place -> host."""
    serving = members.get(subnet.spec.vpc, {})
    return [serving[place] for place in subnet.status.bouncers if place in serving]


def _turned(hosts: Mapping[str, Iterable[str]]) -> Mapping[str, list[str]]:
    """Name -> hosts turned into host -> names, in the order of the names given; any host has an entry."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, serving in hosts.items():
        for host in dict.fromkeys(serving):
            found[host].append(name)
    return found
