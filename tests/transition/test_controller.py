"""The controller as a whole: a state, an event, the state after it. Time is the test's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from node_agent.model.errors import Conflict, Invalid, NotFound, Temporary
from node_agent.model.objects import (
    READY,
    NetworkEndpoint,
    NetworkHost,
    NetworkService,
    NetworkServiceSpec,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
    VpcStatus,
    Watermark,
)
from node_agent.model.users import ENDPOINT_FINALIZER, SUBNET_FINALIZER, VPC_FINALIZER
from node_agent.store.base import Event, Watch
from tests.transition.controller_world import CONFIG, World

DEAD = CONFIG.dead_after + 4


def test_numbers_of_deleted_vpcs_are_not_given_again() -> None:
    world = World(hosts=3)
    world.add_vpc("blue", subnets=0)
    world.add_vpc("green", subnets=0)
    world.step(0)
    assert world.vpc("green").status.vni == 1001
    world.store.delete(Vpc, "green")
    world.step(0)
    with pytest.raises(NotFound):
        world.vpc("green")
    world.start()  # nor by another controller
    world.add_vpc("green", subnets=0)
    world.step(0)
    assert world.vpc("green").status.vni == 1002
    world.store.delete(Vpc, "green")
    world.store.delete(Vpc, "blue")
    world.step(0)
    world.start()
    world.add_vpc("red", subnets=0)
    world.step(0)
    assert world.vpc("red").status.vni == 1003
    assert world.store.get(Watermark, "vni").status.value == 1003


def test_a_number_is_remembered_before_it_is_given() -> None:
    world = World(hosts=3)
    world.add_vpc(subnets=0)
    put_status = world.store.put_status

    def refuse(cls: type[Vpc], name: str, *args: object, **more: object) -> Vpc:
        if cls is Vpc:
            raise Temporary("put status of Vpc blue: killed here")
        return put_status(cls, name, *args, **more)  # type: ignore[arg-type]

    world.store.put_status = refuse  # type: ignore[assignment,method-assign]
    with pytest.raises(Temporary):
        world.controller.turn()
    world.store.put_status = put_status  # type: ignore[method-assign]
    world.start()
    world.step(0)
    assert world.vpc().status.vni == 1001


def test_a_used_vpc_is_kept_until_its_last_user_has_gone() -> None:
    world = World(hosts=3)
    world.add_vpc()
    world.step()
    name = world.add_endpoint("10.0.0.2", "host-1")
    world.store.delete(Vpc, "blue")
    world.store.delete(Subnet, "blue-0")
    world.step()
    assert world.vpc().meta.deleting
    assert world.store.get(Subnet, "blue-0").meta.deleting
    world.store.delete(NetworkEndpoint, name)
    world.store.drop_finalizer(NetworkEndpoint, name, ENDPOINT_FINALIZER)
    world.step()
    assert (world.store.list(Vpc), world.store.list(Subnet)) == ([], [])


class Behind:
    """A stream that may lag: what happens while it does is told afterwards."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.lags = False

    def poll(self, timeout: float = 0.0) -> Sequence[Event]:
        return () if self.lags else self._watch.poll(timeout)

    @property
    def fresh_at(self) -> float:
        return self._watch.fresh_at

    def close(self) -> None:
        self._watch.close()


def behind(world: World, kind: type[Any]) -> Behind:
    """The controller's stream of this kind, from now on; a fresh controller."""
    streams: list[Behind] = []
    watch = world.store.watch

    def watched(cls: type[Any], *args: Any, **more: Any) -> Any:
        found = watch(cls, *args, **more)
        if cls is kind:
            streams.append(Behind(found))
            return streams[-1]
        return found

    world.store.watch = watched  # type: ignore[method-assign]
    world.start()
    world.step()
    return streams[0]


@pytest.mark.parametrize("kind", [Subnet, NetworkEndpoint, NetworkService])
def test_a_vpc_whose_user_is_not_seen_yet_is_kept_until_that_one_has_gone(kind: type[Any]) -> None:
    world = World(hosts=3)
    world.add_vpc(subnets=0)
    stream = behind(world, kind)
    stream.lags = True
    if kind is Subnet:
        world.store.create(Subnet(name="late", spec=SubnetSpec(vpc="blue", cidr="10.0.7.0/24")))
    elif kind is NetworkEndpoint:
        world.add_endpoint("10.0.0.2", "host-1")
    else:
        world.store.create(NetworkService(name="late", spec=NetworkServiceSpec(vpc="blue", vip="10.0.9.9")))
    world.store.delete(Vpc, "blue")
    world.step(10)
    assert world.vpc().meta.finalizers == (VPC_FINALIZER,)
    assert not [line for line in world.events() if line["event"] == "finalizer lifted"]
    stream.lags = False
    world.step()
    assert world.vpc().meta.deleting
    for obj in world.store.list(kind):
        world.store.delete(kind, obj.name)
        for finalizer in obj.meta.finalizers:
            world.store.drop_finalizer(kind, obj.name, finalizer)
    world.step()
    assert world.store.list(Vpc) == []
    assert [line["name"] for line in world.events() if line["event"] == "finalizer lifted"] == ["blue"]


