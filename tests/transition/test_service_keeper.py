"""The keeper of services over a store in memory: what a change makes it look at and write. Time is the test's."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from node_agent.controller import service_keeper
from node_agent.controller.log import Log
from node_agent.controller.service_keeper import PATIENCE, REST, ServiceKeeper
from node_agent.controller.services import Verdict, judge
from node_agent.model.config import ControllerConfig, Listed
from node_agent.model.errors import Invalid, MizarError, Permanent, Temporary
from node_agent.model.objects import (
    READY,
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkService,
    NetworkServiceSpec,
    ServiceBackend,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
)
from node_agent.model.wishes import Wish
from node_agent.store.kubernetes_services import News, Port, Service, Slice, Target
from node_agent.testing.store import FakeStore

API = "198.18.0.10"
CONFIG = ControllerConfig(
    stack_id="s", store="", cluster=True, vpc="blue", listed=(Listed(address=API, port=443, protocol="tcp"),)
)


class Cluster:
    """Tells what is put into it; `told` are the events."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.fails: MizarError | None = None
        self.synced = True
        self._kinds: tuple[dict[str, Any], ...] = ({}, {}, {})
        self._changed: tuple[dict[str, None], ...] = ({}, {}, {})

    def put(self, kind: int, key: str, now: object) -> None:
        self._kinds[kind][key] = now
        self._changed[kind][key] = None

    def take(self) -> News | None:
        if not self.synced:
            return None
        found = [{key: known.get(key) for key in changed} for known, changed in self._both()]
        for changed in self._changed:
            changed.clear()
        return News(services=found[0], slices=found[1], namespaces=found[2])

    def again(self) -> None:
        """As a new process sees it."""
        for known, changed in self._both():
            changed.update(dict.fromkeys(key for key, now in known.items() if now is not None))

    def tell(self, service: Service, message: str) -> None:
        if self.fails:
            raise self.fails
        self.told.append((service.key, message))

    def close(self) -> None:
        """Nothing is held."""

    def _both(self) -> Sequence[tuple[dict[str, Any], dict[str, None]]]:
        return list(zip(self._kinds, self._changed, strict=True))


