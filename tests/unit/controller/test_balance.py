"""Even roles: what `mizar rebalance` aims at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from node_agent.controller import placement
from node_agent.controller.balance import balance
from node_agent.controller.liveness import Host
from node_agent.controller.placement import place
from node_agent.model.objects import SetMember, Vpc, VpcSpec, VpcStatus
from tests.unit.controller.hosts import hosts


def with_members(vpc: Vpc, members: Iterable[SetMember]) -> Vpc:
    return replace(vpc, status=replace(vpc.status, members=tuple(members)))


def placed(number: int, among: dict[str, Host], size: int = 3) -> list[Vpc]:
    made = [Vpc(name=f"v{n:03}", spec=VpcSpec(cidr="10.0.0.0/16", set_size=size)) for n in range(number)]
    return [with_members(vpc, place(vpc, among)) for vpc in made]


def names(vpc: Vpc) -> set[str]:
    return {member.host for member in vpc.status.members}


def settled(vpcs: list[Vpc], among: dict[str, Host]) -> list[Vpc]:
    """The VPCs once all that was written has been carried out, step by step as the controller does it."""
    planned = balance(vpcs, [vpc.name for vpc in vpcs], among)
    after = []
    for vpc in vpcs:
        vpc = with_members(vpc, planned.get(vpc.name, vpc.status.members))
        assert place(vpc, among) == vpc.status.members, "nobody leaves before the new ones serve"
        vpc = with_members(vpc, place(vpc, among, known={m.place for m in vpc.status.members}))
        assert sum(m.state == "active" for m in vpc.status.members) == 3
        vpc = with_members(vpc, place(vpc, among, spent={m.place for m in vpc.status.members if m.state == "leaving"}))
        after.append(vpc)
    return after


def roles(vpcs: list[Vpc], among: dict[str, Host]) -> list[int]:
    count = Counter(host for vpc in vpcs for host in names(vpc))
    return [count[host] for host in among]


@pytest.mark.parametrize(("number", "before", "then"), [(2, 3, 6), (1, 3, 9), (7, 3, 10), (40, 5, 16), (100, 10, 13)])
def test_growth_is_shared_by_all_hosts_and_twice_is_once(number: int, before: int, then: int) -> None:
    among = hosts(then)
    after = settled(placed(number, hosts(before)), among)
    assert max(roles(after, among)) - min(roles(after, among)) <= 1
    assert all(m.state == "active" and m.replaces == -1 for vpc in after for m in vpc.status.members)
    assert balance(after, [vpc.name for vpc in after], among) == {}


def test_no_more_places_move_than_evenness_costs() -> None:
    vpcs = placed(12, hosts(6))
    after = settled(vpcs, hosts(8))
    moved = sum(len(names(old) - names(new)) for old, new in zip(vpcs, after, strict=True))
    load = Counter(host for vpc in vpcs for host in names(vpc))
    assert moved <= sum(max(0, load[host] - 12 * 3 // 8) for host in hosts(6))


def test_a_set_that_is_even_enough_stays_where_it_is() -> None:
    for vpc in placed(20, hosts(3)):
        assert balance([vpc], [vpc.name], hosts(9)) == {}, "no host has two places"


def test_only_the_wanted_move_and_the_others_count() -> None:
    vpcs, among = placed(2, hosts(3)), hosts(6)
    planned = balance(vpcs, ["v001"], among)
    assert list(planned) == ["v001"]
    assert {m.host for m in planned["v001"] if m.state == "joining"} == {"host-4", "host-5", "host-6"}
    assert balance(vpcs, [], among) == {}


def test_sets_on_their_way_are_counted_where_they_will_be_and_left_alone() -> None:
    vpcs, among = placed(2, hosts(3)), hosts(6)
    first = with_members(vpcs[0], balance(vpcs, ["v000", "v001"], among)["v000"])
    assert balance([first, vpcs[1]], ["v000", "v001"], among) == {}, "the first makes room enough"


def test_the_drained_and_the_dead_are_not_chosen_and_zones_come_first() -> None:
    among = hosts(6)
    among["host-5"] = replace(among["host-5"], alive=False, eligible=False)
    among["host-6"] = replace(among["host-6"], drain=True, eligible=False)
    chosen = {m.host for members in balance(placed(4, hosts(3)), ["v000"], among).values() for m in members}
    assert not chosen & {"host-5", "host-6"} and "host-4" in chosen
    among = hosts(9, zones=3)
    for vpc in settled(placed(6, hosts(3, zones=3)), among):
        assert {among[name].zone for name in names(vpc)} == {"z0", "z1", "z2"}


def test_a_successor_of_one_that_dies_meanwhile_dismisses_nobody_else() -> None:
    vpcs, among = placed(2, hosts(3)), hosts(6)
    written = with_members(vpcs[0], balance(vpcs, ["v000"], among)["v000"])
    joining = [m for m in written.status.members if m.state == "joining"]
    gone = next(m.host for m in written.status.members if m.place == joining[0].replaces)
    del among[gone]
    after = place(written, among, known={m.place for m in joining})
    assert all(
        m.replaces not in {o.place for o in after} or m.replaces == -1 for m in after if m.host == joining[0].host
    )
    assert sum(m.state == "active" for m in after) == 3


@pytest.mark.parametrize("number", [1, 3, 16, 60, 99])
def test_who_is_not_scored_would_not_have_been_chosen(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    among = list(hosts(60, zones=4).values())
    ranks = {host.name: (turn * 7 % 5,) for turn, host in enumerate(among)}

    def chosen() -> list[Host]:
        return placement.choose("v", among, number, among[:number], rank=lambda host: ranks[host.name])

    found = chosen()
    monkeypatch.setattr(placement, "_contenders", lambda candidates, *_: list(candidates))
    assert found == chosen()


def test_sets_that_are_even_cost_no_scores_of_hosts_they_leave_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    among = hosts(60)
    even = settled(placed(60, hosts(40)), among)
    calls, score = [], placement.score
    monkeypatch.setattr(placement, "score", lambda owner, host: calls.append(host) or score(owner, host))
    assert balance(even, [vpc.name for vpc in even], among) == {}
    assert len(calls) < 10 * len(even), "not 60 for each"


def test_an_empty_vpc_is_left_to_placement() -> None:
    empty = Vpc(name="v", spec=VpcSpec(cidr="10.0.0.0/16"), status=VpcStatus())
    assert balance([empty], ["v"], hosts(4)) == {}
