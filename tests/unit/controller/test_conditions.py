"""Ready, and why not: what the controller says of VPCs and subnets."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from node_agent.controller import conditions
from node_agent.controller.plan import Memory, State, plan
from node_agent.model.config import ControllerConfig
from node_agent.model.objects import (
    READY,
    Condition,
    Meta,
    NetworkHost,
    NetworkHostSpec,
    NetworkHostStatus,
    Subnet,
    SubnetSpec,
    SubnetStatus,
    Vpc,
    VpcSpec,
    VpcStatus,
    refused,
)
from node_agent.rows.subnets import subnet_rows

CONFIG = ControllerConfig(stack_id="s", store="x")
HOST = NetworkHost(
    name="host-1",
    spec=NetworkHostSpec(address="198.18.0.11"),
    status=NetworkHostStatus(heartbeat=1000, ready=True),
)
BLUE = Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16"), meta=Meta(uid="u", resource_version=1, generation=3))


def subnet(name: str, cidr: str, version: int) -> Subnet:
    return Subnet(name=name, spec=SubnetSpec(vpc="blue", cidr=cidr), meta=Meta(generation=2, resource_version=version))


class World:
    """Plans and does what was planned, as the store would: every write gets a higher resource version."""

    def __init__(self, *subnets: Subnet, hosts: bool = True) -> None:
        self.state = State(
            vpcs={"blue": BLUE},
            subnets={each.name: each for each in subnets},
            hosts={"host-1": HOST} if hosts else {},
        )
        self.version, self.writes = 100, 0

    def settle(self, now: float = 1000) -> None:
        for _ in range(6):
            made = plan(self.state, Memory(), now, CONFIG)
            if not made.changes:
                return
            for change in made.changes:
                self._put(change.vpc, change.status)
                for each, status in reversed(change.subnets):
                    self._put(each, status)
        raise AssertionError("it never comes to rest")

    def _put(self, obj: Vpc | Subnet, status: VpcStatus | SubnetStatus) -> None:
        self.version += 1
        made = replace(obj, status=status, meta=replace(obj.meta, resource_version=self.version))  # type: ignore[arg-type]
        known = self.state.vpcs if isinstance(obj, Vpc) else self.state.subnets
        known[obj.name] = made  # type: ignore[index]

    def ready(self, name: str) -> Condition:
        holder = self.state.subnets.get(name) or self.state.vpcs[name]
        [condition] = [each for each in holder.status.conditions if each.type == READY]
        return condition


def test_what_is_in_force_says_so_with_the_generation_it_is_about() -> None:
    world = World(subnet("web", "10.0.1.0/24", 5))
    world.settle()
    assert (world.ready("blue").status, world.ready("blue").reason) == ("True", "Served")
    assert (world.ready("web").status, world.ready("web").reason) == ("True", "Bounced")
    assert (world.ready("blue").observed_generation, world.ready("web").observed_generation) == (3, 2)
    assert world.ready("web").last_transition_time == "1970-01-01T00:16:40Z"


def test_a_subnet_outside_of_its_vpc_is_refused_and_has_no_rows() -> None:
    world = World(subnet("web", "10.1.0.0/24", 5))
    world.settle()
    assert (world.ready("web").status, world.ready("web").reason) == ("False", "OutsideVpc")
    assert "10.1.0.0/24 is not inside of 10.0.0.0/16" in world.ready("web").message
    web, blue = world.state.subnets["web"], world.state.vpcs["blue"]
    assert web.status.bouncers == ()
    assert subnet_rows(web, blue, "host-1", local=True, listed=True) == {}
    right = replace(web, status=replace(web.status, conditions=()))
    assert subnet_rows(right, blue, "host-1", local=True, listed=True) != {}


def test_of_two_subnets_that_overlap_the_first_one_stays_whatever_is_written() -> None:
    for hosts in (True, False):
        world = World(subnet("b", "10.0.0.0/23", 5), subnet("a", "10.0.1.0/24", 6), hosts=hosts)
        world.settle()
        assert not refused(world.state.subnets["b"])
        assert world.ready("a").reason == "Overlaps"
        assert "overlaps subnet b" in world.ready("a").message


def test_a_refused_subnet_is_taken_once_nothing_is_in_its_way() -> None:
    world = World(subnet("b", "10.0.0.0/23", 5), subnet("a", "10.0.1.0/24", 6))
    world.settle()
    del world.state.subnets["b"]  # type: ignore[attr-defined]
    world.settle(2000)
    assert (world.ready("a").status, world.ready("a").last_transition_time) == ("True", "1970-01-01T00:33:20Z")


def test_a_subnet_that_is_not_in_force_is_in_nobodys_way() -> None:
    world = World(
        subnet("first", "10.0.0.0/24", 5),
        subnet("wide", "10.0.0.0/22", 6),  # overlaps the first
        subnet("wider", "10.0.0.0/8", 7),  # is not inside of the VPC
        subnet("late", "10.0.1.0/24", 8),  # overlaps these two only
    )
    world.settle()
    reasons = {name: world.ready(name).reason for name in world.state.subnets}
    assert reasons == {"first": "Bounced", "wide": "Overlaps", "wider": "OutsideVpc", "late": "Bounced"}


def test_overlaps_are_found_wherever_they_are_and_whoever_comes_first() -> None:
    numbers = random.Random(5)
    for _ in range(200):
        cidrs = []
        for _ in range(12):
            length = numbers.choice((24, 25, 26, 27, 28))
            cidrs.append(str(IPv4Network((int(IPv4Address("10.0.0.0")) + numbers.randrange(1024), length), False)))
        subnets = [subnet(f"s{version}", cidr, version) for version, cidr in enumerate(cidrs)]
        kept: list[Subnet] = []
        for each in subnets:
            if not any(IPv4Network(each.spec.cidr).overlaps(IPv4Network(other.spec.cidr)) for other in kept):
                kept.append(each)
        found = conditions.mistakes(BLUE, numbers.sample(subnets, len(subnets)))
        assert found.keys() == {each.name for each in subnets} - {each.name for each in kept}
        assert {reason for reason, _ in found.values()} <= {"Overlaps"}


def test_the_work_of_a_turn_grows_with_the_subnets_of_a_vpc_and_not_with_their_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subnets = [subnet(f"s{number}", f"10.0.{number}.0/24", number) for number in range(256)]
    parsed: list[object] = []
    turns: list[Subnet] = []
    parse, turn = conditions.parse_prefix, conditions._turn
    monkeypatch.setattr(conditions, "parse_prefix", lambda name, text: parsed.append(text) or parse(name, text))
    monkeypatch.setattr(conditions, "_turn", lambda one: turns.append(one) or turn(one))
    state = State(vpcs={"blue": BLUE}, subnets={one.name: one for one in subnets}, hosts={"host-1": HOST})
    plan(state, Memory(), 1000, CONFIG)
    assert (len(parsed), len(turns)) == (257, 256)


def test_without_hosts_nothing_is_ready_and_the_time_of_a_change_is_kept() -> None:
    world = World(subnet("web", "10.0.1.0/24", 5), hosts=False)
    world.settle(1000)
    assert (world.ready("blue").reason, world.ready("web").reason) == ("NoHosts", "NoBouncers")
    world.state.subnets["web"] = replace(  # type: ignore[index]
        world.state.subnets["web"], meta=Meta(generation=3, resource_version=500)
    )
    world.settle(2000)
    assert world.ready("web").observed_generation == 3
    assert world.ready("web").last_transition_time == "1970-01-01T00:16:40Z"


def test_a_prefix_that_is_none_stops_nobody_else() -> None:
    world = World(subnet("bad", "ten", 5), subnet("web", "10.0.1.0/24", 6))
    world.settle()
    assert (world.ready("bad").reason, world.ready("web").reason) == ("OutsideVpc", "Bounced")