def test_a_subnet_whose_endpoint_is_not_seen_yet_is_kept() -> None:
    world = World(hosts=3)
    world.add_vpc()
    behind(world, NetworkEndpoint).lags = True
    world.add_endpoint("10.0.0.2", "host-1")
    world.store.delete(Subnet, "blue-0")
    world.step(10)
    assert world.store.get(Subnet, "blue-0").meta.finalizers == (SUBNET_FINALIZER,)


def test_what_an_ended_service_leaves_keeps_no_vpc() -> None:
    world = World(hosts=3)
    world.add_vpc(subnets=0)
    made = NetworkServiceSpec(vpc="blue", vip="10.96.0.9", source="a/b")
    world.store.create(NetworkService(name="a.b.blue", spec=made))
    world.store.delete(Vpc, "blue")
    world.step()
    assert world.store.list(Vpc) == []


def ready(world: World, name: str) -> tuple[str, str]:
    conditions = world.store.get(Subnet, name).status.conditions
    return next(((each.reason, each.message) for each in conditions if each.type == READY), ("", ""))


def test_a_subnet_that_names_no_vpc_is_told_so_until_there_is_one() -> None:
    world = World(hosts=3)
    world.store.create(Subnet(name="late", spec=SubnetSpec(vpc="blue", cidr="10.0.7.0/24")))
    world.step()
    assert ready(world, "late") == ("NoVpc", "there is no VPC 'blue'")
    writes = world.store.writes
    world.controller.turn()
    assert world.store.writes == writes
    assert len([line for line in world.events() if line["event"] == "subnet without a VPC"]) == 1
    world.add_vpc(subnets=0)
    world.step()
    assert ready(world, "late") == ("Bounced", "")


def test_a_subnet_is_told_of_no_vpc_only_when_the_store_has_none() -> None:
    world = World(hosts=3)
    stream = behind(world, Vpc)
    stream.lags = True
    world.add_vpc()
    world.step()
    assert ready(world, "blue-0") == ("", "")
    stream.lags = False
    world.step()
    assert ready(world, "blue-0") == ("Bounced", "")


def test_endpoints_of_dead_hosts_are_let_go_when_they_are_deleted() -> None:
    world = World(hosts=7)
    world.add_vpc()
    world.step()
    names = {
        host: world.add_endpoint(f"10.0.0.{n}", host)
        for n, host in enumerate(("host-1", "host-2", "host-3", "host-9"), start=2)
    }
    kept = world.add_endpoint("10.0.0.9", "host-1")
    for name in names.values():
        world.store.delete(NetworkEndpoint, name)
    world.step(4)
    assert {e.name for e in world.store.list(NetworkEndpoint)} == {
        kept,
        names["host-1"],
        names["host-2"],
        names["host-3"],
    }, "host-9 is no host"
    world.silent |= {"host-1", "host-2"}
    world.step(DEAD)
    assert {e.name for e in world.store.list(NetworkEndpoint)} == {kept, names["host-3"]}


def test_endpoints_are_not_let_go_while_frozen() -> None:
    world = World(hosts=2)
    world.add_vpc()
    world.step()
    name = world.add_endpoint("10.0.0.2", "host-1")
    world.store.delete(NetworkEndpoint, name)
    world.silent.add("host-1")
    world.step(DEAD)
    assert world.store.get(NetworkEndpoint, name).meta.deleting


def test_a_new_controller_changes_nothing_and_believes_no_stale_stamp() -> None:
    world = World(hosts=7)
    world.add_vpc(size=5, subnets=3)
    world.step()
    before = world.store.list(Vpc), world.store.list(Subnet)
    world.clock.advance(3600)  # the controller was down; agents went on, but wrote nothing it could date
    world.start()
    world.controller.turn()
    world.step(60)
    assert (world.store.list(Vpc), world.store.list(Subnet)) == before


def test_a_new_controller_replaces_who_is_dead_already() -> None:
    world = World(hosts=7)
    world.add_vpc()
    world.step()
    dead = world.members()[2].host
    world.silent.add(dead)
    world.clock.advance(3600)
    world.start()
    world.step(CONFIG.dead_after / 5 + 4)
    assert dead not in world.set_of().values()


def test_a_recreated_host_is_a_new_one() -> None:
    world = World(hosts=4)
    world.add_vpc(size=4)
    world.step()
    world.silent.add("host-2")
    world.step(DEAD)
    old = world.store.get(NetworkHost, "host-2")
    world.store.delete(NetworkHost, "host-2")
    world.store.create(NetworkHost(name="host-2", spec=old.spec))
    world.silent.clear()
    world.step(8)
    assert sorted(world.set_of().values()) == ["host-1", "host-2", "host-3", "host-4"]


