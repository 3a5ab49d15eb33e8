"""The controller and the hosts: a state, an event, the state after it. Time is the test's."""

from __future__ import annotations

import pytest

from node_agent.model.objects import NetworkHost, Subnet, Vpc
from tests.transition.controller_world import CONFIG, World

DEAD = CONFIG.dead_after + 4


def test_a_new_vpc_gets_a_number_and_a_working_set_at_once() -> None:
    world = World(hosts=7)
    world.add_vpc(subnets=2)
    world.step(0)
    vpc = world.vpc()
    assert vpc.status.vni == 1000
    assert sorted(world.members()) == [0, 1, 2]
    assert {member.state for member in world.members().values()} == {"active"}
    assert len({member.host for member in world.members().values()}) == 3
    for member in world.members().values():
        assert member.address == world.store.get(NetworkHost, member.host).spec.address
    assert world.bouncers("blue-0") == world.bouncers("blue-1") == (0, 1, 2)
    assert vpc.status.observed_generation == vpc.meta.generation


@pytest.mark.parametrize(("size", "bouncers"), [(3, 2), (5, 2)])
def test_two_more_hosts_change_nothing(size: int, bouncers: int) -> None:
    world = World(hosts=7)
    for number in range(6):
        world.add_vpc(f"vpc-{number}", size=size, bouncers=bouncers, subnets=3)
    world.step()
    vpcs, subnets = world.store.list(Vpc), world.store.list(Subnet)
    assert {len(vpc.status.members) for vpc in vpcs} == {size}
    assert {len(subnet.status.bouncers) for subnet in subnets} == {3 if size == 3 else bouncers}
    world.add_host()
    world.add_host()
    world.step(600)
    assert (world.store.list(Vpc), world.store.list(Subnet)) == (vpcs, subnets)


def test_nothing_is_written_when_nothing_happens() -> None:
    world = World(hosts=7)
    world.add_vpc(subnets=2)
    world.step(20)
    before, lines = world.store.writes, len(world.events())
    world.step(100)
    beats = 50 * 7  # the first of the 51 in this time is that of the step before
    assert world.store.writes - before == beats
    assert len(world.events()) == lines


def test_a_heartbeat_alone_makes_no_round() -> None:
    world = World(hosts=3)
    world.add_vpc()
    world.step()
    memory = world.controller._memory
    world.clock.advance(0.5)
    world.beat()
    world.controller.turn()
    assert world.controller._memory is memory


@pytest.mark.parametrize("size", [3, 5])
def test_a_dead_member_is_replaced_by_one_host_in_its_own_place(size: int) -> None:
    world = World(hosts=9)
    world.add_vpc(size=size, subnets=4)
    world.step()
    before, bounced = world.members(), {s.name: s.status.bouncers for s in world.store.list(Subnet)}
    world.silent.add(before[1].host)
    world.step(DEAD)
    after = world.members()
    assert {p: m for p, m in after.items() if p != 1} == {p: m for p, m in before.items() if p != 1}
    assert after[1].host not in {member.host for member in before.values()}
    assert {s.name: s.status.bouncers for s in world.store.list(Subnet)} == bounced


def test_a_late_heartbeat_is_no_death() -> None:
    world = World(hosts=7)
    world.add_vpc()
    world.step()
    before = world.vpc()
    world.silent.add(world.members()[1].host)
    world.step(CONFIG.dead_after - 2)
    world.silent.clear()
    world.step(60)
    assert world.vpc() == before


def test_a_successor_joins_until_every_host_with_rows_knows_it() -> None:
    world = World(hosts=7)
    world.add_vpc()
    world.step()
    outside = next(h.name for h in world.store.list(NetworkHost) if h.name not in world.set_of().values())
    world.add_endpoint("10.0.0.2", outside)
    world.deaf.add(outside)
    world.silent.add(world.members()[0].host)
    world.step(DEAD)
    assert world.set_of()[0].endswith(" joining")
    world.step(20)
    assert world.set_of()[0].endswith(" joining")
    world.deaf.clear()
    world.step()
    assert world.members()[0].state == "active"


