from __future__ import annotations

from collections import Counter
from dataclasses import replace

from node_agent.controller.liveness import Host
from node_agent.controller.placement import PLACES, bouncers, choose, place
from node_agent.model.objects import SetMember, Vpc, VpcSpec, VpcStatus
from tests.unit.controller.hosts import hosts


def vpc(size: int = 3, members: tuple[SetMember, ...] = (), name: str = "blue") -> Vpc:
    return Vpc(name=name, spec=VpcSpec(cidr="10.0.0.0/16", set_size=size), status=VpcStatus(members=members))


def placed(size: int, among: dict[str, Host], name: str = "blue") -> Vpc:
    return vpc(size, place(vpc(size, name=name), among), name)


def names(members: tuple[SetMember, ...]) -> set[str]:
    return {member.host for member in members}


def test_the_choice_does_not_depend_on_the_order_of_hosts() -> None:
    among = hosts(9)
    assert place(vpc(), among) == place(vpc(), dict(reversed(among.items())))


def test_roles_are_spread_over_hosts() -> None:
    roles = Counter(m.host for n in range(300) for m in placed(3, hosts(9), f"vpc-{n}").status.members)
    assert len(roles) == 9
    assert max(roles.values()) < 1.5 * 300 * 3 / 9


def test_zones_are_used_evenly_also_beside_those_that_stay() -> None:
    among = hosts(9, zones=3)
    for n in range(20):
        zones = Counter(among[m.host].zone for m in placed(6, among, f"vpc-{n}").status.members)
        assert set(zones.values()) == {2}
    stays = [among["host-1"], among["host-4"]]  # zone z1 both
    chosen = choose("blue", [h for h in among.values() if h not in stays], 2, stays)
    assert {host.zone for host in chosen} == {"z0", "z2"}


def test_who_may_not_be_chosen_is_not() -> None:
    among = hosts(4)
    among["host-2"] = replace(among["host-2"], eligible=False)
    assert names(place(vpc(4), among)) == {"host-1", "host-3", "host-4"}
    assert place(vpc(), {}) == ()


def test_two_dead_members_get_two_successors_in_their_places() -> None:
    among = hosts(9)
    before = placed(5, among)
    dead = [before.status.members[1].host, before.status.members[3].host]
    among |= {name: replace(among[name], alive=False, eligible=False) for name in dead}
    after = place(before, among)
    assert [m.place for m in after] == [0, 1, 2, 3, 4]
    assert [after[n] for n in (0, 2, 4)] == [before.status.members[n] for n in (0, 2, 4)]
    assert {after[1].state, after[3].state} == {"joining"}
    assert len(names(after)) == 5


def test_with_nobody_left_the_new_ones_serve_at_once() -> None:
    among = hosts(6)
    before = placed(3, among)
    among |= {name: replace(among[name], alive=False, eligible=False) for name in names(before.status.members)}
    after = place(before, among)
    assert {m.state for m in after} == {"active"}
    assert not names(after) & names(before.status.members)


def test_leaving_members_go_when_their_time_is_over_or_they_die() -> None:
    among = hosts(4)
    members = tuple(
        SetMember(place=n, host=f"host-{n + 1}", address=f"198.18.0.{11 + n}", state="leaving" if n == 3 else "active")
        for n in range(4)
    )
    assert place(vpc(3, members), among) == members
    assert place(vpc(3, members), among, spent={3}) == members[:3]
    among["host-4"] = replace(among["host-4"], alive=False)
    assert place(vpc(3, members), among) == members[:3]


def test_a_full_set_hands_a_drained_place_over_directly() -> None:
    among = hosts(17)
    before = placed(PLACES, among)
    drained = before.status.members[7].host
    among[drained] = replace(among[drained], drain=True, eligible=False)
    after = place(before, among)
    assert [m.place for m in after] == list(range(PLACES))
    assert (names(before.status.members) - names(after), after[7].state) == ({drained}, "joining")


