from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations

import pytest

from node_agent.health import pairs as pairs_module
from node_agent.health.pairs import Endpoint, Service, choose, equal_addresses, isolation, of_services


def endpoint(vpc: str, name: str, host: str, subnet: str = "s1", address: str = "") -> Endpoint:
    number = sum(map(ord, name)) % 250
    return Endpoint(
        vpc=vpc, subnet=subnet, name=name, address=address or f"10.0.0.{number}", host=host, place="/n/" + name
    )


def grid(vpc: str = "a", hosts: int = 3, each: int = 4) -> list[Endpoint]:
    return [
        endpoint(vpc, f"{vpc}{h}{i}", f"host-{h}", f"s{i % 2}", f"10.{ord(vpc)}.{h}.{i + 2}")
        for h in range(hosts)
        for i in range(each)
    ]


def test_every_two_hosts_both_ways_within_and_between_subnets() -> None:
    counted = Counter((p.source.host, p.target.host, p.relation) for p in choose(grid()))
    for source, target in permutations(["host-0", "host-1", "host-2"], 2):
        assert counted[source, target, "same subnet"] == 1
        assert counted[source, target, "other subnet"] == 1
    for host in ("host-0", "host-1", "host-2"):
        assert counted[host, host, "same host"] == 2
    assert sum(counted.values()) == 6 * 2 + 3 * 2


def test_pairs_stay_in_their_vpc_and_never_loop() -> None:
    for pair in choose(grid("a") + grid("b")):
        assert pair.source.vpc == pair.target.vpc and pair.source != pair.target


def test_all_endpoints_get_a_turn() -> None:
    pairs = choose(grid(hosts=3, each=4))
    assert {p.source for p in pairs} | {p.target for p in pairs} == set(grid(hosts=3, each=4))


def test_the_choice_does_not_depend_on_the_order_given() -> None:
    assert choose(grid()) == choose(reversed(grid()))


def test_few_endpoints_make_few_pairs() -> None:
    one, two = endpoint("a", "x", "h1"), endpoint("a", "y", "h2")
    assert choose([]) == choose([one]) == ()
    assert [(p.source, p.target) for p in choose([one, two])] == [(one, two), (two, one)]


def test_an_endpoint_without_a_namespace_is_only_a_target() -> None:
    one = endpoint("a", "x", "h1")
    pod = Endpoint(vpc="a", subnet="s1", name="pod", address="10.0.0.9", host="h2")
    assert [(p.source, p.target) for p in choose([one, pod])] == [(one, pod)]
    assert isolation([Endpoint(vpc="b", subnet="s", name="q", address="10.0.0.8", host="h2"), pod]) == ()


def test_many_pairs_are_sampled_evenly() -> None:
    pairs = choose(grid(hosts=30, each=2), limit=100)
    assert len(pairs) == len(set(pairs)) == 100
    assert len({p.source.host for p in pairs}) == 30


