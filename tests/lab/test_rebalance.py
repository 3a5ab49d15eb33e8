"""`mizar rebalance` after growth, on a network of real agents under load: roles become even and no packet is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from node_agent.cli import rebalance, status
from node_agent.model.errors import Permanent
from node_agent.model.objects import Vpc, Watermark
from tests.lab.network import READY, Network, made
from tests.lab.traffic import Load, Probe, Stream
from tests.waiting import until

pytestmark = pytest.mark.root

LEAVING = 8.0
VPCS = ("blue", "red")


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Two VPCs whose sets are the same three hosts, with an endpoint on each of them; then three more hosts."""
    with made(request, 3, leaving=LEAVING) as network:
        for number, vpc in enumerate(VPCS, 1):
            network.vpc(vpc, f"10.{number}.0.0/16", {f"{vpc}-a": f"10.{number}.1.0/24"})
            for host in network.hosts:
                network.add(f"{vpc}-{host}", f"{vpc}-a", host)
        new = network.add_hosts(3)
        network.add("blue-new", "blue-a", new[0])
        yield network


def sets(network: Network) -> dict[str, set[str]]:
    return {vpc: set(network.members(vpc)) for vpc in VPCS}


def rested(network: Network) -> bool:
    """No request is open, and every member serves for good."""
    if any(mark.name.startswith("rebalance-") for mark in network.store.list(Watermark)):
        return False
    return all(m.state == "active" for vpc in VPCS for m in network.store.get(Vpc, vpc).status.members)


def loads(network: Network) -> list[Load]:
    """In each VPC between two hosts: a flow that is there, ever new ones, and a stream."""
    found: list[Load] = []
    for vpc in VPCS:
        source, target = network.pods[f"{vpc}-host-1"], network.pods[f"{vpc}-host-2"]
        found += [Probe(source.netns, target.address, fresh=fresh) for fresh in (False, True)]
        found.append(Stream(target.netns, network.pods[f"{vpc}-host-3"].address))
    new, old = network.pods["blue-new"], network.pods["blue-host-1"]
    return [*found, Probe(new.netns, old.address, fresh=True)]


def after(told: dict[str, Any]) -> dict[str, set[str]]:
    return {one["vpc"]: {*one["set"], *one["join"]} - {*one["leave"]} for one in told["vpcs"]}


def test_a_dry_run_tells_what_would_change_and_changes_nothing(network: Network) -> None:
    before, marks = sets(network), [mark.name for mark in network.store.list(Watermark)]
    told = rebalance.collect(network.places, dry=True)
    assert told["requested"] == [] and told["controller"] is True
    assert {(one["sets"]["now"], one["sets"]["then"]) for one in told["hosts"]} == {(2, 1), (0, 1)}
    assert "2 -> 1" in rebalance.text(told) and "asked" not in rebalance.text(told)
    network.turned()
    assert sets(network) == before and [mark.name for mark in network.store.list(Watermark)] == marks


def test_roles_become_even_as_foreseen_and_no_packet_is_lost(network: Network) -> None:
    foreseen = after(rebalance.collect(network.places, dry=True))
    running = loads(network)
    try:
        for load in running:
            until(lambda load=load: load.received, READY, "answers")
        told = rebalance.collect(network.places)
        assert told["requested"] == list(VPCS) and "asked the controller" in rebalance.text(told)
        until(lambda: rested(network), 3 * READY, "rebalanced")
        network.turned()
        had = [load.received for load in running]
        for load, number in zip(running, had, strict=True):
            until(lambda load=load, number=number: load.received > number or load.error, READY, "answers afterwards")
    finally:
        for load in running:
            load.stop()
    assert [(load.lost, load.error) for load in running] == [(0, "")] * len(running), network.drops()
    assert sets(network) == foreseen
    places = Counter(host for hosts in sets(network).values() for host in hosts)
    assert set(places.values()) == {1} and set(places) == set(network.hosts)
    until(lambda: not network.differences(), READY, "rows as in the store")
    shown = {host["name"]: len(host["divides"]) for host in status.collect(network.places)["hosts"]}
    assert set(shown.values()) == {1}


def test_once_even_nothing_moves(network: Network) -> None:
    before = sets(network)
    told = rebalance.collect(network.places)
    assert all(one["join"] == one["leave"] == () for one in told["vpcs"])
    assert "as it should be" in rebalance.text(told)
    until(lambda: rested(network), READY, "request carried out")
    assert sets(network) == before


def test_an_unknown_vpc_is_a_clear_error(network: Network) -> None:
    with pytest.raises(Permanent, match="find VPC nope: there is none; there are blue, red"):
        rebalance.collect(network.places, "nope")