def test_a_host_without_rows_need_not_know() -> None:
    world = World(hosts=7)
    world.add_vpc()
    world.step()
    world.silent.add(world.members()[0].host)
    world.step(CONFIG.dead_after)
    members = {member.host for member in world.members().values()}
    world.deaf |= {host.name for host in world.store.list(NetworkHost)} - members
    successor_known_by_then = 8
    world.step(successor_known_by_then)
    world.deaf -= {member.host for member in world.members().values()}  # the successor itself must load its rows
    world.step()
    assert {m.state for m in world.members().values()} == {"active"}


def test_who_never_reports_is_waited_for_60_s() -> None:
    world = World(hosts=7)
    world.add_vpc()
    world.step()
    world.deaf |= {host.name for host in world.store.list(NetworkHost)}
    world.silent.add(world.members()[0].host)
    world.step(DEAD)
    joined = world.clock()
    while world.members()[0].state == "joining":
        world.step()
        assert world.clock() - joined <= 62
    assert world.clock() - joined >= 50


def test_the_dead_need_not_know() -> None:
    world = World(hosts=9)
    world.add_vpc()
    world.step()
    outside = next(h.name for h in world.store.list(NetworkHost) if h.name not in world.set_of().values())
    world.add_endpoint("10.0.0.2", outside)
    world.silent |= {outside, world.members()[0].host}
    world.step(DEAD + 2)
    assert {m.state for m in world.members().values()} == {"active"}


def test_frozen_while_more_than_a_third_look_dead() -> None:
    world = World(hosts=7)
    world.add_vpc(size=5)
    world.add_vpc("green", size=3)
    world.step()
    before = world.store.list(Vpc), world.store.list(Subnet)
    world.silent |= {"host-1", "host-2", "host-3"}
    world.step(300)
    assert (world.store.list(Vpc), world.store.list(Subnet)) == before
    assert [e["event"] for e in world.events() if "frozen" in e["event"]] == [
        "placement frozen: more than a third of the hosts look dead"
    ]
    world.silent -= {"host-3"}
    world.step(2)
    members = {member.host for vpc in world.store.list(Vpc) for member in vpc.status.members}
    assert not {"host-1", "host-2"} & members
    assert "placement no longer frozen" in [e["event"] for e in world.events()]


def test_a_new_vpc_is_served_even_while_frozen() -> None:
    world = World(hosts=2)
    world.silent.add("host-2")
    world.step(DEAD)
    world.add_vpc()
    world.step(0)
    assert (world.set_of(), world.vpc().status.vni) == ({0: "host-1"}, 1000)


def test_a_returned_host_waits_before_it_is_chosen() -> None:
    world = World(hosts=4)
    world.add_vpc()
    world.step()
    gone = world.members()[0].host
    world.silent.add(gone)
    world.step(DEAD)
    assert gone not in world.set_of().values()
    world.silent.clear()
    world.step()
    world.add_vpc("green", size=4)
    world.step(CONFIG.hold_down - 4)
    assert len(world.set_of("green")) == 3
    assert gone not in world.set_of("green").values()
    world.step(6)
    assert world.members("green")[3].host == gone
    assert gone not in world.set_of("blue").values()


def test_a_dead_member_without_a_successor_stays_and_comes_back() -> None:
    world = World(hosts=3)
    world.add_vpc()
    world.step()
    before = world.vpc()
    world.silent.add("host-2")
    world.step(600)
    world.silent.clear()
    world.step(600)
    assert world.vpc() == before


def test_a_removed_host_leaves_at_once() -> None:
    world = World(hosts=3)
    world.add_vpc()
    world.step()
    world.store.delete(NetworkHost, "host-2")
    world.step(0)
    assert sorted(world.set_of().values()) == ["host-1", "host-3"]
    assert set(world.bouncers()) == set(world.members())