def test_bouncers_of_small_and_large_sets() -> None:
    among = hosts(9)
    small, large = placed(3, among), placed(5, among)
    assert bouncers("web", small, small.status.members, (), among) == (0, 1, 2)
    chosen = bouncers("web", large, large.status.members, (), among)
    assert len(chosen) == 2
    assert bouncers("web", large, large.status.members, chosen, among) == chosen
    used = Counter(p for n in range(200) for p in bouncers(f"s-{n}", large, large.status.members, (), among))
    assert set(used) == set(range(5))


def test_a_bouncer_that_is_dead_for_good_is_relieved_by_another_member() -> None:
    among = hosts(5)
    large = placed(5, among)
    chosen = bouncers("web", large, large.status.members, (), among)
    dead = large.status.members[chosen[0]].host
    among[dead] = replace(among[dead], alive=False, eligible=False)
    assert place(large, among) == large.status.members, "nobody is left to replace the member"
    after = bouncers("web", large, large.status.members, chosen, among)
    assert (len(after), chosen[0] in after, chosen[1] in after) == (2, False, True)
    assert bouncers("web", large, large.status.members, chosen, among, frozen=True) == chosen


def test_bouncers_that_left_the_set_are_replaced_even_while_frozen() -> None:
    among = hosts(5)
    large = placed(5, among)
    after = bouncers("web", large, large.status.members[:4], (3, 4), among, frozen=True)
    assert len(after) == 2
    assert 3 in after
    assert 4 not in after


def test_who_leaves_knows_what_it_knew_to_the_end_and_who_comes_from_the_beginning() -> None:
    among = hosts(6)
    members = placed(3, hosts(3)).status.members
    coming = tuple(
        SetMember(place=3 + n, host=f"host-{4 + n}", address=f"198.18.0.{14 + n}", state="joining", replaces=n)
        for n in range(3)
    )
    assert bouncers("web", vpc(), (*members, *coming), (0, 1, 2), among) == (0, 1, 2, 3, 4, 5)
    swapped = tuple(replace(m, state="leaving") for m in members) + tuple(replace(m, state="active") for m in coming)
    assert bouncers("web", vpc(), swapped, (0, 1, 2, 3, 4, 5), among) == (0, 1, 2, 3, 4, 5)
    assert bouncers("web", vpc(), swapped[3:], (0, 1, 2, 3, 4, 5), among) == (3, 4, 5)
    assert bouncers("new", vpc(), swapped, (), among) == (3, 4, 5), "one that leaves learns nothing new"


def test_a_bouncer_stays_whatever_its_score() -> None:
    among = hosts(5)
    large = placed(5, among)
    for current in ((0, 1), (1, 4), (2, 3), (3, 4)):
        assert bouncers("web", large, large.status.members, current, among) == current


def test_a_smaller_set_keeps_its_zones() -> None:
    among = hosts(6, zones=2)
    for n in range(20):
        large = placed(6, among, f"vpc-{n}")
        small = place(vpc(2, large.status.members, large.name), among)
        assert {among[m.host].zone for m in small if m.state == "active"} == {"z0", "z1"}


def test_a_drained_member_goes_before_one_that_a_new_vpc_would_not_choose() -> None:
    for n in range(1, 5):
        members = placed(4, hosts(4)).status.members
        among = hosts(30)
        among[f"host-{n}"] = replace(among[f"host-{n}"], drain=True, eligible=False)
        after = place(vpc(3, members), among)
        assert [m.host for m in after if m.state == "leaving"] == [f"host-{n}"]


def test_a_dead_member_is_nobody_to_wait_for() -> None:
    among = hosts(3)
    members = tuple(SetMember(place=n, host=f"host-{n + 1}", address=f"198.18.0.{11 + n}") for n in (0, 1))
    among |= {name: replace(among[name], alive=False, eligible=False) for name in ("host-1", "host-2")}
    after = place(vpc(2, members), among)
    assert after == (replace(members[0], host="host-3", address="198.18.0.13"), members[1])
