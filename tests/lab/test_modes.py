"""The first packet passes whichever hook answers, and the hook that answers is the one that was asked for."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from node_agent.datapath import programs
from node_agent.datapath.layout import Counter
from node_agent.emulation import hosts
from node_agent.kernel import filters, links, netns
from tests.lab import traffic
from tests.lab.capture import Capture, Type
from tests.lab.network import Network, made

pytestmark = pytest.mark.root

MODES = ("generic", "native", "tc")
SYN = 0x02
SINK = 9000
SEGMENT = 1400
MEGABYTES = 8


@pytest.fixture(scope="module", params=MODES)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """VPC `red`, set of 3 of 5 hosts; VPC `blue`, set of 4 and one bouncer per subnet, so that questions are passed."""
    with made(request, 5, mode=request.param) as network:
        network.vpc("red", "10.20.0.0/16", {"red-a": "10.20.1.0/24", "red-b": "10.20.2.0/24"})
        one, two = network.outside("red")
        network.add("anna", "red-a", one)
        network.add("bert", "red-a", two)
        network.add("carl", "red-b", network.members("red")[0])
        blue = {f"blue-{letter}": f"10.30.{number}.0/24" for number, letter in enumerate("abcdef", 1)}
        network.vpc("blue", "10.30.0.0/16", blue, set_size=4, bouncers=1)
        here = "blue-a"
        there = next(name for name in blue if network.bouncers(name) != network.bouncers(here))
        network.add("fred", here, network.outside("blue")[0])
        network.add("gina", there, network.members("blue")[0])
        yield network


@pytest.fixture
def capture(network: Network) -> Iterator[Capture]:
    with contextlib.closing(Capture(network.places, network.hosts)) as capture:
        yield capture


PAIRS = [("anna", "bert"), ("anna", "carl"), ("carl", "anna"), ("fred", "gina")]


def test_what_is_reported_is_what_is_attached(network: Network) -> None:
    for name in network.hosts:
        said = network.host(name).status
        assert said.mode == network.mode
        with links.opened(network.places.netns_path(name)) as net:
            uplink = net.need(hosts.UPLINK)
            tc = filters.attached(net, hosts.UPLINK, "ingress")
        with netns.enter(network.places.netns_path(name)):
            xdp = programs.xdp_state(uplink.index)
        assert tc
        attached = {("tc", "tc", tc.tag)} | ({("xdp", xdp.mode, xdp.tag)} if xdp else set())
        assert {(one.hook, one.mode, one.tag) for one in said.programs} == attached
        assert (xdp.mode if xdp else "tc") == network.mode


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_first_udp_packet_passes(network: Network, source: str, target: str) -> None:
    for _ in range(20):
        answer = traffic.ask_once(network.pods[source].netns, network.pods[target].address)
        assert answer["name"] == target


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_first_syn_passes(network: Network, capture: Capture, source: str, target: str) -> None:
    here, there = network.pods[source], network.pods[target]
    for _ in range(20):
        with traffic.connect(here.netns, there.address) as sock:
            port = sock.getsockname()[1]
            assert traffic.lost(sock) == 0
        syns = [m for m in capture.take() if m.flow.sport == port and m.tcp_flags == SYN]
        # Once as data, and as a question at most once: by this host itself it may be answered on the spot.
        assert [m.type for m in syns if m.type != Type.VERDICT and not m.passed] in (
            [Type.QUERY, Type.DATA],
            [Type.DATA],
        )


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_gso_datagram_may_be_the_question(network: Network, source: str, target: str) -> None:
    """One question for the endpoint's host; the wire sees the segments, since uplinks do not segment tunnelled UDP."""
    here, there = network.pods[source], network.pods[target]
    parts = [bytes([number]) * SEGMENT for number in range(8)]
    before = network.counted(Counter.QUERIES_SENT)
    with traffic.udp_socket(there.netns, SINK) as sink:
        for _ in range(10):
            with traffic.udp_socket(here.netns) as sock:
                sock.setsockopt(socket.IPPROTO_UDP, traffic.UDP_SEGMENT, SEGMENT)
                sock.sendto(b"".join(parts), (there.address, SINK))
                got = [sink.recv(4096) for _ in parts]
            assert sorted(got) == parts
    assert network.counted(Counter.QUERIES_SENT) - before == 10


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_tcp_super_packet_may_be_the_question(network: Network, capture: Capture, source: str, target: str) -> None:
    """Its host forgets the flow in mid-stream: the next packet asks anew, however long, and nothing is lost."""
    here, there = network.pods[source], network.pods[target]
    with traffic.connect(here.netns, there.address) as sock:
        port = sock.getsockname()[1]
        assert traffic.echo(sock, b"x" * 400_000) == b"x" * 400_000  # opens the window
        for _ in range(10):
            capture.take()
            network.forget_flows(here.host)
            assert traffic.echo(sock, b"y" * 60_000) == b"y" * 60_000
            asked = [m for m in capture.take() if m.type == Type.QUERY and m.flow.sport == port]
            assert asked or source != "anna"
            assert all(len(m.frame.data) > 1514 for m in asked[:1])
        # A question may be overtaken by a packet that met its verdict already: TCP may then send too much, never late.
        assert traffic.lost(sock) == 0


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_bulk_arrives_intact(network: Network, source: str, target: str) -> None:
    data = os.urandom(MEGABYTES << 20)
    with traffic.connect(network.pods[source].netns, network.pods[target].address) as sock:
        assert traffic.echo(sock, data) == data


def test_the_hook_that_answers_is_counted(network: Network) -> None:
    """anna lives outside the set: all her questions go over the wire."""
    before = {counter: network.counted(counter) for counter in Counter}
    for _ in range(20):
        traffic.ask_once(network.pods["anna"].netns, network.pods["bert"].address)
        traffic.ask_once(network.pods["fred"].netns, network.pods["gina"].address)
    rose = {counter: network.counted(counter) - before[counter] for counter in Counter}
    xdp, tc = rose[Counter.QUERIES_ANSWERED_XDP], rose[Counter.QUERIES_ANSWERED_TC]
    assert rose[Counter.QUERIES_SENT] == 40
    assert rose[Counter.QUERIES_PASSED] == 20
    assert xdp + tc == 40
    if network.mode == "tc":
        assert xdp == 0
    else:
        # Only a packet to a third host whose MAC address the kernel has forgotten is left to TC.
        assert xdp >= 20 and tc <= 20, "no question was answered in XDP"
    assert network.drops() == {}
