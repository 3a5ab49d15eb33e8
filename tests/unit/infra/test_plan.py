"""The plan is a pure function of the settings, and what is there stays as it is when more is added."""

from __future__ import annotations

import random
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from infra import addressing, plan, settings
from infra.plan import EndpointPlan, Plan
from node_agent.model.addresses import Usable
from node_agent.model.objects import ServicePort
from node_agent.model.places import stack_id


def made(hosts: int = 3, endpoints: list[dict[str, Any]] | None = None, per_host: int = 1, **vpc: Any) -> Plan:
    subnets = [{"name": "blue-a", "cidr": "10.10.1.0/24"}, {"name": "blue-b", "cidr": "10.10.2.0/24"}]
    raw = {"name": "blue", "cidr": "10.10.0.0/16", "subnets": subnets, **vpc}
    parsed = settings.examine(
        {"hosts": hosts, "endpointsPerHost": per_host, "vpcs": [raw], "endpoints": endpoints or []}
    )[0]
    return plan.make(parsed, "local-abc123")


def by_name(found: Plan) -> dict[str, EndpointPlan]:
    return {one.name: one for one in found.endpoints}


def test_equal_settings_make_equal_plans() -> None:
    assert made() == made()


def test_the_default_shape() -> None:
    found = made()
    assert [(host.name, host.address, host.netns) for host in found.hosts] == [
        ("host-1", "198.18.0.11", "mizar-local-abc123-host-1"),
        ("host-2", "198.18.0.12", "mizar-local-abc123-host-2"),
        ("host-3", "198.18.0.13", "mizar-local-abc123-host-3"),
    ]
    assert [(one.name, one.subnet, one.address, one.host) for one in found.endpoints] == [
        ("blue-a-1", "blue-a", "10.10.1.2", "host-1"),
        ("blue-a-2", "blue-a", "10.10.1.3", "host-2"),
        ("blue-a-3", "blue-a", "10.10.1.4", "host-3"),
        ("blue-b-1", "blue-b", "10.10.2.2", "host-1"),
        ("blue-b-2", "blue-b", "10.10.2.3", "host-2"),
        ("blue-b-3", "blue-b", "10.10.2.4", "host-3"),
    ]
    assert [one.gateway for one in found.subnets] == ["10.10.1.1", "10.10.2.1"]


@pytest.mark.parametrize("per_host", [1, 3])
@pytest.mark.parametrize("more", [4, 7, 40])
def test_adding_hosts_changes_nothing_that_was_there(per_host: int, more: int) -> None:
    named = [{"name": "web", "subnet": "blue-a", "host": "host-2"}]
    before, after = made(3, named, per_host), made(more, named, per_host)
    assert after.hosts[:3] == before.hosts
    assert before.endpoints == tuple(by_name(after)[one.name] for one in before.endpoints)


def test_appending_endpoints_changes_nothing_that_was_there() -> None:
    chance = random.Random(7)
    named: list[dict[str, Any]] = []
    for number in range(120):
        before = by_name(made(endpoints=named))
        named = [
            *named,
            {"name": f"e{chance.getrandbits(32):x}-{number}", "subnet": chance.choice(["blue-a", "blue-b"])},
        ]
        after = by_name(made(endpoints=named))
        assert {name: after[name] for name in before} == before


def test_addresses_are_unique_usable_and_fill_the_subnet() -> None:
    named = [{"name": f"e-{number}", "subnet": "blue-a"} for number in range(10)]
    found = made(3, named, subnets=[{"name": "blue-a", "cidr": "10.10.1.0/28"}])
    addresses = [IPv4Address(one.address) for one in found.endpoints]
    assert len(set(addresses)) == len(addresses) == 13
    assert set(map(str, addresses)) == set(Usable("10.10.1.0/28"))


def test_named_endpoints_keep_what_they_name_and_else_go_round_the_hosts() -> None:
    named: list[dict[str, Any]] = [{"name": f"e-{number}", "subnet": "blue-a"} for number in range(6)]
    named[4] |= {"host": "host-3", "address": "10.10.1.77"}
    found = by_name(made(endpoints=named))
    assert (found["e-4"].host, found["e-4"].address) == ("host-3", "10.10.1.77")
    assert [found[f"e-{number}"].host for number in (0, 1, 2, 3, 5)] == [
        "host-1",
        "host-2",
        "host-3",
        "host-1",
        "host-3",
    ]


def test_moving_an_endpoint_changes_its_host_alone() -> None:
    def at(host: str) -> EndpointPlan:
        return by_name(made(endpoints=[{"name": "web", "subnet": "blue-a", "host": host}]))["web"]

    before, after = at("host-1"), at("host-3")
    assert (before.address, before.netns) == (after.address, after.netns)
    assert (before.host, after.host) == ("host-1", "host-3")


def test_services_name_their_backends_by_address() -> None:
    named = [{"name": "web", "subnet": "blue-a", "address": "10.10.1.77"}]
    port = {"name": "http", "port": 80, "targetPort": 8080}
    services = [
        {"name": "all", "vip": "10.10.0.10", "ports": [port], "backends": {"subnet": "blue-a"}},
        {"name": "few", "vip": "10.10.0.11", "ports": [port], "backends": ["web", "blue-b-1"], "affinity": "client"},
        {"name": "none", "vip": "10.10.0.12", "ports": [port], "backends": []},
    ]
    whole, few, none = made(endpoints=named, services=services).services
    assert [(one.name, one.address) for one in whole.backends] == [
        ("blue-a-1", "10.10.1.2"),
        ("blue-a-2", "10.10.1.3"),
        ("blue-a-3", "10.10.1.4"),
        ("web", "10.10.1.77"),
    ]
    assert [(one.name, one.address) for one in few.backends] == [("web", "10.10.1.77"), ("blue-b-1", "10.10.2.2")]
    assert (few.vpc, few.vip, few.affinity, none.backends) == ("blue", "10.10.0.11", "client", ())
    assert few.ports == (ServicePort(name="http", protocol="tcp", port=80, target_port=8080),)


def test_equal_addresses_in_two_vpcs() -> None:
    subnets = [{"name": "blue-a", "cidr": "10.10.1.0/24"}]
    two = [
        {"name": "blue", "cidr": "10.10.0.0/16", "subnets": subnets},
        {"name": "green", "cidr": "10.10.0.0/16", "subnets": [{"name": "green-a", "cidr": "10.10.1.0/24"}]},
    ]
    found = plan.make(settings.examine({"vpcs": two})[0], "local-abc123").endpoints
    blue, green = ([one for one in found if one.vpc == name] for name in ("blue", "green"))
    assert [one.address for one in blue] == [one.address for one in green]
    assert not {one.name for one in blue} & {one.name for one in green}
    assert len({one.netns for one in found}) == 6


def test_stack_ids_are_short_readable_and_apart() -> None:
    ids = {stack_id(stack, Path(root)) for stack in ("local", "Dev.One_2", "x" * 80) for root in ("/a", "/b")}
    assert len(ids) == 6
    assert all(len(one) <= 40 for one in ids)
    assert stack_id("Dev.One_2", Path("/a")).startswith("dev-one-2-")


def test_full_subnet_has_no_automatic_address() -> None:
    with pytest.raises(ValueError, match="all 1 are taken"):
        addressing.automatic(Usable("10.0.0.0/30"), "x", {"10.0.0.2"})
