"""Frames that nobody should send, on the lab's own underlay: forged, replayed, from the wrong host or from a pod.

Written byte by byte after docs/datapath.md. mallory is a host of the underlay that has no part in the VPC; where it is
a member that lies, that is said.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from node_agent.datapath.layout import Action, Counter, DropReason, FlowEntry, FlowKey
from node_agent.emulation.hosts import UPLINK
from node_agent.kernel import links
from node_agent.model.objects import NetworkEndpoint
from node_agent.rows.image import mapped, number
from tests.lab import traffic
from tests.lab.capture import Capture, Flow, Type
from tests.lab.frames import SINK, ethernet, ip, raw, udp
from tests.lab.network import READY, Network, Pod, made
from tests.waiting import until

pytestmark = pytest.mark.root

OUTSIDE = "203.0.113.5"  # no host of the underlay
TUNNEL = 4789
CLIENT = 7000


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    with made(request, 6) as network:
        network.vpc("red", "10.20.0.0/16", {"red-a": "10.20.1.0/24"})
        anna, bert, _ = network.outside("red")
        network.add("anna", "red-a", anna)
        network.add("bert", "red-a", bert)
        network.add("carl", "red-a", network.members("red")[0])
        yield network


@pytest.fixture
def capture(network: Network) -> Iterator[Capture]:
    with contextlib.closing(Capture(network.places, network.hosts)) as capture:
        yield capture


@dataclass(frozen=True, kw_only=True)
class Forged:
    """A message of the tunnel. `tag`, `host`: inner destination MAC; `outer`: its source address."""

    type: Type
    outer: str
    tag: int = 0
    host: str = "0.0.0.0"
    flags: int = 0
    bits: int = 0
    version: int = 0

    def bytes(self, vni: int, target: str, inner: bytes) -> bytes:
        vxlan = struct.pack("!BBBBI", 8, self.version << 6 | self.type << 3 | self.flags, self.bits, 0, vni << 8)
        macs = struct.pack("!H", self.tag) + socket.inet_aton(self.host) + bytes(6) + b"\x08\0"
        datagram = udp(vxlan + macs + inner, 50000, TUNNEL)
        packet = bytearray(ip(self.outer, target, datagram))
        packet[6:8] = b"\x40\0"  # DF, as every message has; the sum with it
        packet[10:12] = b"\0\0"
        total = sum(struct.unpack("!10H", packet[:20]))
        total = (total & 0xFFFF) + (total >> 16)
        packet[10:12] = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
        return bytes(packet)


def send(network: Network, source: str, target: str, message: Forged, inner: bytes, vlan: int = 0) -> None:
    """Out of that host's uplink, past its programs, to another host. `vlan`: the id of a tag, 0 for none."""
    with links.opened(network.places.netns_path(target)) as there:
        target_mac = there.need(UPLINK).mac
    with links.opened(network.places.netns_path(source)) as here:
        own_mac = here.need(UPLINK).mac
    packet = message.bytes(network.vni("red"), network.hosts[target], inner)
    with contextlib.closing(raw(network.places.netns_path(source), UPLINK)) as sock:
        tag = b"\x81\0" + struct.pack("!H", vlan) if vlan else b""
        sock.send(ethernet(own_mac, 0x0800, target_mac)[:12] + tag + b"\x08\0" + packet)


def mallory(network: Network) -> str:
    return network.outside("red")[2]


def inner(source: Pod, target: Pod, data: bytes = b"forged", sport: int = CLIENT, dport: int = SINK) -> bytes:
    return ip(source.address, target.address, udp(data, sport, dport))


def tag(network: Network, pod: Pod) -> int:
    return network.store.get(NetworkEndpoint, pod.object).tag


def entry(network: Network, source: Pod, target: Pod, sport: int, dport: int) -> FlowEntry | None:
    """What the source's host holds for this flow."""
    key = FlowKey(
        vni=network.vni("red"),
        src=mapped(source.address),
        dst=mapped(target.address),
        sport=sport,
        dport=dport,
        proto=17,
    )
    with network.maps(source.host) as maps:
        found = [maps.find_flow(slot, key.pack()) for slot in maps.flow_tables()]
    return next((FlowEntry.unpack(raw) for raw in found if raw), None)