def test_above_the_limit_every_host_is_probed_both_ways_as_far_as_it_goes() -> None:
    for hosts, limit in ((30, 30), (37, 120), (64, 200)):
        pairs = choose(grid(hosts=hosts, each=4), limit=limit)
        assert len(pairs) == len({(p.source.host, p.target.host) for p in pairs}) == limit
        for end in ("source", "target"):
            counted = Counter(getattr(p, end).host for p in pairs)
            assert set(counted.values()) <= {limit // hosts, -(-limit // hosts)}
            assert len(counted) == hosts
        sorts = Counter(p.relation for p in pairs)
        assert abs(sorts["same subnet"] - sorts["other subnet"]) <= 2
    seen: dict[str, set[str]] = {}
    for pair in choose(grid(hosts=64, each=4), limit=200):
        seen.setdefault(pair.source.host, set()).add(pair.relation)
    assert all(len(relations) == 2 for relations in seen.values()), "a host is tried in both sorts"


def test_vpcs_share_the_limit_and_small_ones_are_probed_whole() -> None:
    small, large, other = grid("a", hosts=3), grid("b", hosts=60), grid("c", hosts=60)
    pairs = choose([*large, *small, *other], limit=200)
    counted = Counter(p.source.vpc for p in pairs)
    assert tuple(p for p in pairs if p.source.vpc == "a") == choose(small)
    assert counted == {"a": 18, "b": 91, "c": 91}
    many = [one for n in range(26) for one in grid(chr(ord("a") + n), hosts=20, each=1)]
    assert len(choose(many, limit=10)) == 10


def test_the_work_grows_with_the_limit_and_not_with_the_square_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    least = pairs_module._least
    monkeypatch.setattr(pairs_module, "_least", lambda used, some: looked.append(some) or least(used, some))
    assert len(choose(grid(hosts=100, each=2))) == 500
    assert len(looked) <= 2 * 500


def test_few_that_can_send_are_found_among_many() -> None:
    everyone = [replace(one, place="" if one.host != "host-7" else one.place) for one in grid(hosts=60)]
    pairs = choose(everyone, limit=40)
    assert len(pairs) == len({p.target.host for p in pairs}) == 40
    assert {p.source.host for p in pairs} == {"host-7"}


def test_of_very_many_vpcs_those_are_tried_that_can_send() -> None:
    silent = [replace(endpoint(f"s{n:02}", "x", "host-0", "s0", f"10.0.{n}.2"), place="") for n in range(60)]
    pairs = isolation([*silent, *grid("a")], limit=50)
    assert {p.source.vpc for p in pairs} == {"a"}
    assert len({p.target.vpc for p in pairs}) >= 40, "spread over all"
    both = isolation([*grid("a"), *grid("b")], limit=2)
    assert {p.source.vpc for p in both} == {"a", "b"}


def test_isolation_is_tried_from_every_host_in_both_directions() -> None:
    pairs = isolation(grid("a") + grid("b"))
    assert {(p.source.vpc, p.target.vpc) for p in pairs} == {("a", "b"), ("b", "a")}
    assert {p.source.host for p in pairs} == {"host-0", "host-1", "host-2"}
    assert all(p.relation == "other vpc" for p in pairs)
    assert any(p.source.host == p.target.host for p in pairs) and any(p.source.host != p.target.host for p in pairs)


def test_an_address_that_both_vpcs_use_is_no_target() -> None:
    both = [endpoint("a", "x", "h1", address="10.0.0.2"), endpoint("b", "y", "h1", address="10.0.0.2")]
    assert isolation(both) == ()
    more = [*both, endpoint("b", "z", "h1", address="10.0.0.3")]
    assert [(p.source.name, p.target.name) for p in isolation(more)] == [("x", "z")]


def service(vpc: str, *backends: str, address: str = "10.0.255.1") -> Service:
    return Service(vpc=vpc, name=f"{vpc}-web", address=address, ports=(("tcp", 80),), backends=backends)


def test_a_service_is_tried_from_every_host_by_a_backend_and_by_others() -> None:
    behind = service("a", "a00", "a10", "a11")
    pairs = of_services(grid("a") + grid("b"), [behind])
    found = sorted((p.source.host, p.source.name in behind.backends) for p in pairs)
    assert found == [("host-0", False), ("host-0", True), ("host-1", False), ("host-1", True), ("host-2", False)]
    assert {(p.source.vpc, p.target, p.relation) for p in pairs} == {("a", behind, "service")}
    assert of_services(grid("a"), [service("a")]) == ()
    assert pairs[0].ports() == (("tcp", 80),)
    assert str(pairs[0]).startswith("host-0: a/") and str(pairs[0]).endswith("service a/a-web (10.0.255.1)")


def test_a_service_of_another_vpc_is_silent_unless_the_address_is_ones_own_too() -> None:
    everyone = grid("a") + grid("b")
    pairs = isolation(everyone, [service("b", "b00")])
    foreign = [p for p in pairs if isinstance(p.target, Service)]
    assert {(p.source.vpc, p.source.host, p.relation) for p in foreign} == {
        ("a", f"host-{n}", "other vpc") for n in range(3)
    }
    for own in (service("a"), endpoint("a", "same", "host-0", address="10.0.255.1")):
        services = [service("b", "b00"), *([own] if isinstance(own, Service) else [])]
        pairs = isolation([*everyone, *([own] if isinstance(own, Endpoint) else [])], services)
        assert not [p for p in pairs if p.source.vpc == "a" and isinstance(p.target, Service)]


def test_equal_addresses_are_tried_where_the_other_vpcs_endpoint_is_near() -> None:
    twins = [
        endpoint(vpc, f"{vpc}-{host}-{number}", f"host-{host}", address=f"10.0.0.{10 * ((host + shift) % 3) + number}")
        for vpc, shift in (("a", 0), ("b", 1))
        for host in range(3)
        for number in (1, 2)
    ]
    pairs = equal_addresses(twins)
    assert sorted((p.source.vpc, p.source.host) for p in pairs) == [(v, f"host-{h}") for v in "ab" for h in range(3)]
    where = {(e.vpc, e.address): e.host for e in twins}
    for pair in pairs:
        assert pair.relation == "equal address"
        assert pair.source.vpc == pair.target.vpc and pair.source != pair.target
        other = "b" if pair.source.vpc == "a" else "a"
        assert where[other, pair.target.address] == pair.source.host
    assert equal_addresses(grid("a") + grid("b")) == ()
