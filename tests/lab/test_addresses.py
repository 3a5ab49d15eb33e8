"""Addresses run out, come back, and are given to others, who inherit nothing."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from node_agent.cni import client
from node_agent.cni.protocol import Request
from node_agent.datapath.layout import Counter
from node_agent.emulation import endpoints
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkEndpoint
from tests.lab import traffic
from tests.lab.capture import Capture, Flow, Type
from tests.lab.network import READY, Network, Pod, made
from tests.waiting import until

pytestmark = pytest.mark.root

USABLE = 13
ROUNDS = 10


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    with made(request, 4) as network:
        network.vpc("red", "10.20.0.0/16", {"red-a": "10.20.1.0/24", "red-s": "10.20.3.0/28"})
        network.add("anna", "red-a", network.outside("red")[0])
        yield network


def test_a_small_subnet_is_filled_emptied_and_filled_again(network: Network) -> None:
    names = [f"small-{number}" for number in range(USABLE)]
    for name in [*names, "late"]:
        endpoints.make(network.places, name)
    hosts = list(network.hosts)
    requests = {name: network.request(name, "red-s") for name in [*names, "late"]}
    sockets = {name: network.places.host(hosts[n % len(hosts)]).socket for n, name in enumerate(requests)}

    def add(name: str) -> str:
        return client.persist(sockets[name], requests[name], READY).address

    def delete(name: str) -> None:
        client.persist(sockets[name], Request(verb="DEL", container_id=name), READY)

    held: set[str] = set()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(ROUNDS):
            held = set(pool.map(add, names))
            assert held == {f"10.20.3.{last}" for last in range(2, 15)}
            with pytest.raises(Permanent, match=rf"all {USABLE} of 10\.20\.3\.0/28 are taken \(code 100\)"):
                client.call(sockets["late"], requests["late"], READY)
            list(pool.map(delete, names))
            assert not network.store.list(NetworkEndpoint, {"spec.subnet": "red-s"})
        assert add("late") in held
    delete("late")
    until(lambda: network.differences() == [], READY, "maps are what the store asks for")


def messages(capture: Capture, flow: Flow) -> list[tuple[Type, str, str]]:
    """What was sent for this direction of the flow."""
    return [m.leg for m in capture.take() if m.flow == flow]


@pytest.mark.parametrize("where", ["the same host", "another host"])
def test_a_new_endpoint_at_an_old_address_gets_nothing_by_the_old_one_s_permission(
    network: Network, where: str
) -> None:
    """anna's entry for the old one is not good for the new one: the packet is not delivered by it, but asked about."""
    anna, (first, second) = network.pods["anna"], network.members("red")[:2]
    old = network.add("old", "red-a", first)
    with traffic.udp_socket(anna.netns) as sock:
        assert traffic.ask(sock, old.address)["name"] == "old"
        flow = Flow(network.vni("red"), anna.address, old.address, 17, sock.getsockname()[1], traffic.PORT)
        network.remove(old)
        new = network.add("new", "red-a", first if where == "the same host" else second, old.address)
        try:
            with contextlib.closing(Capture(network.places, network.hosts)) as capture:
                assert traffic.ask(sock, new.address)["name"] == "new"
                ways = messages(capture, flow)
            here, there, then = (network.hosts[host] for host in (anna.host, first, new.host))
            assert ways[:2] == [(Type.DATA, here, there), (Type.NOT_HERE, there, here)]
            assert Type.QUERY in {kind for kind, *_ in ways[2:]} or anna.host in network.bouncers("red-a")
            assert ways[-1] == (Type.DATA, here, then)
        finally:
            network.remove(new)


@pytest.mark.parametrize("where", ["the same host", "another host"])
def test_a_new_endpoint_at_an_old_address_sends_nothing_by_the_old_one_s_permission(
    network: Network, where: str
) -> None:
    """Its packet in the old one's flow is asked about; and anna's replies find it only by what her host then learns."""
    anna, (first, second) = network.pods["anna"], network.members("red")[:2]
    old = network.add("old", "red-a", first)
    with traffic.udp_socket(old.netns, 7000) as sock:
        assert traffic.ask(sock, anna.address)["name"] == "anna"
    network.remove(old)
    new = network.add("new", "red-a", first if where == "the same host" else second, old.address)
    try:
        asked = questions(network, new)
        with traffic.udp_socket(new.netns, 7000) as sock:
            assert traffic.ask(sock, anna.address)["name"] == "anna"
        assert questions(network, new) > asked
    finally:
        network.remove(new)


def questions(network: Network, pod: Pod) -> int:
    return network.counted(Counter.QUERIES_SENT, [pod.host])


def test_a_connection_to_the_old_one_does_not_become_one_to_the_new_one(network: Network) -> None:
    """Not even with the same ports: what the new one hears of it, it refuses."""
    anna, host = network.pods["anna"], network.members("red")[0]
    old = network.add("old", "red-a", host)
    with traffic.connect(anna.netns, old.address) as sock:
        assert traffic.echo(sock, b"word") == b"word"
        network.remove(old)
        new = network.add("new", "red-a", host, old.address)
        try:
            with pytest.raises(ConnectionResetError):
                sock.sendall(b"word")
                sock.recv(4)
        finally:
            network.remove(new)


def test_while_nobody_has_the_address_packets_to_it_end_at_home(network: Network) -> None:
    anna, host = network.pods["anna"], network.members("red")[0]
    old = network.add("old", "red-a", host)
    with traffic.udp_socket(anna.netns) as sock:
        assert traffic.ask(sock, old.address)["name"] == "old"
        network.remove(old)
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            traffic.ask(sock, old.address)
        sock.settimeout(traffic.ANSWER)
        new = network.add("new", "red-a", host, old.address)
        try:
            assert until(lambda: answered(sock, new), READY, "the negative entry ends") == "new"
        finally:
            network.remove(new)


def answered(sock: socket.socket, pod: Pod) -> str:
    sock.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        return str(traffic.ask(sock, pod.address)["name"])
    return ""
