"""`mizar rebalance`: ask the controller to choose VPC sets anew, or say what it would do.

The request goes through the store (`controller.rebalance`); the controller carries it out, make before break.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from node_agent.cli import kinds, names, table
from node_agent.cli.kinds import Kind
from node_agent.cli.running import CONTROLLER
from node_agent.controller.rebalance import Foreseen, foreseen, request
from node_agent.model import config as configs
from node_agent.model.config import ControllerConfig
from node_agent.model.errors import Invalid, Permanent
from node_agent.model.objects import NetworkHost, Subnet, Vpc
from node_agent.model.places import StackPlaces


def collect(places: StackPlaces, vpc: str = "", *, dry: bool = False) -> dict[str, Any]:
    """{"requested": VPCs that the controller was asked for, "controller": whether it runs, "vpcs": what is foreseen,
    "hosts": how many roles each would have}.

    `vpc` "": all of them; `dry`: nothing is asked. Raises MizarError.
    """
    kind = kinds.of(places)
    config = _config(kind)
    with names.opened(places) as store:
        vpcs = store.list(Vpc)
        found = [one.name for one in vpcs if vpc in ("", one.name) and not one.meta.deleting]
        if vpc and not found:
            there = ", ".join(sorted(one.name for one in vpcs)) or "none"
            raise Permanent(f"find VPC {vpc}: there is none; there are {there}")
        hosts = store.list(NetworkHost)
        told = foreseen(found, vpcs, store.list(Subnet), hosts, time.time(), config)
        requested = [] if dry else found
        for name in requested:
            request(store, name)
    return {
        "requested": requested,
        "controller": CONTROLLER in kind.running(),
        "vpcs": [dataclasses.asdict(one) for one in told if one.vpc in found],
        "hosts": roles([host.name for host in hosts], told),
    }


def roles(hosts: Sequence[str], told: Sequence[Foreseen]) -> list[dict[str, Any]]:
    """[{"name", "sets", "bounces"}]: of how many VPC sets each host is a member, and how many subnets it bounces; both
    {"now", "then"}, of the VPCs told of. Pure."""

    def counted(now: Iterable[Iterable[str]], then: Iterable[Iterable[str]]) -> dict[str, dict[str, int]]:
        before, after = (Counter(host for group in groups for host in group) for groups in (now, then))
        return {host: {"now": before[host], "then": after[host]} for host in hosts}

    sets = counted((one.set for one in told), ({*one.set, *one.join} - {*one.leave} for one in told))
    subnets = [subnet for one in told for subnet in one.bouncers]
    bounces = counted((one.now for one in subnets), (one.then for one in subnets))
    return [{"name": host, "sets": sets[host], "bounces": bounces[host]} for host in hosts]


def text(told: dict[str, Any]) -> str:
    rows: list[Sequence[str]] = [("VPC", "SET", "JOIN", "LEAVE", "NOTE")]
    for one in told["vpcs"]:
        note = one["waits"] or ("" if one["join"] or one["leave"] else "as it should be")
        rows.append((one["vpc"], *(",".join(one[part]) or "-" for part in ("set", "join", "leave")), note))
    lines = table.lines(rows)
    rows = [("HOST", "SETS", "BOUNCES")]
    rows += [(one["name"], _change(one["sets"]), _change(one["bounces"])) for one in told["hosts"]]
    lines += ["", *table.lines(rows)]
    if told["requested"]:
        lines.append("")
        lines.append("asked the controller; `mizar status` shows how far it is")
        if not told["controller"]:
            lines.append("the controller does not run: it will do this when it does")
    return "\n".join(lines)


def _change(number: Mapping[str, int]) -> str:
    now, then = number["now"], number["then"]
    return str(now) if now == then else f"{now} -> {then}"


def _config(kind: Kind) -> ControllerConfig:
    try:
        return configs.load_controller(kind.controller_config())
    except Invalid as error:
        raise Permanent(f"read configuration of the controller: {error}") from error
