"""Hosts come and go by the real engine: what the outputs say is true after one `up`, and a second changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from node_agent.kernel import netns
from tests.e2e import stack as stacks
from tests.e2e.stack import Stack

pytestmark = [pytest.mark.engine, pytest.mark.root]


def check(stack: Stack, hosts: int) -> None:
    """One `up` to this many hosts, its outputs against store and packets, and another one."""
    stack.settings["mizar:hosts"] = hosts
    stack.up()
    told = stack.outputs()
    names = [f"host-{number}" for number in range(1, hosts + 1)]
    assert [host["name"] for host in told["hosts"]] == names
    assert [sorted(vpc["set"]) for vpc in told["vpcs"]] == [names] * 2
    assert [sorted(subnet["bouncers"]) for subnet in told["subnets"]] == [names] * 4
    assert [service["backends"] for service in told["services"]] == [
        [f"{subnet}-{number}" for number in range(1, hosts + 1)] for subnet in ("blue-a", "green-b")
    ]
    assert told["health"]["healthy"] is True
    kept = stacks.objects(stack)
    assert sorted(one["name"] for one in kept.values() if one["kind"] == "NetworkHost") == names
    assert not [one for one in kept.values() if one["kind"] == "NetworkHost" and one["spec"]["drain"]]
    again = stack.up()
    assert "unchanged" in again
    assert not [word for word in ("created", "updated", "deleted", "replaced") if word in again], again
    assert stack.outputs() == told
    packets(stack, told)


def packets(stack: Stack, told: dict[str, Any]) -> None:
    """Every endpoint reaches those of its VPC that wander about, and its VPC's service."""
    vips = {service["vpc"]: service["vip"] for service in told["services"]}
    wandering = {one["vpc"]: one["address"] for one in told["endpoints"] if one["name"].startswith("web-")}
    for one in told["endpoints"]:
        assert stacks.reachable(stack, one["name"], wandering[one["vpc"]]), one
        assert stacks.reachable(stack, one["name"], vips[one["vpc"]], 80), one


def test_from_three_hosts_to_two_and_back(tmp_path: Path) -> None:
    # The stack that everybody gets first; endpoints without a host of their own go round robin: the last host's are
    # moved, not removed.
    stack = stacks.make(tmp_path)
    stack.settings = stacks.committed()
    stack.settings["mizar:endpoints"] = [
        {"name": name, "subnet": subnet}
        for name, subnet in (("one", "blue-b"), ("web-green", "green-a"), ("web-blue", "blue-b"))
    ]
    try:
        check(stack, 3)
        check(stack, 2)
        assert not netns.exists(stack.namespace("host-3"))
        check(stack, 3)
        stack.destroy()
        assert not stack.left()
    finally:
        stack.close()
