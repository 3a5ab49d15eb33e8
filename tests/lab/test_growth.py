"""What a change costs: one endpoint touches its own host and its subnet's bouncers, a new host touches nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node_agent.rows.image import MapImage
from tests.lab import traffic
from tests.lab.network import READY, Network, Pod, made
from tests.waiting import until

pytestmark = pytest.mark.root

SETS = {"red": 3, "blue": 5}  # VPC -> size of its set; B is 2


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """7 hosts, each with an endpoint of both subnets of both VPCs."""
    with made(request, 7) as network:
        for number, (vpc, size) in enumerate(SETS.items(), 1):
            subnets = {f"{vpc}-a": f"10.{number}.1.0/24", f"{vpc}-b": f"10.{number}.2.0/24"}
            network.vpc(vpc, f"10.{number}.0.0/16", subnets, set_size=size, bouncers=2)
        for host in network.hosts:
            populate(network, host)
        yield network


def populate(network: Network, host: str) -> None:
    """One endpoint per subnet; those of the first subnets have workloads."""
    for vpc in SETS:
        network.add(f"{vpc}-a-{host}", f"{vpc}-a", host)
        network.add(f"{vpc}-b-{host}", f"{vpc}-b", host, workload=False)


def settled(network: Network) -> dict[str, MapImage]:
    """The dumps of all hosts, once they are what the store asks for."""
    until(lambda: not network.differences(), READY, "rows as in the store")
    return network.dumps()


def final(network: Network) -> dict[str, MapImage]:
    """As `settled`, and every agent has looked at the store since: nothing more is to come."""
    settled(network)
    network.turned()
    assert network.differences() == []
    return network.dumps()


def changed(before: dict[str, MapImage], after: dict[str, MapImage]) -> dict[str, set[str]]:
    """Host -> names of the maps that differ, for the hosts in both where any does."""
    found = {
        host: {name for name in after[host] if after[host][name] != before[host][name]}
        for host in before.keys() & after.keys()
    }
    return {host: maps for host, maps in found.items() if maps}


def unreached(network: Network, pods: list[Pod]) -> list[tuple[str, str]]:
    """Pairs of one VPC between which one datagram or its answer is lost."""
    failed = []
    for source in pods:
        for target in pods:
            if source.vpc != target.vpc or source == target:
                continue
            try:
                assert traffic.ask_once(source.netns, target.address)["name"] == target.name
            except TimeoutError:
                failed.append((source.name, target.name))
    return failed


def serving(network: Network) -> list[Pod]:
    """The endpoints with a workload."""
    return [pod for pod in network.pods.values() if pod.subnet.endswith("-a")]


@pytest.mark.parametrize("vpc", SETS)
@pytest.mark.parametrize("place", ["a bouncer", "another host"])
def test_an_endpoint_touches_its_host_and_its_bouncers_only(network: Network, vpc: str, place: str) -> None:
    subnet = f"{vpc}-a"
    bouncers = set(network.bouncers(subnet))
    assert len(bouncers) == {"red": 3, "blue": 2}[vpc]
    host = min(bouncers) if place == "a bouncer" else min(set(network.hosts) - bouncers)
    before = settled(network)
    pod = network.add("extra", subnet, host, workload=False)
    after = final(network)
    expected = {bouncer: {"endpoints"} for bouncer in bouncers}
    expected[host] = expected.get(host, set()) | {"locals", "ports"}
    assert changed(before, after) == expected
    for name, maps in expected.items():
        for one in maps:
            assert len(after[name][one]) == len(before[name][one]) + 1
            assert before[name][one].items() <= after[name][one].items(), "no other row changed"
    network.remove(pod)
    assert changed(before, settled(network)) == {}


def test_the_first_endpoint_of_a_vpc_on_a_host_touches_no_more(network: Network) -> None:
    network.vpc("grey", "10.9.0.0/16", {"grey-a": "10.9.1.0/24"}, set_size=3)
    bouncers = set(network.bouncers("grey-a"))
    host = min(set(network.hosts) - bouncers)
    before = settled(network)
    pod = network.add("lone", "grey-a", host, workload=False)
    touched = changed(before, final(network))
    assert touched.pop(host) == {"vpcs", "subnets", "locals", "ports"}
    assert touched == {bouncer: {"endpoints"} for bouncer in bouncers}
    network.remove(pod)
    assert changed(before, settled(network)) == {}


def test_two_more_hosts_touch_no_other(network: Network) -> None:
    """Neither endpoint rows nor any others; new roles only go to new hosts when somebody asks for that."""
    sets, before = {vpc: network.members(vpc) for vpc in SETS}, settled(network)
    new = network.add_hosts(2)
    assert changed(before, final(network)) == {}
    for host in new:
        populate(network, host)
    after = final(network)
    assert {vpc: network.members(vpc) for vpc in SETS} == sets
    bouncing = {host for vpc in SETS for part in "ab" for host in network.bouncers(f"{vpc}-{part}")}
    assert set(changed(before, after)) == bouncing, "the new endpoints' own rows"
    for host, image in before.items():
        for name, rows in image.items():
            assert rows.items() <= after[host][name].items(), "every row that was there is as it was"


def test_everybody_reaches_everybody_on_nine_hosts(network: Network) -> None:
    assert len(network.hosts) == 9
    assert unreached(network, serving(network)) == []
    assert network.drops() == {}
