"""`mizar status`: hosts with their roles, programs, modes and health; VPCs, subnets and endpoints.

`collect` reads, `assemble` is pure (objects in, plain values out: what --json prints), `text` lays them out.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from node_agent.cli import names, stacks, table
from node_agent.model.errors import NotFound
from node_agent.model.objects import NetworkEndpoint, NetworkHost, Subnet, Vpc
from node_agent.model.places import StackPlaces
from node_agent.model.resources import CONTROLLER, NAMESPACE
from node_agent.store.open import open_api

SILENT_AFTER = 30.0  # seconds without a heartbeat
NO_PID = -1  # it lives, but under a number that means nothing here


def collect(places: StackPlaces) -> dict[str, Any]:
    """The stack's state as plain values. Raises MizarError."""
    now = time.time()
    with names.opened(places) as store:
        pids = stacks.read(places).pids
        if not places.store.exists():
            pids = _in_pods(places, store.list(NetworkHost), now)
        return assemble(
            places.id,
            pids,
            now,
            hosts=store.list(NetworkHost),
            vpcs=store.list(Vpc),
            subnets=store.list(Subnet),
            endpoints=store.list(NetworkEndpoint),
        )


def _in_pods(places: StackPlaces, hosts: Sequence[NetworkHost], now: float) -> dict[str, int]:
    """Pids as `assemble` wants them, where agents and controller are pods. An agent lives while it says so."""
    pids = {host.name: host.status.pid for host in hosts if now - host.status.heartbeat <= SILENT_AFTER}
    api = open_api(f"kubernetes:{places.kubeconfig}")
    if api is None:
        return pids
    try:
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{CONTROLLER}"
        found = api.ask("look after the controller", "GET", path)
    except NotFound:
        return pids
    return {**pids, "controller": NO_PID} if found.get("status", {}).get("availableReplicas") else pids


def assemble(
    stack: str,
    pids: Mapping[str, int],
    now: float,
    *,
    hosts: Sequence[NetworkHost],
    vpcs: Sequence[Vpc],
    subnets: Sequence[Subnet],
    endpoints: Sequence[NetworkEndpoint],
) -> dict[str, Any]:
    """`pids`: "controller" and host name -> pid of the living process; `now`: seconds since the epoch."""
    members = {vpc.name: {member.place: member.host for member in vpc.status.members} for vpc in vpcs}
    bouncers = {subnet.name: _bouncers(subnet, members) for subnet in subnets}
    divides = _turned({vpc: serving.values() for vpc, serving in members.items()})
    bounces = _turned(bouncers)
    held = Counter(endpoint.status.host for endpoint in endpoints)
    told = [
        _host(host, pids.get(host.name, 0), now)
        | {"divides": divides[host.name], "bounces": bounces[host.name], "endpoints": held[host.name]}
        for host in hosts
    ]
    controller = pids.get("controller", 0)
    return {
        "stack": stack,
        "healthy": bool(controller) and all(host["health"] == "ok" for host in told),
        "controller": {"pid": controller if controller > 0 else None, "health": "ok" if controller else "does not run"},
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
        f"controller: {controller['health']}" + (f", pid {controller['pid']}" if controller["pid"] else ""),
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
                str(host["pid"] or "-"),
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


def _host(host: NetworkHost, pid: int, now: float) -> dict[str, Any]:
    """What the host's own object says."""
    status = host.status
    age = max(0.0, now - status.heartbeat)
    reasons = [] if pid else ["its agent does not run"]
    reasons += [] if status.ready else ["its agent is not ready"]
    reasons += [f"no heartbeat for {age:.0f} s"] if status.heartbeat and age > SILENT_AFTER else []
    reasons += status.problems
    return {
        "name": host.name,
        "address": host.spec.address,
        "mode": status.mode,
        "pid": pid or None,
        "ready": status.ready,
        "health": "; ".join(reasons) or "ok",
        "programs": [{"device": p.device, "hook": p.hook, "mode": p.mode, "tag": p.tag} for p in status.programs],
        "problems": list(status.problems),
    }


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
