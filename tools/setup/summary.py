"""Prints what a stack is, from its outputs as JSON on stdin: the last words of `make up`, called by stack.sh.

The outputs' shapes are those of docs/outputs.md; README.md shows the result, and a test compares the two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WIDTH = 11  # characters of the first column, VPCs' names being short
SHOWN = 4  # names of a list, before "and N more"


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The summary, line by line."""
    hosts = told["hosts"]
    yield _line("hosts", _list([f"{host['name']} {host['address']}" for host in hosts], f" ({_modes(hosts)})"))
    for vpc in told["vpcs"]:
        yield _line(vpc["name"], f"VNI {int(vpc['vni'])}, {vpc['cidr']}, served by {_list(vpc['set'])}")
        for subnet in told["subnets"]:
            if subnet["vpc"] == vpc["name"]:
                count = sum(one["vpc"] == vpc["name"] and one["subnet"] == subnet["name"] for one in told["endpoints"])
                # On a cluster the endpoints are its pods, which no output tells of.
                tail = "" if "kubeconfig" in told else f", {_count(count, 'endpoint')}"
                yield _line(f"  {subnet['name']}", f"{subnet['cidr']}{tail}")
        for service in told["services"]:
            if service["vpc"] == vpc["name"]:
                ports = ", ".join(f"{port['protocol']} {int(port['port'])}" for port in service["ports"])
                behind = _count(len(service["backends"]), "endpoint")
                yield _line(f"  {service['name']}", f"{service['vip']}, {ports}: {behind} behind it")
    health = told["health"]
    state = "healthy" if health["healthy"] else "NOT healthy"
    yield (
        f"stack {told['stackId']} is {state}: {_count(health['probes'], 'probe')} over "
        f"{_count(health['pairs'], 'pair')} of endpoints on {_count(len(hosts), 'host')}"
    )


def _line(name: str, what: str) -> str:
    return f"{name:<{WIDTH}} {what}"


def _modes(hosts: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(sorted({host["mode"] for host in hosts}))


def _list(names: Sequence[str], tail: str = "") -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more + tail


def _count(number: float, what: str) -> str:
    """`number`: whole; Pulumi's outputs may say it as a float."""
    return f"{int(number)} {what}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    outputs = json.load(sys.stdin)
    # A program of another shape has no such summary.
    if {"stackId", "hosts", "vpcs", "subnets", "endpoints", "services", "health"} <= outputs.keys():
        print("\n".join(lines(outputs)))
