"""What goes over the wire, seen at the fabric's ports: seven hosts, so that asker, bouncer and target are three."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter as Tally
from collections.abc import Iterator

import pytest

from node_agent.datapath.layout import Counter
from node_agent.emulation import hosts
from tests.lab import traffic
from tests.lab.capture import Capture, Flow, Message, Type
from tests.lab.network import READY, Network, Pod, made
from tests.waiting import until

pytestmark = pytest.mark.root

UDP, TCP = 17, 6
FLOWS = 1000
SINK = 9000
BURST = 50  # datagrams under way at once: a fabric port queues 256 frames


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """VPC `red` with the usual set of 3; VPC `blue` with a set of 5, and 2 bouncers for each of its subnets."""
    with made(request, 7) as network:
        network.vpc("red", "10.20.0.0/16", {"red-a": "10.20.1.0/24", "red-b": "10.20.2.0/24"})
        one, two, three, _ = network.outside("red")
        for name, subnet, host in (
            ("anna", "red-a", one),
            ("bert", "red-a", two),
            ("carl", "red-b", three),
            ("dora", "red-b", one),
            ("emil", "red-a", one),
        ):
            network.add(name, subnet, host)
        blue = {f"blue-{letter}": f"10.30.{number}.0/24" for number, letter in enumerate("abcdefghi", 1)}
        network.vpc("blue", "10.30.0.0/16", blue, set_size=5)
        here, there = strangers(network, list(blue))
        network.add("fred", here, network.outside("blue")[0])
        network.add("gina", there, network.outside("blue")[1])
        yield network


def strangers(network: Network, subnets: list[str]) -> tuple[str, str]:
    """Two subnets that have no bouncer in common."""
    asked = {subnet: set(network.bouncers(subnet)) for subnet in subnets}
    assert {len(some) for some in asked.values()} == {2}
    found = [(one, two) for one in subnets for two in subnets if not asked[one] & asked[two]]
    assert found, asked
    return found[0]


@pytest.fixture
def capture(network: Network) -> Iterator[Capture]:
    with contextlib.closing(Capture(network.places, network.hosts)) as capture:
        yield capture


def talk(network: Network, source: Pod, target: Pod, sock: socket.socket) -> Flow:
    """One datagram there and one back; returns the flow."""
    assert traffic.ask(sock, target.address)["name"] == target.name
    return Flow(network.vni(source.vpc), source.address, target.address, UDP, sock.getsockname()[1], traffic.PORT)


def test_first_packet_is_query_verdict_data_and_all_others_are_data(network: Network, capture: Capture) -> None:
    anna, bert = network.pods["anna"], network.pods["bert"]
    asker, target = network.hosts[anna.host], network.hosts[bert.host]
    with traffic.udp_socket(anna.netns) as sock:
        flow = talk(network, anna, bert, sock)
        first = capture.of(flow)
        assert len(first) == 4, first
        bouncer = first[0].target
        assert bouncer in {network.hosts[name] for name in network.bouncers("red-a")}
        assert [message.leg for message in first] == [
            (Type.QUERY, asker, bouncer),
            (Type.VERDICT, bouncer, asker),
            (Type.DATA, asker, target),
            (Type.DATA, target, asker),
        ]
        # The packet itself was the question: the same bytes on every leg, and nothing but them arrives.
        assert len({message.inner for message in first[:3]}) == 1
        for _ in range(20):
            talk(network, anna, bert, sock)
        later = capture.of(flow)
    assert [message.leg for message in later] == [(Type.DATA, asker, target), (Type.DATA, target, asker)] * 20


def test_every_message_is_50_bytes_longer_than_its_packet(network: Network, capture: Capture) -> None:
    anna, carl = network.pods["anna"], network.pods["carl"]
    with traffic.udp_socket(anna.netns) as sock:
        flow = talk(network, anna, carl, sock)
        messages = capture.of(flow)
        sock.sendto(b"x" * 1422, (carl.address, traffic.PORT))  # the longest that fits
        sock.recv(4096)
        messages += capture.of(flow)
    assert {message.type for message in messages} == {Type.QUERY, Type.VERDICT, Type.DATA}
    for message in messages:
        packet = int.from_bytes(message.inner[2:4], "big")
        assert len(message.frame.data) == 14 + 50 + packet, message
        assert int.from_bytes(message.outer[2:4], "big") == 50 + packet, message
        assert int.from_bytes(message.outer[24:26], "big") == 30 + packet, message
        assert checksum(message.outer[:20]) == 0, message
    assert len({len(message.frame.data) for message in messages[:3]}) == 1
    assert max(len(message.frame.data) for message in messages) == 14 + 1500


def test_bytes_are_constant_per_flow(network: Network, capture: Capture) -> None:
    anna, bert = network.pods["anna"], network.pods["bert"]
    with traffic.udp_socket(anna.netns) as sock:
        for _ in range(50):
            flow = talk(network, anna, bert, sock)
    messages = capture.of(flow)
    for way in (flow, flow.back):
        data = [message for message in messages if message.flow == way and message.type == Type.DATA]
        assert len(data) == 50
        assert len({message.outer for message in data}) == 1
        assert 49152 <= int.from_bytes(data[0].outer[20:22], "big") < 49152 + 1024


def test_flows_between_two_hosts_spread_over_source_ports(network: Network, capture: Capture) -> None:
    anna, bert = network.pods["anna"], network.pods["bert"]
    for _ in range(100):
        traffic.ask_once(anna.netns, bert.address)
    ports = {message.outer[20:22] for message in capture.take() if message.source == network.hosts[anna.host]}
    assert len(ports) > 60  # 100 of 1,024 at random: 95 on average


@pytest.mark.parametrize("target", ["bert", "carl", "emil"], ids=["same-subnet", "other-subnet", "same-host"])
def test_1000_new_flows_of_one_packet_all_arrive(network: Network, capture: Capture, target: str) -> None:
    anna, peer = network.pods["anna"], network.pods[target]
    before = network.counted(Counter.ENTRIES_ASKED)
    with traffic.udp_socket(peer.netns, SINK) as sink:
        arrived: set[tuple[str, int]] = set()
        for start in range(20000, 20000 + FLOWS, BURST):
            wanted = {(anna.address, port) for port in range(start, start + BURST)}
            for _, port in sorted(wanted):
                with traffic.udp_socket(anna.netns, port) as sock:
                    sock.sendto(b"%d" % port, (peer.address, SINK))
            with contextlib.suppress(TimeoutError):
                while wanted - arrived:
                    data, sender = sink.recvfrom(64)
                    assert data == b"%d" % sender[1]
                    assert sender not in arrived, f"{sender} arrived twice"
                    arrived.add(sender)
    assert len(arrived) == FLOWS
    messages = [m for m in capture.take() if m.flow.src == anna.address and m.flow.dport == SINK]
    told = Tally(message.type for message in messages)
    remote = peer.host != anna.host
    assert told == {Type.QUERY: FLOWS, Type.VERDICT: FLOWS} | ({Type.DATA: FLOWS} if remote else {})
    assert network.counted(Counter.ENTRIES_ASKED) - before == FLOWS
    asked = Tally(message.target for message in messages if message.type == Type.QUERY)
    assert set(asked) == {network.hosts[name] for name in network.bouncers("red-a")}
    assert min(asked.values()) > FLOWS / len(asked) / 2, "the bouncers share the questions"


def test_passed_queries_take_three_legs(network: Network, capture: Capture) -> None:
    """Set of 5, two bouncers per subnet, no bouncer in common: every question is passed on once."""
    fred, gina = network.pods["fred"], network.pods["gina"]
    asker, target = network.hosts[fred.host], network.hosts[gina.host]
    here, there = ({network.hosts[name] for name in network.bouncers(pod.subnet)} for pod in (fred, gina))
    pairs = set()
    for _ in range(64):
        with traffic.udp_socket(fred.netns) as sock:
            messages = capture.of(talk(network, fred, gina, sock))
        assert len(messages) == 5, messages
        query, passed, verdict, data, reply = messages
        assert query.leg == (Type.QUERY, asker, query.target) and query.target in here and not query.passed
        assert passed.leg == (Type.QUERY, query.target, passed.target) and passed.target in there and passed.passed
        assert verdict.leg == (Type.VERDICT, passed.target, asker)
        assert data.leg == (Type.DATA, asker, target)
        assert reply.leg == (Type.DATA, target, asker)
        assert len({len(message.frame.data) for message in messages[:4]}) == 1
        pairs.add((query.target, passed.target))
    assert len(pairs) == 4, "every pair of bouncers gets its share"


def test_tcp_takes_the_same_way(network: Network, capture: Capture) -> None:
    anna, carl = network.pods["anna"], network.pods["carl"]
    asker, target = network.hosts[anna.host], network.hosts[carl.host]
    with traffic.connect(anna.netns, carl.address) as sock:
        port = sock.getsockname()[1]
        assert traffic.lost(sock) == 0
    messages = [m for m in capture.take() if m.flow.proto == TCP and port in (m.flow.sport, m.flow.dport)]
    assert [message.leg for message in messages[:4]] == [
        (Type.QUERY, asker, messages[0].target),
        (Type.VERDICT, messages[0].target, asker),
        (Type.DATA, asker, target),
        (Type.DATA, target, asker),
    ]
    assert {message.type for message in messages[4:]} == {Type.DATA}


def test_nobody_sends_with_anothers_address(network: Network, capture: Capture) -> None:
    """Neither in IP nor in ARP nor as a MAC address, whatever is sent: data, questions, answers, passed questions."""
    pods = list(network.pods.values())
    pairs = [(one, two) for one in pods for two in pods if one.vpc == two.vpc and one != two]
    for source, target in pairs * 10:  # often enough for every bouncer to be asked
        traffic.ask_once(source.netns, target.address)
    messages: list[Message] = capture.take()
    assert {message.type for message in messages} == {Type.QUERY, Type.VERDICT, Type.DATA}
    assert any(message.passed for message in messages)
    assert {frame.host for frame in capture.frames} == set(network.hosts)
    for frame in capture.frames:
        assert frame.claimed in ("", network.hosts[frame.host]), frame
        assert frame.mac == hosts.uplink_mac(network.places, frame.host), frame


def test_nothing_was_dropped(network: Network) -> None:
    until(lambda: not network.differences(), READY, "rows as in the store")
    assert network.drops() == {}


def checksum(header: bytes) -> int:
    """0 for a header whose sum is right."""
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
