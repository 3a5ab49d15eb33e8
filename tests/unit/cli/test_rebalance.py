"""`mizar rebalance`: what is foreseen, and what the controller makes of a request."""

from __future__ import annotations

import io
from typing import Any

from node_agent.cli import rebalance as command
from node_agent.controller.log import Log
from node_agent.controller.rebalance import Foreseen, Rebalancer, foreseen, request
from node_agent.model.errors import Temporary
from node_agent.model.objects import NetworkHost, Subnet, Vpc, Watermark
from tests.transition.controller_world import CONFIG, World


class Rebalanced(World):
    """The controller's process: its loop, and the rebalancer between its turns."""

    def start(self) -> None:
        super().start()
        self.rebalancer = Rebalancer(CONFIG, self.store, self.clock, Log(self.output), self.controller.write)
        turn = self.controller.turn

        def both(wait: float = 0.0) -> None:
            self.rebalancer.turn()
            turn(wait)

        self.controller.turn = both  # type: ignore[method-assign]

    def foreseen(self, vpc: str = "blue") -> Foreseen:
        found = foreseen(
            [vpc], self.store.list(Vpc), self.store.list(Subnet), self.store.list(NetworkHost), self.clock(), CONFIG
        )
        return next(one for one in found if one.vpc == vpc)

    def wishes(self) -> list[str]:
        return [mark.name for mark in self.store.list(Watermark) if mark.name != "vni"]


def grown() -> tuple[Rebalanced, Foreseen]:
    """Two sets of the same three hosts, when there were no others, and six more: one set could move to them."""
    world = Rebalanced(hosts=3)
    world.add_vpc()
    world.add_vpc("green")
    world.step(10)
    for _ in range(6):
        world.add_host()
    world.step(10)
    told = world.foreseen()
    assert told.join and len(told.join) == len(told.leave)
    return world, told


def test_without_a_request_nothing_moves() -> None:
    world, told = grown()
    world.step(200)
    assert set(world.set_of().values()) == set(told.set)


def test_new_members_join_before_old_ones_leave() -> None:
    world, told = grown()
    assert request(world.store, "blue") and not request(world.store, "blue")
    seen: set[frozenset[str]] = set()
    for _ in range(100):
        world.step(0)
        world.clock.advance(2.0)
        states = world.set_of().values()
        seen.add(frozenset(state.partition(" ")[2] for state in states))
        assert sum(" " not in state for state in states) >= 3, "fewer serve than should"
    assert frozenset({"", "joining"}) in seen and frozenset({"", "leaving"}) in seen
    assert set(world.set_of().values()) == {*told.set, *told.join} - {*told.leave}
    assert world.wishes() == []
    again = world.foreseen()
    assert (again.join, again.leave, again.waits) == ((), (), "")


def test_a_request_outlives_the_controller_and_waits_for_its_turn() -> None:
    world, told = grown()
    request(world.store, "blue")
    world.step(2)
    assert "joining" in world.foreseen().waits
    world.start()
    world.step(200)
    assert set(world.set_of().values()) == {*told.set, *told.join} - {*told.leave}
    assert world.wishes() == []


def test_a_request_waits_while_too_many_hosts_are_silent() -> None:
    world, told = grown()
    world.silent = {f"host-{n}" for n in range(6, 10)}
    world.step(60)
    request(world.store, "blue")
    world.step(60)
    assert world.wishes() == ["rebalance-blue"] and set(world.set_of().values()) == set(told.set)
    assert "frozen" in world.foreseen().waits


def test_drained_hosts_that_are_silent_do_not_hold_a_request_up() -> None:
    """They are on their way out; the controller's own placement does not count them either."""
    world, _ = grown()
    leaving = {world.add_host() for _ in range(6)}
    world.step(10)
    for name in leaving:
        world.respec(NetworkHost, name, drain=True)
    world.silent = leaving
    world.step(60)
    assert "frozen" not in world.foreseen().waits
    told = world.foreseen()
    request(world.store, "blue")
    world.step(200)
    assert told.join and set(world.set_of().values()) >= set(told.join)


def test_requests_for_what_is_not_there_are_dropped() -> None:
    world = Rebalanced(hosts=1)
    request(world.store, "nope")
    world.step(4)
    assert world.wishes() == []
    assert world.store.list(Vpc) == []


def test_a_store_that_fails_costs_a_second_and_nothing_else() -> None:
    world, _ = grown()
    request(world.store, "blue")
    world.clock.advance(2.0)
    world.store.fail = [None, None, Temporary("read store: locked")]
    world.rebalancer.turn()
    world.store.fail = []
    world.step(200)
    assert world.wishes() == []


def test_text_says_what_moves_and_why_not() -> None:
    role = {"name": "host-7", "sets": {"now": 0, "then": 1}, "bounces": {"now": 2, "then": 2}}
    vpcs = [
        {"vpc": "blue", "set": ("host-1",), "join": ("host-2",), "leave": ("host-1",), "waits": ""},
        {"vpc": "red", "set": ("host-1",), "join": (), "leave": (), "waits": "members are joining"},
        {"vpc": "tan", "set": ("host-1",), "join": (), "leave": (), "waits": ""},
    ]
    told: dict[str, Any] = {"requested": ["blue"], "controller": False, "vpcs": vpcs, "hosts": [role]}
    text = command.text(told)
    for words in (
        "host-2",
        "members are joining",
        "as it should be",
        "asked the controller",
        "does not run",
        "host-7  0 -> 1  2",
    ):
        assert words in text
    assert "asked" not in command.text({**told, "requested": []})


def test_the_log_says_what_was_done() -> None:
    world, told = grown()
    request(world.store, "blue")
    world.step(200)
    events = {event["event"]: event for event in world.events()}
    assert events["rebalancing"]["joining"] == list(told.join) and "rebalanced" in events
    assert isinstance(world.output, io.StringIO)


def test_the_roles_of_hosts_are_foreseen_as_they_will_be() -> None:
    world = Rebalanced(hosts=3)
    for name in ("blue", "green", "red"):
        world.add_vpc(name, size=3, subnets=2)
    world.step(10)
    for _ in range(3):
        world.add_host()
    world.step(10)
    every = ["blue", "green", "red"]
    config = CONFIG
    found = foreseen(
        every, world.store.list(Vpc), world.store.list(Subnet), world.store.list(NetworkHost), world.clock(), config
    )
    told = command.roles([host.name for host in world.store.list(NetworkHost)], found)
    for vpc in every:
        request(world.store, vpc)
    world.step(300)
    assert world.wishes() == []
    for one in found:
        assert set(world.set_of(one.vpc).values()) == {*one.set, *one.join} - {*one.leave}
        for subnet in one.bouncers:
            members = world.members(one.vpc)
            assert {members[place].host for place in world.bouncers(subnet.subnet)} == set(subnet.then)
    served = [host for vpc in every for host in world.set_of(vpc).values()]
    assert {one["name"]: one["sets"]["then"] for one in told} == {h: served.count(h) for h in (o["name"] for o in told)}
    assert {one["sets"]["then"] for one in told} <= {1, 2}
    assert [one["sets"]["now"] for one in told] == [3, 3, 3, 0, 0, 0]
