"""The network changes under its users: everything that can be configured comes, changes and goes by `up`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from node_agent.cni import client
from node_agent.cni.protocol import Request
from node_agent.kernel import netns
from node_agent.model.objects import NetworkEndpoint
from node_agent.store.open import open_store
from tests.e2e import stack as stacks
from tests.e2e.stack import Stack, changes
from tests.lab import traffic
from tests.lab.traffic import Load, Probe, Stream

pytestmark = [pytest.mark.engine, pytest.mark.root]

RED = {
    "name": "red",
    "cidr": "10.10.0.0/16",
    "subnets": [{"name": "red-a", "cidr": "10.10.1.0/24"}, {"name": "red-b", "cidr": "10.10.2.0/24"}],
    "services": [
        {
            "name": "red-web",
            "vip": "10.10.0.10",
            "ports": [{"name": "http", "protocol": "tcp", "port": 80, "targetPort": 8080}],
            "backends": {"subnet": "red-a"},
        }
    ],
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """What everybody gets first: blue and green, equal addresses in both; each test leaves it so."""
    made = stacks.make(tmp_path_factory.mktemp("live"))
    made.settings = stacks.committed()
    try:
        made.up()
        yield made
    finally:
        made.close()


def lasting(stack: Stack) -> list[Load]:
    """Traffic of endpoints that stay, also through a service that stays: between hosts, old flows and new ones."""
    one, other = stack.namespace("blue-a-1"), stack.namespace("blue-b-2")
    return [
        Probe(one, address(stack, "blue-b-2"), fresh=False),
        Probe(other, address(stack, "blue-a-1"), fresh=True),
        Stream(one, address(stack, "blue-b-2")),
        Stream(stack.namespace("green-a-2"), address(stack, "green-a-1")),
    ]


def address(stack: Stack, endpoint: str) -> str:
    return str(next(one["address"] for one in stack.outputs()["endpoints"] if one["name"] == endpoint))


def vpc(stack: Stack, name: str) -> dict[str, Any]:
    found = next(one for one in stack.settings["mizar:vpcs"] if one["name"] == name)
    assert isinstance(found, dict)
    return found


def test_vpcs_subnets_services_and_endpoints_come_change_and_go(stack: Stack) -> None:
    before, first = copy.deepcopy(stack.settings), stack.outputs()
    loads = lasting(stack)
    try:
        # All of it comes at once.
        stack.settings["mizar:vpcs"].append(copy.deepcopy(RED))
        vpc(stack, "blue")["subnets"].append({"name": "blue-c", "cidr": "10.10.3.0/24"})
        stack.settings["mizar:endpoints"] = [{"name": "guest", "subnet": "blue-c", "host": "host-2"}]
        stack.up()
        told = stack.outputs()
        assert [one["name"] for one in told["vpcs"]] == ["blue", "green", "red"]
        assert "blue-c" in {one["name"] for one in told["subnets"]}
        guest = address(stack, "guest")
        assert stacks.reachable(stack, "blue-a-1", guest) and stacks.reachable(
            stack, "guest", address(stack, "blue-b-3")
        )
        assert stacks.reachable(stack, "red-a-1", "10.10.0.10", 80)
        assert traffic.ask_once(stack.namespace("red-a-1"), address(stack, "red-a-2"))["vpc"] == "red"
        # All of it changes: another port and backends of a service, another host of an endpoint.
        web = vpc(stack, "red")["services"][0]
        web["ports"][0]["port"], web["backends"] = 81, {"subnet": "red-b"}
        stack.settings["mizar:endpoints"][0]["host"] = "host-3"
        stack.up()
        assert who_answers(stack, "red-a-1", "10.10.0.10", 81).startswith("red-b-")
        assert not stacks.reachable(stack, "red-a-1", "10.10.0.10", 80)
        assert stacks.reachable(stack, "blue-a-1", guest)
        # All of it goes.
        stack.settings = before
        stack.up()
    finally:
        for load in loads:
            load.stop()
    assert [(vars(load), drops(stack)) for load in loads if load.lost or load.error] == []
    assert all(load.received for load in loads)
    last = stack.outputs()
    assert last.pop("health")["healthy"] and first.pop("health")["healthy"]
    assert last == first
    assert not netns.exists(stack.namespace("guest"))
    assert all("unchanged" in line for line in changes(stack.up()))


def drops(stack: Stack) -> str:
    """What the data plane dropped, as a person would ask."""
    return stack.mizar("drops", "--json").stdout


def who_answers(stack: Stack, source: str, vip: str, port: int) -> str:
    """Name of whoever answers HTTP there."""
    with traffic.tcp_socket(stack.namespace(source)) as sock:
        sock.settimeout(traffic.ANSWER)
        sock.connect((vip, port))
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        told = b""
        while part := sock.recv(4096):
            told += part
    return told.rpartition(b'"name": "')[2].partition(b'"')[0].decode()


def test_a_subnet_in_use_is_not_deleted_and_its_users_are_named(stack: Stack) -> None:
    """By an endpoint that this program does not know: somebody asked an agent for it."""
    whole = copy.deepcopy(stack.settings)
    namespace, socket = stack.namespace("elsewhere"), stack.places.host("host-2").socket
    netns.create(namespace)
    asked = Request(verb="ADD", container_id="visitor", netns=str(namespace), vpc="green", subnet="green-b")
    visitor = client.persist(socket, asked, 30)
    stack.settings["mizar:vpcs"] = [
        {key: value for key, value in one.items() if key != "services"} for one in stack.settings["mizar:vpcs"]
    ]
    vpc(stack, "green")["subnets"] = vpc(stack, "green")["subnets"][:1]
    told = stack.up(ok=False)
    assert f"delete Subnet green-b: in use by NetworkEndpoint {visitor.endpoint}" in told, told
    # The user is not harmed, and the subnet not even half-way gone.
    assert traffic.ask_once(namespace, address_of(stack, "green-a-1"))["vpc"] == "green"
    kept = stacks.objects(stack)["Subnet green-b"]
    assert kept["meta"]["deleting"] is False and kept["status"]["bouncers"]
    # Its VPC is not either.
    stack.settings["mizar:vpcs"] = [vpc(stack, "blue")]
    told = stack.up(ok=False)
    assert visitor.endpoint in told, told
    client.persist(socket, Request(verb="DEL", container_id="visitor"), 30)
    netns.delete(namespace)
    stack.up()
    assert [one["name"] for one in stack.outputs()["vpcs"]] == ["blue"]
    stack.settings = whole
    stack.up()
    assert all("unchanged" in line for line in changes(stack.up()))


def address_of(stack: Stack, workload: str) -> str:
    """As the store has it: a failed run has no new outputs."""
    store = open_store(f"sqlite:{stack.places.store}", create=False)
    try:
        return next(one.spec.address for one in store.list(NetworkEndpoint) if one.spec.workload == workload)
    finally:
        store.close()
