"""Services under load: backends come and go, and connections stay with those that stay."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from node_agent.datapath.layout import Counter
from node_agent.model.config import Timers
from node_agent.model.objects import ServiceBackend, ServicePort
from tests.lab import traffic
from tests.lab.network import READY, Network, Pod, made
from tests.lab.server import Server
from tests.waiting import until

pytestmark = pytest.mark.root

PORT, TARGET = 80, 9100
PORTS = (ServicePort(protocol="tcp", port=PORT, target_port=TARGET),)
VIP, OTHER_VIP = "10.20.9.1", "10.20.9.2"
BACKENDS = ("b1", "b2", "b3", "b4")


def dial(pod: Pod, vip: str = VIP, port: int = 0) -> tuple[socket.socket, str]:
    """A connection and who answered. Raises OSError."""
    sock = traffic.tcp_socket(pod.netns)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(traffic.ANSWER)
        if port:
            sock.bind(("0.0.0.0", port))
        sock.connect((vip, PORT))
        name = sock.recv(8, socket.MSG_WAITALL).decode().strip()
    except OSError:
        sock.close()
        raise
    return sock, name


def speaks(sock: socket.socket) -> bool:
    """Whether the connection still carries a word there and back."""
    sock.sendall(b"word")
    return sock.recv(4, socket.MSG_WAITALL) == b"word"


class Callers:
    """Connections without end, one after the other. `seen`: (when it was begun, who answered)."""

    def __init__(self, pods: list[Pod]) -> None:
        self.seen: list[tuple[float, str]] = []
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(pod,), daemon=True) for pod in pods]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(READY)

    def since(self, when: float) -> list[str]:
        return [name for begun, name in list(self.seen) if begun > when]

    def _run(self, pod: Pod) -> None:
        while not self._stop.wait(traffic.INTERVAL):
            begun = time.monotonic()
            try:
                sock, name = dial(pod)
                with sock:
                    assert speaks(sock)
                self.seen.append((begun, name))
            except (OSError, AssertionError) as error:
                self.errors.append(f"{pod.name}: {error!r}")


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Entries are believed for half a second, so that every test sees them asked about again."""
    with made(request, 4, timers=Timers(fresh=0.5)) as network:
        network.vpc("red", "10.20.0.0/16", {"red-a": "10.20.1.0/24", "red-b": "10.20.2.0/24"})
        outside = network.outside("red")[0]
        network.add("anna", "red-a", outside, workload=False)
        network.add("carl", "red-b", network.members("red")[0], workload=False)
        for number, name in enumerate(BACKENDS):
            host = list(network.hosts)[number]
            network.add(name, "red-a" if number % 2 else "red-b", host, workload=False)
        yield network


@pytest.fixture(scope="module")
def servers(network: Network) -> Iterator[dict[str, Server]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(contextlib.closing(Server(network.pods[name].netns, TARGET, name)))
            for name in BACKENDS
        }


@pytest.fixture
def serve(network: Network, servers: dict[str, Server]) -> Callable[..., None]:
    """The backends of a VIP are these from now on."""

    def change(*names: str, vip: str = VIP) -> None:
        backends = [ServiceBackend(address=network.pods[name].address) for name in names]
        network.service(f"at-{vip}", "red", vip, PORTS, backends)

    return change


def test_two_backends_then_four_then_one(network: Network, serve: Callable[..., None]) -> None:
    clients = [network.pods["anna"], network.pods["carl"]]
    serve("b1", "b2")
    with contextlib.ExitStack() as stack:
        held = [dial(clients[n % 2]) for n in range(24)]
        for sock, _ in held:
            stack.enter_context(sock)
        assert {name for _, name in held} == {"b1", "b2"}
        callers = Callers(clients)
        stack.callback(callers.stop)
        until(lambda: set(callers.since(0)) == {"b1", "b2"}, READY, "both answer")
        serve(*BACKENDS)
        changed = time.monotonic()
        until(lambda: set(callers.since(changed)) == set(BACKENDS), READY, "all four answer")
        assert all(speaks(sock) for sock, _ in held)
        asked = network.counted(Counter.REVALIDATIONS)
        serve("b1")
        changed = time.monotonic()
        until(lambda: len(callers.since(changed)) >= 60, READY, "connections after the last change")
        kept = [sock for sock, name in held if name == "b1"]
        until(lambda: _after(kept, network, asked + len(kept)), READY, "the kept ones were asked about")
        assert set(callers.since(changed)) == {"b1"}
        callers.stop()
        assert callers.errors == []
        assert [traffic.lost(sock) for sock in kept] == [0] * len(kept)


def _after(kept: list[socket.socket], network: Network, asked: int) -> bool:
    """Every kept connection speaks; whether so many questions have been asked about old entries."""
    assert all(speaks(sock) for sock in kept)
    return network.counted(Counter.REVALIDATIONS) >= asked


@pytest.mark.parametrize("client", ["anna", "b1-s-host"])
def test_two_vips_share_a_backend_and_the_client_s_port(
    network: Network, serve: Callable[..., None], client: str
) -> None:
    backend = network.pods["b1"]
    if client not in network.pods:
        network.add(client, "red-a", backend.host, workload=False)
    serve("b1")
    serve("b1", vip=OTHER_VIP)
    pod = network.pods[client]
    for port in (21000, 21001, 21002):
        (first, name), (second, other) = dial(pod, VIP, port), dial(pod, OTHER_VIP, port)
        with first, second:
            assert (name, other) == ("b1", "b1")
            for _ in range(3):
                assert speaks(first) and speaks(second)
            assert (first.getpeername(), second.getpeername()) == ((VIP, PORT), (OTHER_VIP, PORT))


@pytest.mark.parametrize("client", ["anna", "b1-s-host"])
def test_a_backend_that_speaks_first_after_its_entries_were_lost_is_heard(
    network: Network, serve: Callable[..., None], servers: dict[str, Server], client: str
) -> None:
    """Also on the client's own host, where the client's entry lies under what the backend sends."""
    if client not in network.pods:
        network.add(client, "red-a", network.pods["b1"].host, workload=False)
    serve("b1")
    sock, _ = dial(network.pods[client])
    with sock:
        peer = servers["b1"].accepted[sock.getsockname()[1]]
        for _ in range(3):
            network.forget_flows(network.pods["b1"].host)
            peer.sendall(b"heard")
            assert sock.recv(5, socket.MSG_WAITALL) == b"heard"
            assert speaks(sock)
        assert traffic.lost(sock) == 0
