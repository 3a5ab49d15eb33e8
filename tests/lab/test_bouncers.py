"""A bouncer falls silent, or knows too little: flows begin as before, by the other one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from node_agent.datapath.layout import Action, Counter, EndpointKey, SubnetKey
from node_agent.emulation import fabric, hosts
from node_agent.kernel import links
from node_agent.rows.image import mapped, number
from tests.lab import traffic
from tests.lab.capture import Capture, Type
from tests.lab.network import READY, Network, Pod, made
from tests.waiting import until

pytestmark = pytest.mark.root

SUBNET, PREFIX = "red-a", "10.20.1.0"


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Seven hosts, a set of five, two bouncers for the subnet; its endpoints live on neither."""
    with made(request, 7) as network:
        network.vpc("red", "10.20.0.0/16", {SUBNET: "10.20.1.0/24"}, set_size=5, bouncers=2)
        bouncers = network.bouncers(SUBNET)
        assert len(bouncers) == 2
        free = [host for host in network.hosts if host not in bouncers]
        for name, host in zip(("anna", "bert", "carl"), free, strict=False):
            network.add(name, SUBNET, host)
        yield network


def plug(network: Network, host: str, up: bool) -> None:
    with links.opened(network.places.netns_path(fabric.NAME)) as net:
        net.ensure(hosts.port_name(host), up=up)


def connect(source: Pod, target: Pod) -> int:
    """How often the SYN of a new connection was sent again. Raises OSError."""
    with contextlib.closing(traffic.connect(source.netns, target.address)) as sock:
        return traffic.retransmitted(sock)


def test_a_cut_bouncer_costs_one_retransmit_then_nothing_and_is_taken_back(network: Network) -> None:
    anna, bert = network.pods["anna"], network.pods["bert"]
    cut = network.bouncers(SUBNET)[0]

    def counted(which: Counter) -> int:
        return network.counted(which, [anna.host])

    skipped, back = counted(Counter.BOUNCERS_SKIPPED), counted(Counter.BOUNCERS_BACK)
    plug(network, cut, False)
    try:
        until(lambda: noticed(network, anna, bert, skipped), READY, "the bouncer is skipped")
        # Once it is skipped nobody waits. The word is each asking host's own: bert's replies are learned, not asked.
        assert [connect(anna, bert) for _ in range(50)] == [0] * 50
    finally:
        plug(network, cut, True)

    def taken_back() -> bool:
        assert connect(anna, bert) == 0
        return counted(Counter.BOUNCERS_BACK) > back

    until(taken_back, READY, "the bouncer is taken back")
    answers = (Counter.QUERIES_ANSWERED_XDP, Counter.QUERIES_ANSWERED_TC)
    before = sum(network.counted(which, [cut]) for which in answers)
    assert [connect(anna, bert) for _ in range(20)] == [0] * 20
    assert sum(network.counted(which, [cut]) for which in answers) > before


def noticed(network: Network, source: Pod, target: Pod, skipped: int) -> bool:
    """Many connections at once while the bouncer is silent: each needs one retransmit at most."""
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(16):
            sock = stack.enter_context(contextlib.closing(traffic.tcp_socket(source.netns)))
            sock.setblocking(False)
            sock.connect_ex((target.address, traffic.STREAM_PORT))
            socks.append(sock)
        until(lambda: all(connected(sock) for sock in socks), READY, "all connections")
        assert max(traffic.retransmitted(sock) for sock in socks) <= 1
    return network.counted(Counter.BOUNCERS_SKIPPED, [source.host]) > skipped


def connected(sock: socket.socket) -> bool:
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("left", ["nothing", "half"])
def test_a_bouncer_without_its_full_list_sends_the_question_on(network: Network, left: str) -> None:
    """As one whose agent is still reading: without the row that says "all of them are here" it gives no answer."""
    anna, targets = network.pods["anna"], [network.pods["bert"], network.pods["carl"]]
    bouncer = network.bouncers(SUBNET)[0]
    agent, vni = network.agent(bouncer).pid, network.vni("red")
    os.kill(agent, signal.SIGSTOP)
    try:
        with network.maps(bouncer) as maps:
            maps.delete("serving", [SubnetKey(vni=vni, subnet=number(PREFIX)).pack()])
            keys = {pod.name: EndpointKey(vni=vni, addr=mapped(pod.address)).pack() for pod in network.pods.values()}
            maps.delete("endpoints", keys.values() if left == "nothing" else [keys["carl"]])
        with contextlib.closing(Capture(network.places, network.hosts)) as capture:
            for _ in range(20):
                for target in targets:
                    assert connect(anna, target) == 0
            said = [m.action for m in capture.take() if m.frame.host == bouncer and m.type == Type.VERDICT]
        assert said and set(said) == {Action.NOT_SERVING}
    finally:
        os.kill(agent, signal.SIGCONT)
    until(lambda: network.ready(bouncer), READY, "the bouncer is whole again")
    assert network.differences() == []
