"""What an endpoint may send and what it is answered on the spot: spoofing, sizes, the gateway, expired TTLs."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest

from node_agent.datapath.layout import Counter, DropReason
from node_agent.kernel import links
from tests import probing
from tests.lab import traffic
from tests.lab.capture import Capture
from tests.lab.frames import GATEWAY_MAC, SINK, arp, ethernet, ip, mac, raw, udp
from tests.lab.network import READY, Network, Pod, made
from tests.waiting import until

pytestmark = pytest.mark.root

VLAN = (123).to_bytes(2)
OTHER_MAC = "02:00:00:00:00:99"
LINK_GATEWAY = "169.254.1.1"
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_PMTUDISC_DONT = 10, 2, 0
IP_RECVERR, MSG_ERRQUEUE = 11, 0x2000
TIME_EXCEEDED = 11


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    with made(request, 3) as network:
        network.vpc("red", "10.20.0.0/16", {"red-a": "10.20.1.0/24", "red-b": "10.20.2.0/24"})
        network.vpc("blue", "10.20.0.0/16", {"blue-a": "10.20.1.0/24"})
        network.add("anna", "red-a", "host-1")
        network.add("bert", "red-a", "host-2")
        network.add("carl", "red-b", "host-3")
        network.add("emil", "red-a", "host-1")
        network.add("eve", "blue-a", "host-1", network.pods["bert"].address)
        network.add("finn", "blue-a", "host-3", network.pods["anna"].address)
        yield network


@pytest.fixture
def capture(network: Network) -> Iterator[Capture]:
    with contextlib.closing(Capture(network.places, network.hosts)) as capture:
        yield capture


def frames(anna: Pod, bert: Pod, emil: Pod) -> dict[str, tuple[bytes, DropReason]]:
    """What anna might try, and why it must fail."""
    plain = ip(anna.address, bert.address, udp(b"x"))
    return {
        "neighbour's address": (
            ethernet(anna.mac, 0x0800) + ip(emil.address, bert.address, udp(b"x")),
            DropReason.SOURCE_ADDRESS,
        ),
        "receiver's address": (
            ethernet(anna.mac, 0x0800) + ip(bert.address, bert.address, udp(b"x")),
            DropReason.SOURCE_ADDRESS,
        ),
        "an underlay address": (
            ethernet(anna.mac, 0x0800) + ip("198.18.0.11", bert.address, udp(b"x")),
            DropReason.SOURCE_ADDRESS,
        ),
        "neighbour's MAC": (ethernet(emil.mac, 0x0800) + plain, DropReason.SOURCE_MAC),
        "any MAC": (ethernet(OTHER_MAC, 0x0800) + plain, DropReason.SOURCE_MAC),
        "neighbour's address in ARP": (
            ethernet(anna.mac, 0x0806) + arp(2, emil.address, anna.mac, anna.address),
            DropReason.SOURCE_ARP,
        ),
        "gratuitous ARP": (
            ethernet(anna.mac, 0x0806, "ff:ff:ff:ff:ff:ff") + arp(1, bert.address, anna.mac, bert.address),
            DropReason.SOURCE_ARP,
        ),
        "another MAC in ARP": (
            ethernet(anna.mac, 0x0806) + arp(1, anna.address, OTHER_MAC, LINK_GATEWAY),
            DropReason.SOURCE_ARP,
        ),
        "IPv6": (ethernet(anna.mac, 0x86DD) + b"\x60" + bytes(39), DropReason.UNSUPPORTED_PROTOCOL),
        "a VLAN tag": (
            ethernet(anna.mac, 0x8100) + VLAN + b"\x08\0" + plain,
            DropReason.UNSUPPORTED_PROTOCOL,
        ),
        "a VLAN tag on ARP": (
            ethernet(anna.mac, 0x8100) + VLAN + b"\x08\x06" + arp(1, anna.address, anna.mac, LINK_GATEWAY),
            DropReason.UNSUPPORTED_PROTOCOL,
        ),
        "broadcast": (
            ethernet(anna.mac, 0x0800, "ff:ff:ff:ff:ff:ff") + ip(anna.address, "255.255.255.255", udp(b"x")),
            DropReason.MULTICAST,
        ),
        "multicast": (ethernet(anna.mac, 0x0800) + ip(anna.address, "224.0.0.1", udp(b"x")), DropReason.MULTICAST),
        "a length that lies": (
            ethernet(anna.mac, 0x0800) + ip(anna.address, bert.address, udp(b"x" * 100))[:60],
            DropReason.MALFORMED,
        ),
        "nobody's address": (
            ethernet(anna.mac, 0x0800) + ip(anna.address, "10.20.1.250", udp(b"x")),
            DropReason.UNKNOWN_DESTINATION,
        ),
        "an address outside the VPC": (
            ethernet(anna.mac, 0x0800) + ip(anna.address, "198.18.0.12", udp(b"x", dport=4789)),
            DropReason.UNKNOWN_DESTINATION,
        ),
    }


KINDS = list(
    frames(*(Pod(n, "", "", "", None, "", "10.0.0.1", "", OTHER_MAC, 0) for n in "abc"))  # type: ignore[arg-type]
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_endpoint_may_not_send_is_dropped_and_counted(network: Network, capture: Capture, kind: str) -> None:
    anna, bert, emil = (network.pods[name] for name in ("anna", "bert", "emil"))
    frame, reason = frames(anna, bert, emil)[kind]
    before = network.dropped(anna.host)
    with (
        contextlib.closing(raw(anna.netns)) as sock,
        traffic.udp_socket(bert.netns, SINK) as sink,
        traffic.udp_socket(emil.netns, SINK) as other,
    ):
        for _ in range(3):
            sock.send(frame)
        until(lambda: network.dropped(anna.host) != before, READY, "a drop")
        assert traffic.ask_once(anna.netns, bert.address)["name"] == "bert"  # the same way, behind the dropped ones
        for receiver in (sink, other):
            receiver.settimeout(0.05)
            with pytest.raises(TimeoutError):
                receiver.recv(100)
    after = network.dropped(anna.host)
    rose = {why: number - before.get(why, 0) for why, number in after.items() if number != before.get(why, 0)}
    assert rose == {reason: 3}
    data = [m for m in capture.take() if m.type == 0 and m.inner == frame[14:]]
    assert data == []


def test_the_drop_belongs_to_its_vpc(network: Network) -> None:
    eve = network.pods["eve"]
    with network.maps(eve.host) as maps:
        before = maps.drops()
        with contextlib.closing(raw(eve.netns)) as sock:
            sock.send(ethernet(OTHER_MAC, 0x0800) + ip(eve.address, "10.20.1.2", udp(b"x")))
        key = (network.vni("blue"), DropReason.SOURCE_MAC)
        until(lambda: maps.drops().get(key, 0) == before.get(key, 0) + 1, READY, "the drop")


def test_two_vpcs_with_the_same_addresses_do_not_meet(network: Network) -> None:
    anna, eve = network.pods["anna"], network.pods["eve"]
    for _ in range(10):
        assert traffic.ask_once(anna.netns, network.pods["bert"].address)["vpc"] == "red"
        assert traffic.ask_once(eve.netns, network.pods["finn"].address)["vpc"] == "blue"


def test_a_frame_with_the_right_source_passes(network: Network) -> None:
    """The counterpart of the drops above: it is not the raw socket that fails."""
    anna, bert = network.pods["anna"], network.pods["bert"]
    with contextlib.closing(raw(anna.netns)) as sock, traffic.udp_socket(bert.netns, SINK) as sink:
        sock.send(ethernet(anna.mac, 0x0800) + ip(anna.address, bert.address, udp(b"honest")))
        assert sink.recvfrom(100) == (b"honest", (anna.address, 4000))


# --- sizes ---


@pytest.mark.parametrize("target", ["bert", "carl", "emil"])
def test_full_packets_pass_with_df_and_longer_ones_are_refused_at_home(network: Network, target: str) -> None:
    anna, peer = network.pods["anna"], network.pods[target]
    assert (anna.mtu, peer.mtu) == (1450, 1450)
    with links.opened(anna.netns) as inside:
        assert inside.need("eth0").mtu == 1450
    with traffic.udp_socket(anna.netns) as sock, traffic.udp_socket(peer.netns, SINK) as sink:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        for _ in range(3):
            sock.sendto(b"x" * 1422, (peer.address, SINK))
            assert sink.recv(4096) == b"x" * 1422
        with pytest.raises(OSError, match="too long") as refused:
            sock.sendto(b"x" * 1423, (peer.address, SINK))
        assert refused.value.errno == errno.EMSGSIZE


@pytest.mark.parametrize("target", ["bert", "carl", "emil"])
def test_fragments_arrive(network: Network, target: str) -> None:
    """As first packets of a flow too: the later fragments wait for nobody."""
    anna, peer = network.pods["anna"], network.pods[target]
    data = bytes(range(256)) * 30
    with traffic.udp_socket(peer.netns, SINK) as sink:
        for _ in range(5):
            with traffic.udp_socket(anna.netns) as sock:
                sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
                sock.sendto(data, (peer.address, SINK))
                assert sink.recv(16384) == data


# --- the gateway ---


@pytest.mark.parametrize("name", ["anna", "carl", "eve"])
def test_the_gateway_answers_ping(network: Network, name: str) -> None:
    pod = network.pods[name]
    before = network.counted(Counter.GATEWAY_REPLIES, [pod.host])
    for address in (pod.gateway, LINK_GATEWAY):
        answer = probing.ping(pod.netns, address, count=3)
        assert (answer.reason, answer.sent, answer.received) == ("", 3, 3)
    assert network.counted(Counter.GATEWAY_REPLIES, [pod.host]) - before == 6


def test_arp_is_answered_for_the_gateway_only(network: Network) -> None:
    anna, emil = network.pods["anna"], network.pods["emil"]
    with contextlib.closing(raw(anna.netns)) as sock:
        sock.bind(("eth0", 0x0806))
        sock.settimeout(traffic.ANSWER)
        for asked in (LINK_GATEWAY, anna.gateway):
            sock.send(ethernet(anna.mac, 0x0806, "ff:ff:ff:ff:ff:ff") + arp(1, anna.address, anna.mac, asked))
            answer = sock.recv(100)
            assert answer[:14] == ethernet(GATEWAY_MAC, 0x0806, anna.mac)
            assert answer[20:22] == b"\0\x02" and answer[22:28] == mac(GATEWAY_MAC)
            assert answer[28:32] == socket.inet_aton(asked)
        sock.send(ethernet(anna.mac, 0x0806, "ff:ff:ff:ff:ff:ff") + arp(1, anna.address, anna.mac, emil.address))
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(100)


@pytest.mark.parametrize("target", ["bert", "carl", "emil"])
def test_an_expired_ttl_is_answered_by_the_gateway(network: Network, target: str) -> None:
    """What traceroute does: TTL 1 reaches the gateway, TTL 2 the peer."""
    anna, peer = network.pods["anna"], network.pods[target]
    before = network.dropped(anna.host).get(DropReason.TTL, 0)
    with traffic.udp_socket(anna.netns) as sock, traffic.udp_socket(peer.netns, SINK) as sink:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        for size in (1, 700, 1400):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
            sock.sendto(b"x" * size, (peer.address, SINK))
            kind, offender = until(lambda: error_of(sock), READY, "time exceeded")
            assert (kind, offender) == (TIME_EXCEEDED, anna.gateway)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 2)
            sock.sendto(b"y" * size, (peer.address, SINK))
            assert sink.recv(4096) == b"y" * size
    assert network.dropped(anna.host)[DropReason.TTL] - before == 3


def error_of(sock: socket.socket) -> tuple[int, str] | None:
    """(ICMP type, who sent it) of an error about the socket's packets, if there is one."""
    try:
        _, control, _, _ = sock.recvmsg(4096, 512, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, IP_RECVERR):
            # struct sock_extended_err (16 bytes), then the offender as sockaddr_in
            return data[5], socket.inet_ntoa(data[20:24])
    return None
