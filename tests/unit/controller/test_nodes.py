"""Hosts made of nodes, and who uses a VPC or subnet."""

from __future__ import annotations

from dataclasses import replace

from node_agent.controller import usage
from node_agent.controller.nodes import GRACE, steps
from node_agent.model.objects import (
    IN_USE,
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkHost,
    NetworkHostSpec,
    NetworkService,
    NetworkServiceSpec,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
)
from node_agent.model.users import users_of
from node_agent.store.kubernetes_nodes import Node, read

ONE = Node(name="one", address="198.18.0.11", zone="a")
HOST = NetworkHost(name="one", spec=NetworkHostSpec(address="198.18.0.11", zone="a", mtu=9000))


def test_a_node_is_read_as_the_api_shows_it() -> None:
    addresses = [
        {"type": "Hostname", "address": "one"},
        {"type": "InternalIP", "address": "fd00::1"},
        {"type": "InternalIP", "address": "198.18.0.11"},
    ]
    labels = {"topology.kubernetes.io/zone": "a"}
    assert read({"metadata": {"name": "one", "labels": labels}, "status": {"addresses": addresses}}) == ONE
    assert read({"metadata": {"name": "one"}}) == Node(name="one", address="", zone="")


def test_each_node_with_an_address_gets_a_host() -> None:
    silent = Node(name="silent", address="", zone="")
    due = steps({"one": ONE, "silent": silent}, [], {}, 0.0)
    assert [host.name for host in due.creates] == ["one"]
    assert due.creates[0].spec == NetworkHostSpec(address="198.18.0.11", zone="a")
    assert not due.updates and not due.removals and not due.missing


def test_a_host_follows_its_node_and_keeps_the_rest() -> None:
    moved = replace(ONE, address="198.18.0.99")
    [(host, spec)] = steps({"one": moved}, [HOST], {}, 0.0).updates
    assert (host, spec) == (HOST, replace(HOST.spec, address="198.18.0.99"))
    assert not steps({"one": ONE}, [HOST], {}, 0.0).updates


def test_a_host_outlives_its_node_for_a_grace() -> None:
    first = steps({}, [HOST], {}, 100.0)
    assert first.missing == {"one": 100.0} and not first.removals
    later = steps({}, [HOST], first.missing, 100.0 + GRACE - 1)
    assert later.missing == {"one": 100.0} and not later.removals
    assert steps({}, [HOST], later.missing, 100.0 + GRACE).removals == (HOST,)
    back = steps({"one": ONE}, [HOST], later.missing, 100.0 + GRACE)
    assert not back.missing and not back.removals


BLUE = Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16"))
WEB = Subnet(name="web", spec=SubnetSpec(vpc="blue", cidr="10.0.1.0/24"))
SHOP = NetworkService(name="shop", spec=NetworkServiceSpec(vpc="blue", vip="10.0.9.9"))


def endpoint(last: int) -> NetworkEndpoint:
    address = f"10.0.1.{last}"
    spec = NetworkEndpointSpec(vpc="blue", subnet="web", address=address, host="one", container_id="c")
    return NetworkEndpoint(name=f"1-{address}", spec=spec)


def test_users_are_those_of_the_model() -> None:
    endpoints = [endpoint(2), endpoint(3)]
    follows = replace(SHOP, name="a.b.blue", spec=replace(SHOP.spec, source="a/b"))
    found = usage.users([WEB], endpoints, [SHOP, follows])
    for obj in (BLUE, WEB):
        names = sorted(f"{each.kind} {each.name}" for each in found[obj.kind, obj.name])
        assert names == list(users_of(obj, [BLUE, WEB, SHOP, *endpoints]))


def test_some_users_are_named_and_the_same_ones_as_long_as_they_last() -> None:
    def said(endpoints: list[NetworkEndpoint], before: Vpc) -> Vpc:
        conditions = usage.in_use(before, usage.users([WEB], endpoints, []), "now")
        return replace(before, status=replace(before.status, conditions=conditions))

    first = said([endpoint(7)], BLUE)
    [condition] = first.status.conditions
    assert (condition.type, condition.status) == (IN_USE, "True")
    assert condition.message == "used by Subnet web, NetworkEndpoint 1-10.0.1.7"
    assert said([endpoint(number) for number in range(2, 9)], first) == first
    later = said([endpoint(number) for number in range(2, 7)], first)
    assert later.status.conditions[0].message == (
        "used by Subnet web, NetworkEndpoint 1-10.0.1.2, NetworkEndpoint 1-10.0.1.3"
    )


def test_what_nobody_uses_says_nothing() -> None:
    assert usage.in_use(WEB, usage.users([WEB], [], [SHOP]), "now") == ()
