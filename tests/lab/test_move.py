"""An endpoint changes hosts under load: nothing is lost, no connection ends, and the old host says where it went."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from node_agent.agent import moves
from node_agent.datapath.layout import Counter, EndpointKey, LocalRow
from node_agent.kernel import links, netns
from node_agent.model.errors import MizarError
from node_agent.model.objects import NetworkEndpoint, ServiceBackend, ServicePort
from node_agent.rows.image import mapped, number
from tests.lab import traffic
from tests.lab.capture import Capture, Type
from tests.lab.network import READY, Network, Pod, made
from tests.lab.routes import routes
from tests.lab.traffic import Load, Probe, Stream
from tests.waiting import until

pytestmark = pytest.mark.root

PORTS = (
    ServicePort(protocol="udp", port=traffic.PORT, target_port=traffic.PORT),
    ServicePort(protocol="tcp", port=traffic.STREAM_PORT, target_port=traffic.STREAM_PORT),
)
MOVER_VIP, NEAR_VIP = "10.20.9.1", "10.20.9.2"


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Five hosts, of which three serve the VPC. `mover` is backend of one service, `near` of another."""
    with made(request, 5) as network:
        network.vpc("red", "10.20.0.0/16", {"red-a": "10.20.1.0/24", "red-b": "10.20.2.0/24"})
        member, other = network.members("red")[0], network.outside("red")[0]
        network.add("mover", "red-a", member)
        network.add("home", "red-b", member)
        network.add("near", "red-a", other)
        network.add("far", "red-b", network.members("red")[1])
        network.service("moves", "red", MOVER_VIP, PORTS, [ServiceBackend(address=network.pods["mover"].address)])
        network.service("stays", "red", NEAR_VIP, PORTS, [ServiceBackend(address=network.pods["near"].address)])
        yield network


def around(network: Network) -> list[Load]:
    """To the mover and from it: same and other subnet and host, addresses and VIPs, old flows and new ones."""
    mover, home, near, far = (network.pods[name] for name in ("mover", "home", "near", "far"))
    loads: list[Load] = []
    for source, target in ((home, mover), (near, mover), (mover, far), (mover, home)):
        loads.append(Probe(source.netns, target.address, fresh=False))
    for source, target in ((far, mover), (mover, near)):
        loads.append(Probe(source.netns, target.address, fresh=True))
    for source, target in ((near, mover), (mover, far)):
        loads.append(Stream(source.netns, target.address))
    loads += [Probe(far.netns, MOVER_VIP, fresh=False), Stream(home.netns, MOVER_VIP)]
    loads += [Probe(mover.netns, NEAR_VIP, fresh=False), Stream(mover.netns, NEAR_VIP)]
    return loads


def packed(pod: Pod) -> bytes:
    return socket.inet_aton(pod.address)


def state(pod: Pod) -> tuple[object, ...]:
    """What must not change by a move: the namespace, and what the pod has for an interface."""
    with links.opened(pod.netns) as inside:
        eth0 = inside.need("eth0")
        return netns.identity(pod.netns), eth0.mac, eth0.mtu, inside.addresses("eth0"), routes(pod.netns)


def test_nothing_is_lost_on_the_way_from_host_to_host(network: Network) -> None:
    mover = network.pods["mover"]
    start, before = mover.host, state(mover)
    outside = [host for host in network.outside("red") if host != network.pods["near"].host]
    # To a host without any part in the VPC, to one that has a peer, to a member, and back.
    path = [outside[0], network.pods["near"].host, network.members("red")[1], start]
    drops = network.drops()
    loads = around(network)
    try:
        traffic.go_on(loads)
        for host in path:
            mover = network.move(mover, host)
            traffic.go_on(loads)
    finally:
        for load in loads:
            load.halt()
        for load in loads:
            load.stop()
    assert [load.error for load in loads if load.error] == []
    assert {f"{load.where.name} {load.address}": load.lost for load in loads if load.lost} == {}, network.drops()
    assert network.drops() == drops
    assert state(mover) == before
    with links.opened(mover.netns) as inside:
        assert [link.name for link in inside.all() if link.kind == "veth"] == ["eth0"]
    until(lambda: network.differences() == [], READY, "maps are what the store asks for")


def test_the_old_host_says_where_it_went_and_then_forgets(network: Network) -> None:
    """An entry that nobody used meanwhile names the old host: its packet goes round once, the next one directly."""
    mover, near = network.pods["mover"], network.pods["near"]
    old, target = mover.host, network.outside("red")[-1]
    assert target not in (old, near.host)
    with traffic.udp_socket(near.netns) as sock:
        assert traffic.ask(sock, mover.address)["name"] == "mover"
        network.move(mover, target)
        with contextlib.closing(Capture(network.places, network.hosts)) as capture:
            assert traffic.ask(sock, mover.address)["name"] == "mover"
            taken = [m for m in capture.take() if m.inner[12:16] == packed(near) and m.inner[9] == 17]
            assert [m.leg for m in taken] == [
                (Type.DATA, network.hosts[near.host], network.hosts[old]),
                (Type.NOT_HERE, network.hosts[old], network.hosts[near.host]),
                (Type.DATA, network.hosts[near.host], network.hosts[target]),
            ]
            assert traffic.ask(sock, mover.address)["name"] == "mover"
            ways = {m.leg for m in capture.take() if m.inner[12:16] == packed(near) and m.type == Type.DATA}
            assert ways == {(Type.DATA, network.hosts[near.host], network.hosts[target])}
    key = EndpointKey(vni=network.vni("red"), addr=mapped(mover.address)).pack()
    with network.maps(old) as maps:
        row = LocalRow.unpack(maps.read("locals")[key])
        assert (row.ifindex, row.moved_to) == (0, number(network.hosts[target]))
    assert network.store.get(NetworkEndpoint, mover.object).status.previous_host == old
    # The rest of its time is spared here: what ends it is the word of the old host's agent, as it is given then.
    held = network.store.get(NetworkEndpoint, mover.object)
    network.store.put_status(NetworkEndpoint, mover.object, replace(held.status, previous_host=""))
    with network.maps(old) as maps:
        until(lambda: key not in maps.read("locals"), READY, "the old host forgets")
    assert moves.MOVED_FOR == 60.0
    assert traffic.ask_once(near.netns, mover.address)["name"] == "mover"


@pytest.mark.parametrize("step", ["at once", "when it asks"])
def test_a_move_is_taken_up_again_where_it_was_killed(network: Network, step: str) -> None:
    """The agent that takes over is killed; the next ADD completes what it finds."""
    mover, far = network.pods["mover"], network.pods["far"]
    target = next(host for host in (network.members("red")[0], network.outside("red")[0]) if host != mover.host)
    load = Probe(far.netns, mover.address, fresh=False)
    try:
        held = network.store.get(NetworkEndpoint, mover.object)
        network.store.put_spec(NetworkEndpoint, mover.object, replace(held.spec, host=target))
        request, asked = network.request("mover", "red-a", mover.address), network.counted(Counter.VERDICTS_APPLIED)

        def add() -> None:
            with contextlib.suppress(MizarError):
                network.call(target, request)

        adding = threading.Thread(target=add)
        adding.start()
        if step == "when it asks":
            until(lambda: network.counted(Counter.VERDICTS_APPLIED) > asked + 1, READY, "the first step", 0.0)
        os.kill(network.agent(target).pid, signal.SIGKILL)
        adding.join(READY)
        network.move(mover, target)
        traffic.go_on([load])
    finally:
        load.stop()
    assert (load.error, load.lost) == ("", 0)
    until(lambda: network.differences() == [], READY, "maps are what the store asks for")
