"""Out of the VPC with real agents and sockets: to another host and to one's own, from VPCs with equal addresses."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from node_agent.cli import trace
from node_agent.datapath.layout import DropReason, Limit
from node_agent.kernel import links, netns, outlet
from node_agent.model.addresses import OUTLET_ADDRESS
from node_agent.model.config import Listed
from node_agent.model.objects import ServiceBackend, ServicePort
from tests.lab import traffic
from tests.lab.network import READY, Network, Pod, made
from tests.lab.server import Server
from tests.lab.tracing import traced
from tests.waiting import until

pytestmark = pytest.mark.root

SERVER, ADDRESS = "host-1", "198.18.0.11"
VIP, PORT, TARGET = "10.96.0.1", 443, 6443
CLOSED, UNLISTED = 6444, 6445  # listed but nobody there; somebody there but not listed
PORTS = tuple(
    ServicePort(protocol=protocol, port=port, target_port=target)
    for port, target in ((PORT, TARGET), (CLOSED, CLOSED), (UNLISTED, UNLISTED))
    for protocol in ("tcp", "udp")
)
LISTED = tuple(
    Listed(address=ADDRESS, port=port, protocol=protocol) for port in (TARGET, CLOSED) for protocol in ("tcp", "udp")
)
SHARED = "10.20.1.50"  # of a pod of either VPC, on the server's host and on another
MUCH = 8 << 20


@pytest.fixture(scope="module", params=["generic", "native", "tc"])
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Two VPCs alike in everything; each has a pod beside the server and one on another host. No host but the server's
    has an address that is listed."""
    with made(request, 3, mode=request.param, listed=LISTED) as network:
        for vpc in ("red", "blue"):
            network.vpc(vpc, "10.20.0.0/16", {f"{vpc}-a": "10.20.1.0/24"})
            backends = [ServiceBackend(address=ADDRESS, egress=True)]
            network.service(f"{vpc}-api", vpc, VIP, PORTS, backends)
            network.add(f"{vpc}-near", f"{vpc}-a", SERVER, workload=False)
            network.add(f"{vpc}-far", f"{vpc}-a", "host-2", SHARED, workload=False)
        yield network


@pytest.fixture(scope="module")
def server(network: Network) -> Iterator[Server]:
    where = network.places.netns_path(SERVER)
    with contextlib.closing(Server(where, TARGET)) as echo, contextlib.closing(Server(where, UNLISTED)):
        yield echo


def talk(sock: socket.socket, much: int) -> None:
    """So many bytes there and back."""
    sent, got = os.urandom(much), bytearray()
    sock.settimeout(READY)
    sender = threading.Thread(target=sock.sendall, args=(sent,), daemon=True)
    sender.start()
    while len(got) < much:
        part = sock.recv(1 << 16)
        assert part, "the connection ended"
        got += part
    sender.join(READY)
    assert bytes(got) == sent


def own(pod: Pod) -> str:
    """What the server sees in place of the pod."""
    return OUTLET_ADDRESS if pod.host == SERVER else "198.18.0.12"


@pytest.mark.parametrize("name", ["red-near", "red-far"])
def test_much_goes_there_and_back(network: Network, server: Server, name: str) -> None:
    pod = network.pods[name]
    server.peers.clear()
    before = network.drops()
    with traffic.connect(pod.netns, VIP, PORT) as sock:
        talk(sock, MUCH)
        assert sock.getpeername() == (VIP, PORT)
    assert network.drops() == before
    ((address, port),) = server.peers
    assert address == own(pod) and port >= Limit.EGRESS_PORT_BASE


@pytest.mark.parametrize("name", ["red-near", "red-far"])
def test_datagrams_get_their_answers(network: Network, server: Server, name: str) -> None:
    pod = network.pods[name]
    for size in (1, 100, 1400):
        with traffic.udp_socket(pod.netns) as sock:
            sock.connect((VIP, PORT))
            sock.send(bytes(size))
            assert sock.recv(2048) == bytes(size)
    assert {address for address, _ in server.peers} <= {own(pod) for pod in network.pods.values()}


@pytest.mark.parametrize("where", ["near", "far"])
def test_equal_addresses_and_ports_at_the_same_time(network: Network, server: Server, where: str) -> None:
    red, blue = network.pods[f"red-{where}"], network.pods[f"blue-{where}"]
    assert red.address == blue.address
    for port in range(23000, 23010):
        with contextlib.ExitStack() as stack:
            streams, datagrams = [], []
            for pod in (red, blue):
                with netns.enter(pod.netns):
                    streams.append(stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)))
                streams[-1].settimeout(traffic.ANSWER)
                streams[-1].bind(("0.0.0.0", port))
                datagrams.append(stack.enter_context(traffic.udp_socket(pod.netns, port)))
            for sock in (*streams, *datagrams):
                sock.connect((VIP, PORT))
            for word in (b"first", b"again"):
                for sock, name in zip((*streams, *datagrams), ("red", "blue") * 2, strict=True):
                    sock.send(word + name.encode())
                for sock, name in zip((*streams, *datagrams), ("red", "blue") * 2, strict=True):
                    assert sock.recv(64) == word + name.encode()


@pytest.mark.parametrize("name", ["red-near", "red-far"])
def test_an_endpoint_may_make_more_flows_than_it_has_ports(network: Network, server: Server, name: str) -> None:
    pod = network.pods[name]
    for _ in range(2 * Limit.EGRESS_ENDPOINT_PORTS):
        with traffic.connect(pod.netns, VIP, PORT) as stream, traffic.udp_socket(pod.netns) as datagram:
            datagram.connect((VIP, PORT))
            for sock in (stream, datagram):
                sock.send(b"word")
            for sock in (stream, datagram):
                assert sock.recv(64) == b"word"