Case = tuple[str, str, Forged, bytes, DropReason]  # from which host, to which, what, what in it, why it is dropped


def cases(network: Network) -> dict[str, Case]:
    anna, bert = network.pods["anna"], network.pods["bert"]
    liar, member, bouncer = mallory(network), network.members("red")[0], network.bouncers("red-a")[0]
    at, untrusted = network.hosts, DropReason.UNTRUSTED
    passed = Forged(type=Type.QUERY, outer=at[liar], host=at[liar], bits=0x40)
    named = Forged(type=Type.QUERY, outer=at[liar], host=at[anna.host])
    verdict = Forged(type=Type.VERDICT, outer=at[liar], tag=tag(network, bert), host=at[liar], bits=Action.ALLOW)
    words, back = inner(anna, bert), inner(bert, anna)
    data = Forged(type=Type.DATA, outer=OUTSIDE, tag=tag(network, bert))
    query = Forged(type=Type.QUERY, outer=at[liar], host=at[liar])
    return {
        "a verdict by a host outside the set": (liar, anna.host, verdict, words, DropReason.UNTRUSTED),
        "a refusal by a host outside the set": (
            liar, anna.host, Forged(type=Type.VERDICT, outer=at[liar], bits=Action.DENY), words, DropReason.UNTRUSTED,
        ),
        "a verdict that names a host outside the underlay": (
            member, anna.host, Forged(type=Type.VERDICT, outer=at[member], host=OUTSIDE, bits=Action.ALLOW), words,
            DropReason.UNTRUSTED,
        ),
        "a verdict for another host's endpoint": (
            member, anna.host, Forged(type=Type.VERDICT, outer=at[member], host=at[member], bits=Action.ALLOW), back,
            DropReason.STRAY_VERDICT,
        ),
        "a verdict without a known action": (
            member, anna.host, Forged(type=Type.VERDICT, outer=at[member], bits=15), words, DropReason.UNKNOWN_ACTION,
        ),
        "data from outside the underlay": (liar, bert.host, data, words, DropReason.UNTRUSTED),
        "not-here from outside the underlay": (
            liar, anna.host, Forged(type=Type.NOT_HERE, outer=OUTSIDE, tag=tag(network, bert), host=at[liar]), words,
            DropReason.UNTRUSTED,
        ),
        "not-here for another host's endpoint": (
            liar, anna.host, Forged(type=Type.NOT_HERE, outer=at[liar], host=at[liar]), back, DropReason.STRAY_VERDICT,
        ),
        "a passed query by a host outside the set": (liar, bouncer, passed, words, untrusted),
        "a query in another host's name": (liar, bouncer, named, words, DropReason.ASKER_MISMATCH),
        "a query with broken insides": (liar, bouncer, query, words[:30], DropReason.MALFORMED),
        "a query from outside the underlay": (
            liar, bouncer, Forged(type=Type.QUERY, outer=OUTSIDE, host=OUTSIDE), words, DropReason.UNTRUSTED,
        ),
        "a verdict in the name of the host that it is for": (
            liar, anna.host,
            Forged(type=Type.VERDICT, outer=at[anna.host], tag=tag(network, bert), host=at[liar], bits=Action.ALLOW),
            words, DropReason.UNTRUSTED,
        ),
    }  # fmt: skip