class World:
    """Two VPCs with equal addresses, and a keeper."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store, self.cluster, self.now, self.said = FakeStore(), Cluster(), 1000.0, io.StringIO()
        self.judged: list[str] = []
        monkeypatch.setattr(service_keeper, "judge", self._judge)
        for name in ("blue", "red"):
            self.store.create(Vpc(name=name, spec=VpcSpec(cidr="10.0.0.0/16")))
            self.store.create(Subnet(name=f"{name}-a", spec=SubnetSpec(vpc=name, cidr="10.0.1.0/24")))
        self.start()

    def start(self) -> None:
        """A keeper that knows nothing yet."""
        self.cluster.again()
        self.keeper = ServiceKeeper(self.cluster, self.store, CONFIG, lambda: self.now, Log(self.said))

    def service(self, name: str, vip: str, namespace: str = "shop", vpc: str = "") -> None:
        key = f"{namespace}/{name}"
        self.cluster.put(2, namespace, Wish(whose=f"namespace {namespace}"))
        wish = Wish(whose=f"service {key}", vpc=vpc)
        ports = (Port(name="", protocol="TCP", port=80, target=8080),)
        self.cluster.put(0, key, Service(namespace=namespace, name=name, addresses=(vip,), wish=wish, ports=ports))

    def pods(self, service: str, *targets: Target, port: int = 8080) -> None:
        ports = (Port(name="", protocol="TCP", port=port),)
        self.cluster.put(1, f"{service}-1", Slice(service=service, ports=ports, targets=targets))

    def endpoint(self, vpc: str, address: str, pod: str) -> str:
        spec = NetworkEndpointSpec(
            vpc=vpc, subnet=f"{vpc}-a", address=address, host="h", container_id=pod, workload=f"shop/{pod}"
        )
        return self.store.create(NetworkEndpoint(name=f"{vpc}-{address}", spec=spec)).name

    def turn(self, seconds: float = 0.1) -> list[str]:
        """Which services were judged."""
        self.judged.clear()
        self.now += seconds
        self.keeper.turn()
        return list(self.judged)

    def settle(self) -> None:
        while self.turn():
            pass

    def backends(self, name: str) -> dict[str, str]:
        return {each.address: each.state for each in self.store.get(NetworkService, name).spec.backends}

    def names(self) -> list[str]:
        return [each.name for each in self.store.list(NetworkService)]

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.said.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    def _judge(self, service: Service, *rest: Any) -> Verdict:
        self.judged.append(service.key)
        return judge(service, *rest)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def pod(address: str, name: str, **state: bool) -> Target:
    return Target(address=address, pod=f"shop/{name}", **state)


def test_nothing_is_written_before_everything_is_known(world: World) -> None:
    world.cluster.synced = False
    stale = NetworkServiceSpec(vpc="blue", vip="10.96.0.9", source="shop/gone")
    world.store.create(NetworkService(name="shop.gone.blue", spec=stale))
    writes = world.store.writes
    world.service("web", "10.96.0.20")
    world.turn()
    assert world.store.writes == writes
    world.cluster.synced = True
    world.settle()
    assert world.names() == ["shop.web.blue"], "and what is stale is gone"


def test_a_service_follows_its_pods(world: World) -> None:
    world.service("web", "10.96.0.20")
    world.pods("shop/web", pod("10.0.1.2", "one"))
    world.settle()
    assert world.backends("shop.web.blue") == {}, "nobody knows the pod's endpoint yet"
    name = world.endpoint("blue", "10.0.1.2", "one")
    world.settle()
    assert world.backends("shop.web.blue") == {"10.0.1.2": "ready"}
    world.pods("shop/web", pod("10.0.1.2", "one", ready=False, terminating=True), pod("10.0.1.3", "two"))
    world.endpoint("blue", "10.0.1.3", "two")
    world.settle()
    assert world.backends("shop.web.blue") == {"10.0.1.2": "terminating", "10.0.1.3": "ready"}
    world.store.delete(NetworkEndpoint, name)
    world.settle()
    assert world.backends("shop.web.blue") == {"10.0.1.3": "ready"}


def test_31_a_service_that_is_deleted_is_gone_and_others_objects_stay(world: World) -> None:
    own = world.store.create(NetworkService(name="shop", spec=NetworkServiceSpec(vpc="blue", vip="10.0.9.9")))
    world.service("web", "10.96.0.20")
    world.settle()
    assert world.names() == ["shop", "shop.web.blue"]
    world.cluster.put(0, "shop/web", None)
    world.settle()
    assert world.store.list(NetworkService) == [own]


def test_an_object_of_somebody_else_is_left_alone_and_that_is_told(world: World) -> None:
    theirs = world.store.create(
        NetworkService(name="shop.web.blue", spec=NetworkServiceSpec(vpc="blue", vip="10.0.9.9"))
    )
    world.service("web", "10.96.0.20")
    world.settle()
    assert world.store.list(NetworkService) == [theirs]
    world.turn(PATIENCE)
    assert world.cluster.told == [("shop/web", "service shop.web.blue is somebody else's, and left alone")]
    world.store.delete(NetworkService, "shop.web.blue")
    world.settle()
    assert world.store.get(NetworkService, "shop.web.blue").spec.source == "shop/web"


def test_what_was_changed_or_removed_by_hand_is_put_right(world: World) -> None:
    world.service("web", "10.96.0.20")
    world.settle()
    made = world.store.get(NetworkService, "shop.web.blue")
    wrong = replace(made.spec, backends=(ServiceBackend(address="192.0.2.1"),))
    world.store.put_spec(NetworkService, made.name, wrong)
    world.settle()
    assert world.store.get(NetworkService, made.name).spec == made.spec
    world.store.delete(NetworkService, made.name)
    world.settle()
    assert world.store.get(NetworkService, made.name).spec == made.spec


def test_only_the_services_that_a_change_concerns_are_looked_at(world: World) -> None:
    for n in range(20):
        world.service(f"s{n}", f"10.96.1.{n}")
        world.pods(f"shop/s{n}", pod(f"10.0.1.{n + 2}", f"p{n}"))
        world.endpoint("blue", f"10.0.1.{n + 2}", f"p{n}")
    world.service("other", "10.96.2.1", namespace="else")
    world.settle()
    assert not world.turn()
    name = world.endpoint("red", "10.0.1.9", "p7")
    assert world.turn() == ["shop/s7"]
    world.store.put_status(NetworkEndpoint, name, NetworkEndpointStatus(host="h", host_address="198.18.0.11"))
    assert not world.turn(), "who holds an endpoint is nothing to services"
    world.pods("shop/s3", pod("10.0.1.5", "p3", ready=False))
    assert world.turn() == ["shop/s3"]
    world.cluster.put(2, "else", Wish(whose="namespace else", vpc="red"))
    world.settle()
    assert world.names()[0] == "else.other.red"
    world.store.create(Vpc(name="green", spec=VpcSpec(cidr="10.0.0.0/16")))
    assert not world.turn()


def test_nothing_is_written_where_nothing_differs(world: World) -> None:
    world.service("web", "10.96.0.20")
    world.pods("shop/web", pod("10.0.1.2", "one"))
    world.endpoint("blue", "10.0.1.2", "one")
    world.settle()
    writes = world.store.writes
    world.start()
    world.settle()
    world.cluster.put(0, "shop/web", None)
    world.service("web", "10.96.0.20")
    world.settle()
    assert world.store.writes == writes


def test_a_service_that_moves_to_another_vpc_is_made_anew_there(world: World) -> None:
    world.service("web", "10.96.0.20")
    world.pods("shop/web", pod("10.0.1.2", "one"))
    world.endpoint("red", "10.0.1.2", "one")
    world.settle()
    world.cluster.put(2, "shop", Wish(whose="namespace shop", vpc="red"))
    world.settle()
    assert world.names() == ["shop.web.red"]
    assert world.backends("shop.web.red") == {"10.0.1.2": "ready"}


def test_15_a_service_whose_vpc_comes_later_gets_there(world: World) -> None:
    world.service("web", "10.96.0.20", vpc="green")
    world.settle()
    assert not world.names()
    world.turn(PATIENCE)
    assert "there is no VPC 'green'" in world.cluster.told[0][1]
    world.store.create(Vpc(name="green", spec=VpcSpec(cidr="10.0.0.0/16")))
    world.settle()
    assert world.names() == ["shop.web.green"]


def test_28_a_listed_service_comes_to_vpcs_that_are_made_later_and_goes_with_them(world: World) -> None:
    world.service("kubernetes", "10.96.0.1", namespace="default")
    world.pods("default/kubernetes", Target(address=API), port=443)
    world.settle()
    assert world.names() == ["default.kubernetes.blue", "default.kubernetes.red"]
    world.store.create(Vpc(name="green", spec=VpcSpec(cidr="10.0.0.0/16")))
    world.settle()
    made = world.store.get(NetworkService, "default.kubernetes.green")
    assert made.spec.backends == (ServiceBackend(address=API, egress=True),)
    world.store.delete(Vpc, "green")
    world.settle()
    assert world.names() == ["default.kubernetes.blue", "default.kubernetes.red"]


def test_a_port_that_is_not_listed_is_mentioned_once_and_no_warning(world: World) -> None:
    key, wish = "kube-system/kube-dns", Wish(whose="service kube-system/kube-dns")
    found = tuple(Port(name=f"p{n}", protocol="TCP", port=n, target=n) for n in (443, 9153))
    made = Service(namespace="kube-system", name="kube-dns", addresses=("10.96.0.10",), wish=wish, ports=found)
    world.cluster.put(0, key, made)
    for _ in range(3):  # its pod is replaced
        for targets in ((Target(address=API),), ()):
            world.cluster.put(1, f"{key}-1", Slice(service=key, ports=found, targets=targets))
            world.settle()
            world.turn(PATIENCE * 2)
            world.turn()
    assert not world.cluster.told and not world.logged("service is not as asked")
    [line] = world.logged("service in part")
    assert (line["level"], line["service"]) == ("info", key)
    assert line["cause"].startswith("port 9153/TCP has no backend")
    world.cluster.put(1, f"{key}-1", Slice(service=key, ports=found, targets=(Target(address=API),)))
    world.settle()
    [condition] = world.store.get(NetworkService, "kube-system.kube-dns.blue").status.conditions
    assert condition.status == "True" and "9153" in condition.message


def test_its_status_says_whether_it_answers_and_why_not(world: World) -> None:
    def ready() -> tuple[str, str, str]:
        [found] = world.store.get(NetworkService, "shop.web.blue").status.conditions
        assert found.type == READY
        return found.status, found.reason, found.message

    world.service("web", "10.96.0.20")
    world.settle()
    assert ready() == ("False", "NoBackends", "no pod behind it is ready")
    world.pods("shop/web", Target(address="192.0.2.7"))
    world.settle()
    assert ready() == ("False", "NoBackends", "no endpoint of VPC blue, so no backend: 192.0.2.7")
    world.pods("shop/web", pod("10.0.1.2", "one"))
    world.endpoint("blue", "10.0.1.2", "one")
    world.settle()
    assert ready() == ("True", "Answers", "")


def test_what_passes_is_not_told_and_what_stays_is_told_once(world: World) -> None:
    world.service("web", "10.96.0.20")
    world.pods("shop/web", pod("10.0.1.2", "one"))
    world.settle()
    world.turn(PATIENCE / 2)
    world.endpoint("blue", "10.0.1.2", "one")
    world.settle()
    world.turn(PATIENCE * 2)
    assert not world.cluster.told
    world.pods("shop/web", Target(address="192.0.2.7"))
    world.settle()
    world.cluster.fails = Permanent("the namespace is being deleted")
    for _ in range(3):
        world.turn(PATIENCE)
    assert len(world.logged("service is not as asked")) == len(world.logged("event not told")) == 1


def test_a_refusal_costs_a_rest_and_no_other_service(world: World) -> None:
    world.service("one", "10.96.0.21")
    world.service("two", "10.96.0.22")
    world.turn(0)
    world.settle()
    world.cluster.put(0, "shop/two", None)
    world.service("three", "10.96.0.23")
    world.store.fail = [None, None, None, None, Temporary("the server is away")]
    world.turn()
    world.store.fail = []
    assert not world.turn(), "it rests"
    world.turn(REST)
    world.settle()
    assert world.names() == ["shop.one.blue", "shop.three.blue"]


def test_a_spec_that_the_store_does_not_take_is_said_and_does_not_end_the_controller(world: World) -> None:
    world.service("web", "10.96.0.20")
    world.service("fine", "10.96.0.21")
    world.turn(0)
    world.settle()
    world.service("web", "10.96.0.30")
    world.service("fine", "10.96.0.31")
    world.store.fail = [None, None, None, None, Invalid(["spec.vip: no"])]
    world.settle()
    assert [line["service"] for line in world.logged("service refused")] == ["shop/web"]
    vips = {each.name: each.spec.vip for each in world.store.list(NetworkService)}
    assert vips == {"shop.web.blue": "10.96.0.20", "shop.fine.blue": "10.96.0.31"}