@pytest.mark.parametrize("name", ["red-near", "red-far"])
def test_nobody_there_is_told_at_once(network: Network, server: Server, name: str) -> None:
    pod = network.pods[name]
    with pytest.raises(ConnectionRefusedError):
        traffic.connect(pod.netns, VIP, CLOSED)
    with traffic.udp_socket(pod.netns) as sock:
        sock.connect((VIP, CLOSED))
        sock.send(b"hello")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(64)


@pytest.mark.parametrize("name", ["red-near", "red-far"])
def test_what_is_not_listed_is_not_reached(network: Network, server: Server, name: str) -> None:
    pod = network.pods[name]
    before = network.dropped(pod.host).get(DropReason.EGRESS_FORBIDDEN, 0)
    with traffic.udp_socket(pod.netns) as sock:
        sock.settimeout(0.3)
        sock.sendto(b"hello", (VIP, UNLISTED))
        with pytest.raises(TimeoutError):
            sock.recv(64)
        for address, port in ((ADDRESS, UNLISTED), (ADDRESS, TARGET), (ADDRESS, int(Limit.WIRE_PORT))):
            sock.sendto(b"hello", (address, port))
            with pytest.raises(TimeoutError):
                sock.recv(64)
    assert network.dropped(pod.host)[DropReason.EGRESS_FORBIDDEN] == before + 1


def test_a_datagram_in_pieces_is_a_named_drop(network: Network, server: Server) -> None:
    pod = network.pods["red-far"]
    before = network.dropped(pod.host).get(DropReason.EGRESS_FRAGMENT, 0)
    with traffic.udp_socket(pod.netns) as sock:
        sock.sendto(bytes(4000), (VIP, PORT))
        until(lambda: network.dropped(pod.host).get(DropReason.EGRESS_FRAGMENT, 0) > before, READY, "the drop")


def test_the_hosts_own_programs_have_these_ports_too(network: Network) -> None:
    """A server and a client of the host itself, on ports that flows of endpoints could have."""
    port = Limit.EGRESS_PORT_BASE + 60
    with (
        contextlib.closing(Server(network.places.netns_path("host-2"), port)),
        traffic.tcp_socket(network.places.netns_path(SERVER)) as sock,
    ):
        sock.settimeout(traffic.ANSWER)
        sock.bind(("0.0.0.0", port + 1))
        sock.connect(("198.18.0.12", port))
        talk(sock, 1 << 16)


@pytest.mark.parametrize("name", ["red-near", "red-far"])
def test_connections_outlive_lost_entries(network: Network, server: Server, name: str) -> None:
    pod = network.pods[name]
    with traffic.connect(pod.netns, VIP, PORT) as sock:
        talk(sock, 1000)
        with network.maps(pod.host) as maps:
            for slot in maps.flow_tables():
                maps.delete_nats(slot, list(maps.read_nats(slot)))
        talk(sock, 1 << 16)
        assert traffic.lost(sock) == 0


@pytest.mark.parametrize("name", ["red-near", "red-far"])
def test_a_trace_says_where_it_leaves(network: Network, server: Server, name: str) -> None:
    told = traced(network, name, VIP, protocol="tcp", port=PORT)
    where = f"{ADDRESS}:{TARGET}"
    assert told["outcome"] == {"result": "left", "detail": f"the VPC, to {where}", "host": network.pods[name].host}
    assert f"SENDS it out of the VPC, to {where}" in told["steps"][-1]["did"]
    assert "LEFT" in trace.text(told)


def test_a_broken_outlet_is_put_right(network: Network, server: Server) -> None:
    pod, where = network.pods["red-near"], network.places.netns_path(SERVER)
    with links.opened(where) as net:
        net.delete(outlet.STACK_SIDE)
    until(lambda: network.ready(SERVER), READY, "the agent is content")
    with traffic.connect(pod.netns, VIP, PORT) as sock:
        talk(sock, 1000)
    with links.opened(network.places.netns_path("host-2")) as net:
        assert net.get(outlet.STACK_SIDE) is None, "where nothing listed is the host's own there is none"


def test_a_strict_reverse_path_filter_does_not_mind(network: Network, server: Server) -> None:
    where = network.places.netns_path(SERVER)
    strict = {f"net/ipv4/conf/{name}/rp_filter": "1" for name in ("all", outlet.STACK_SIDE)}
    before = {key: netns.sysctl(where, key) or "0" for key in strict}
    try:
        for key, value in strict.items():
            netns.set_sysctl(where, key, value)
        for name in ("red-near", "red-far"):
            with traffic.connect(network.pods[name].netns, VIP, PORT) as sock:
                talk(sock, 1000)
    finally:
        for key, value in before.items():
            netns.set_sysctl(where, key, value)


def test_rows_go_with_their_endpoint(network: Network, server: Server) -> None:
    pod = network.add("red-brief", "red-a", "host-3", workload=False)
    with traffic.connect(pod.netns, VIP, PORT) as sock:
        talk(sock, 1000)
        with network.maps(pod.host) as maps:
            assert len(maps.read("egress")) == 1
        network.detach(pod)
        with network.maps(pod.host) as maps:
            assert maps.read("egress") == {}
    network.remove(pod)