def test_a_drained_member_hands_over_before_it_goes() -> None:
    world = World(hosts=7)
    world.add_vpc(size=5, subnets=3)
    world.step()
    before = world.members()
    drained = world.bouncers()[0]
    world.deaf |= {host.name for host in world.store.list(NetworkHost)}
    world.respec(NetworkHost, before[drained].host, drain=True)
    world.step(0)
    assert {**before, 5: world.members()[5]} == world.members()
    assert world.members()[5].state == "joining"
    assert set(world.bouncers()) >= {drained}, "it is asked until its successor works"
    assert len(world.bouncers()) == 3
    world.deaf.clear()
    world.step(2)
    assert world.members()[drained].state == "leaving"
    assert drained in world.bouncers(), "hosts that hear of it late ask it still"
    assert len(set(world.bouncers()) - {drained}) == 2
    world.step(CONFIG.leaving + 4)
    assert sorted(world.set_of()) == sorted({*before, 5} - {drained})
    assert all(m.state == "active" for m in world.members().values())


def test_a_drained_member_leaves_where_no_host_could_succeed_it() -> None:
    world = World(hosts=3)
    world.add_vpc()
    world.step()
    world.respec(NetworkHost, "host-2", drain=True)
    world.step(CONFIG.leaving + 4)
    assert sorted(world.set_of().values()) == ["host-1", "host-3"]
    assert set(world.bouncers()) == set(world.members())


def test_the_last_that_serve_stay_although_drained() -> None:
    world = World(hosts=2)
    world.add_vpc()
    world.step()
    before = world.vpc()
    for host in ("host-1", "host-2"):
        world.respec(NetworkHost, host, drain=True)
    world.step(600)
    assert world.vpc() == before


def test_a_drained_host_that_is_dead_freezes_nothing() -> None:
    world = World(hosts=2)
    world.add_vpc()
    world.step()
    world.silent.add("host-2")
    world.step(DEAD)
    assert len(world.members()) == 2
    world.respec(NetworkHost, "host-2", drain=True)
    world.step()
    assert set(world.set_of().values()) == {"host-1"}


def test_a_drained_member_waits_for_a_successor_that_is_only_late() -> None:
    world = World(hosts=3)
    world.add_vpc(size=2)
    world.step()
    [spare] = {"host-1", "host-2", "host-3"} - set(world.set_of().values())
    world.silent.add(spare)
    world.step(DEAD)
    drained = world.members()[0].host
    world.respec(NetworkHost, drained, drain=True)
    world.step()
    assert drained in world.set_of().values()
    world.silent.clear()
    world.step(CONFIG.hold_down + CONFIG.leaving + 10)
    assert drained not in world.set_of().values()
    assert spare in world.set_of().values()


def test_a_larger_and_a_smaller_set() -> None:
    world = World(hosts=7)
    world.add_vpc(size=3)
    world.step()
    before = world.members()
    world.respec(Vpc, "blue", set_size=5)
    world.step(0)
    assert {p: m for p, m in world.members().items() if p < 3} == before
    assert {world.members()[3].state, world.members()[4].state} == {"joining"}
    assert world.vpc().status.observed_generation == 2
    world.step(4)
    assert {m.state for m in world.members().values()} == {"active"}
    assert len(world.bouncers()) == 2
    world.respec(Vpc, "blue", set_size=3)
    world.step(0)
    assert sorted(m.state for m in world.members().values()) == ["active"] * 3 + ["leaving"] * 2
    world.step(CONFIG.leaving + 4)
    assert len(world.members()) == 3
    assert world.bouncers() == tuple(sorted(world.members()))


def test_empty_places_are_filled_when_hosts_come() -> None:
    world = World(hosts=2)
    world.add_vpc()
    world.step()
    before = world.members()
    assert len(before) == 2
    world.add_host()
    world.step(4)
    assert world.set_of() == {**{p: m.host for p, m in before.items()}, 2: "host-3"}
    assert world.bouncers() == (0, 1, 2)


def test_members_are_spread_over_zones() -> None:
    world = World(hosts=9, zones=3)
    world.add_vpc()
    world.step()
    assert len({world.store.get(NetworkHost, host).spec.zone for host in world.set_of().values()}) == 3
    lost = world.members()[0].host
    zone = world.store.get(NetworkHost, lost).spec.zone
    world.silent.add(lost)
    world.step(DEAD)
    assert world.store.get(NetworkHost, world.members()[0].host).spec.zone == zone