def test_a_changed_address_reaches_the_set() -> None:
    world = World(hosts=3)
    world.add_vpc()
    world.step()
    world.respec(NetworkHost, "host-2", address="198.18.0.99")
    world.step(0)
    assert [m.address for m in world.members().values() if m.host == "host-2"] == ["198.18.0.99"]
    world.step(4)
    assert {m.state for m in world.members().values()} == {"active"}


def test_a_write_in_between_costs_a_round() -> None:
    world = World(hosts=3)
    world.add_vpc()
    put_status = world.store.put_status
    meddled: list[str] = []

    def meddle(cls: type[Vpc], name: str, *args: object, **more: object) -> Vpc:
        if cls is Vpc and not meddled:
            meddled.append(name)
            world.store.put_spec(Vpc, name, VpcSpec(cidr="10.0.0.0/15"))
        return put_status(cls, name, *args, **more)  # type: ignore[arg-type]

    world.store.put_status = meddle  # type: ignore[assignment,method-assign]
    world.controller.turn()
    assert world.vpc().status == VpcStatus()
    assert world.bouncers() == (), "subnets wait for their VPC"
    world.controller.turn()
    assert (world.vpc().status.vni, world.vpc().status.observed_generation) == (1001, 2)
    assert world.bouncers() == (0, 1, 2)


def test_trouble_is_said_once_and_outlived() -> None:
    world = World(hosts=3)
    world.add_vpc()
    trouble = Temporary("open store /x: no such file", delay=1.5)
    world.store.fail = [trouble] * 5
    pauses: list[float] = []
    turns = iter([False] * 9)
    world.controller.run(lambda: next(turns, True), pauses.append)
    assert pauses == [1.5] * 5
    assert world.vpc().status.vni == 1000
    said = [(e["event"], e["level"]) for e in world.events()]
    assert said.count(("trouble", "warning")) == 1
    assert said.count(("trouble over", "info")) == 1


def test_a_permanent_refusal_of_one_object_does_not_stop_the_others() -> None:
    world = World(hosts=3)
    world.add_vpc("blue")
    world.add_vpc("green")
    put_status = world.store.put_status

    def refuse(cls: type[Vpc], name: str, *args: object, **more: object) -> Vpc:
        if name == "blue":
            raise Conflict("put status of Vpc blue: it changed")
        return put_status(cls, name, *args, **more)  # type: ignore[arg-type]

    world.store.put_status = refuse  # type: ignore[assignment,method-assign]
    world.controller.turn()
    assert (world.vpc("blue").status.vni, world.vpc("green").status.vni) == (0, 1001)


def test_the_same_events_give_the_same_state() -> None:
    def story() -> str:
        world = World(hosts=9, zones=2)
        for number in range(5):
            world.add_vpc(f"vpc-{number}", size=3 + number % 3, subnets=2)
        world.step(4)
        world.silent.add("host-4")
        world.step(DEAD)
        world.respec(NetworkHost, "host-7", drain=True)
        world.step(100)
        return str(world.store)

    assert story() == story()


def test_what_a_failing_read_brought_is_not_forgotten() -> None:
    world = World(hosts=3)
    world.add_vpc(subnets=0)
    world.store.fail = [None, Temporary("read: the store is locked")]  # VPCs are read, subnets are not
    with pytest.raises(Temporary):
        world.controller.turn()
    assert world.vpc().status.vni == 0
    world.controller.turn()
    assert world.vpc().status.vni == 1000


def test_no_number_is_given_without_its_memory() -> None:
    world = World(hosts=3)
    world.add_vpc("green", subnets=0)
    world.step(0)
    world.add_vpc("blue", subnets=0)
    put_status = world.store.put_status

    def refuse(cls: type[Vpc], name: str, *args: object, **more: object) -> Vpc:
        if cls is Watermark:  # type: ignore[comparison-overlap]
            raise Conflict("put status of Watermark vni: it changed")
        return put_status(cls, name, *args, **more)  # type: ignore[arg-type]

    world.store.put_status = refuse  # type: ignore[assignment,method-assign]
    world.controller.turn()
    assert world.vpc().status.vni == 0


def test_a_vpc_that_only_a_newer_program_can_read_is_one() -> None:
    world = World(hosts=3)
    world.store.create(Subnet(name="late", spec=SubnetSpec(vpc="blue", cidr="10.0.7.0/24")))

    def get(cls: type[Any], name: str) -> Any:
        raise Invalid([f"{cls.kind} {name}: spec: mode 'new' is unknown"])

    world.store.get = get  # type: ignore[method-assign]
    world.controller.turn()
    [subnet] = world.store.list(Subnet)
    assert subnet.status.conditions == ()