KINDS = (
    "a verdict by a host outside the set", "a refusal by a host outside the set",
    "a verdict that names a host outside the underlay", "a verdict for another host's endpoint",
    "a verdict without a known action", "data from outside the underlay", "not-here from outside the underlay",
    "not-here for another host's endpoint", "a passed query by a host outside the set",
    "a query in another host's name", "a query with broken insides", "a query from outside the underlay",
    "a verdict in the name of the host that it is for",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_may_say_is_dropped_counted_and_changes_nothing(
    network: Network, capture: Capture, kind: str
) -> None:
    found = cases(network)
    assert set(found) == set(KINDS)
    source, target, message, words, reason = found[kind]
    anna, bert = network.pods["anna"], network.pods["bert"]
    with traffic.udp_socket(bert.netns, SINK) as sink, traffic.udp_socket(anna.netns, CLIENT) as client:
        client.sendto(b"honest", (bert.address, SINK))
        assert sink.recv(100) == b"honest"
        before, held = network.dropped(target).get(reason, 0), entry(network, anna, bert, CLIENT, SINK)
        assert held is not None and held.host == number(network.hosts[bert.host])
        capture.take()
        for _ in range(3):
            send(network, source, target, message, words)
        until(lambda: network.dropped(target).get(reason, 0) == before + 3, READY, f"the drops: {network.drops()}")
        sink.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sink.recv(100)
        now = entry(network, anna, bert, CLIENT, SINK)
        assert now is not None and (now.host, now.peer_tag, now.flags) == (held.host, held.peer_tag, held.flags)
        assert [m for m in capture.take() if m.frame.host != source and m.inner == words] == []
        sink.settimeout(traffic.ANSWER)
        client.sendto(b"still", (bert.address, SINK))
        assert sink.recv(100) == b"still"


def test_what_comes_on_another_vlan_is_not_the_tunnels(network: Network) -> None:
    anna, bert = network.pods["anna"], network.pods["bert"]
    data = Forged(type=Type.DATA, outer=network.hosts[anna.host], tag=tag(network, bert))
    before = network.counted(Counter.DATA_RECEIVED, [bert.host])
    with traffic.udp_socket(bert.netns, SINK) as sink:
        for vlan, said in ((0, b"plain"), (123, b"tagged"), (0, b"plain again")):
            send(network, anna.host, bert.host, data, inner(anna, bert, said), vlan)
        assert (sink.recv(100), sink.recv(100)) == (b"plain", b"plain again")
    assert network.counted(Counter.DATA_RECEIVED, [bert.host]) == before + 2


def test_a_host_learns_nothing_by_asking_in_the_name_of_another_s_endpoint(network: Network, capture: Capture) -> None:
    anna, bert, liar = network.pods["anna"], network.pods["bert"], mallory(network)
    bouncer = network.bouncers("red-a")[0]
    query = Forged(type=Type.QUERY, outer=network.hosts[liar], host=network.hosts[liar])
    send(network, liar, bouncer, query, inner(anna, bert))
    answers = until(lambda: [m for m in capture.take() if m.frame.host == bouncer], READY, "the answer")
    assert [(m.type, m.action, m.target) for m in answers] == [(Type.VERDICT, Action.RETRY, network.hosts[liar])]
    assert network.hosts[bert.host] not in {socket.inet_ntoa(m.outer[38:42]) for m in answers}


def test_not_here_by_a_host_that_the_entry_does_not_name_changes_nothing(network: Network, capture: Capture) -> None:
    """The packet in it goes where the entry says: to whom it was meant for, not to the liar."""
    anna, bert, liar = network.pods["anna"], network.pods["bert"], mallory(network)
    with traffic.udp_socket(bert.netns, SINK) as sink, traffic.udp_socket(anna.netns, CLIENT) as client:
        client.sendto(b"honest", (bert.address, SINK))
        assert sink.recv(100) == b"honest"
        capture.take()
        said = Forged(type=Type.NOT_HERE, outer=network.hosts[liar], tag=tag(network, bert), host=network.hosts[liar])
        send(network, liar, anna.host, said, inner(anna, bert))
        assert sink.recv(100) == b"forged"
        held = entry(network, anna, bert, CLIENT, SINK)
        assert held is not None and held.host == number(network.hosts[bert.host])
        client.sendto(b"still", (bert.address, SINK))
        assert sink.recv(100) == b"still"
        assert {m.target for m in capture.take() if m.frame.host == anna.host} == {network.hosts[bert.host]}


def test_data_by_another_host_does_not_turn_a_live_flow_to_it(network: Network, capture: Capture) -> None:
    anna, bert, liar = network.pods["anna"], network.pods["bert"], mallory(network)
    with traffic.udp_socket(bert.netns, SINK) as sink, traffic.udp_socket(anna.netns, CLIENT) as client:
        client.sendto(b"honest", (bert.address, SINK))
        assert sink.recvfrom(100) == (b"honest", (anna.address, CLIENT))
        send(
            network, liar, bert.host, Forged(type=Type.DATA, outer=network.hosts[liar], tag=tag(network, bert)),
            inner(anna, bert),
        )  # fmt: skip
        assert sink.recv(100) == b"forged"  # a host is believed about what it sends; but not about whose flow this is
        for word in (b"one", b"two"):
            sink.sendto(word, (anna.address, CLIENT))
            assert client.recv(100) == word
        held = entry(network, bert, anna, SINK, CLIENT)
        assert held is not None and held.host == number(network.hosts[anna.host])


def test_a_replayed_verdict_does_not_bring_back_what_it_said(network: Network, capture: Capture) -> None:
    """Byte for byte, with the bouncer's own address: the entry that stands stays, whatever came after the original."""
    anna, carl = network.pods["anna"], network.pods["carl"]
    first, second = carl.host, next(host for host in network.members("red") if host != carl.host)
    with traffic.udp_socket(anna.netns, CLIENT) as sock:
        network.forget_flows(anna.host)
        assert traffic.ask(sock, carl.address)["name"] == "carl"
        flow = Flow(network.vni("red"), anna.address, carl.address, 17, CLIENT, traffic.PORT)
        replay = next(m for m in capture.take() if m.type == Type.VERDICT and m.flow == flow)
        network.move(carl, second)
        assert traffic.ask(sock, carl.address)["name"] == "carl"
        until(lambda: host_of(network, anna, carl) == second, READY, "the entry follows")
        applied = network.counted(Counter.VERDICTS_APPLIED, [anna.host])
        with links.opened(network.places.netns_path(mallory(network))) as here:
            own = bytes.fromhex(here.need(UPLINK).mac.replace(":", ""))  # else the fabric takes mallory for the bouncer
        with contextlib.closing(raw(network.places.netns_path(mallory(network)), UPLINK)) as out:
            for _ in range(3):
                out.send(replay.frame.data[:6] + own + replay.frame.data[12:])
        until(lambda: network.counted(Counter.VERDICTS_APPLIED, [anna.host]) == applied + 3, READY, "the replays")
        assert host_of(network, anna, carl) == second != first
        assert traffic.ask_once(anna.netns, carl.address)["name"] == "carl"


def host_of(network: Network, source: Pod, target: Pod) -> str:
    held = entry(network, source, target, CLIENT, traffic.PORT)
    return next((name for name, address in network.hosts.items() if held and number(address) == held.host), "")


@pytest.mark.parametrize("whose", ["every host's", "the gateway's"])
def test_a_pod_reaches_no_tunnel_port(network: Network, capture: Capture, whose: str) -> None:
    """What it sends there is a verdict that would be believed, if it came from a member."""
    anna, bert = network.pods["anna"], network.pods["bert"]
    forged = Forged(type=Type.VERDICT, outer=OUTSIDE, tag=tag(network, bert), host=OUTSIDE, bits=Action.ALLOW)
    payload = forged.bytes(network.vni("red"), OUTSIDE, inner(anna, bert))[28:]
    targets = [*network.hosts.values()] if whose == "every host's" else [anna.gateway, "169.254.1.1"]
    applied = network.counted(Counter.VERDICTS_APPLIED)
    before, answered = network.dropped(anna.host), 0
    with traffic.udp_socket(anna.netns) as sock:
        for target in targets:
            sock.sendto(payload, (target, TUNNEL))
        until(lambda: risen(before, network.dropped(anna.host)) >= len(targets), READY, "the drops")
    taken = capture.take()
    answered = sum(m.type == Type.VERDICT and m.inner[28:] == payload for m in taken)
    assert network.counted(Counter.VERDICTS_APPLIED) - applied == answered
    assert {m.type for m in taken if m.inner[28:] == payload} <= {Type.QUERY, Type.VERDICT}
    assert {frame.claimed for frame in capture.frames if payload == frame.data[42:]} == set()


def risen(before: dict[DropReason, int], after: dict[DropReason, int]) -> int:
    return sum(after.values()) - sum(before.values())
