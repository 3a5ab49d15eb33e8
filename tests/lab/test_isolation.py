"""Tenants with equal addresses, counted at the receivers; and many first packets at once, of which none may be lost."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import struct
from collections import Counter as Tally
from collections.abc import Iterator, Sequence

import pytest

from node_agent.datapath.layout import DropReason
from node_agent.kernel import links
from node_agent.model.objects import ServiceBackend, ServicePort
from tests.lab import traffic
from tests.lab.bursts import send, ways
from tests.lab.frames import SINK, ethernet, ip, raw, udp
from tests.lab.network import READY, Network, Pod, made
from tests.waiting import until

pytestmark = pytest.mark.root

VIP = "10.20.9.1"
VPCS = ("blue", "green")
SHARED = {"one": "10.20.1.10", "two": "10.20.1.11", "three": "10.20.2.10"}
ONLY = {"blue": "10.20.1.50", "green": "10.20.1.60"}
PROBES = 100_000
SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 263, 6, 23


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Two VPCs of one CIDR with the same subnets; three addresses in both, on other hosts, and one in each alone."""
    with made(request, 3) as network:
        hosts = list(network.hosts)
        for shift, vpc in enumerate(VPCS):
            network.vpc(vpc, "10.20.0.0/16", {f"{vpc}-a": "10.20.1.0/24", f"{vpc}-b": "10.20.2.0/24"})
            for place, (name, address) in enumerate(SHARED.items()):
                host = hosts[(place + shift) % len(hosts)]
                network.add(f"{vpc}-{name}", f"{vpc}-{'a' if '.1.' in address else 'b'}", host, address)
            network.add(f"{vpc}-only", f"{vpc}-a", hosts[2 - shift], ONLY[vpc])
        port = ServicePort(protocol="udp", port=SINK, target_port=SINK)
        backends = [ServiceBackend(address=SHARED["two"]), ServiceBackend(address=SHARED["three"])]
        network.service("sink", "blue", VIP, [port], backends)
        yield network


def of(network: Network, vpc: str) -> list[Pod]:
    return [pod for pod in network.pods.values() if pod.vpc == vpc]


class Ear:
    """Everything that arrives at a pod's interface. Raises AssertionError where the kernel could not keep it all."""

    def __init__(self, pod: Pod) -> None:
        self.pod, self._socket = pod, raw(pod.netns)
        self._socket.bind(("eth0", 0x0800))
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, traffic.SO_RCVBUFFORCE, 256 << 20)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def heard(self) -> list[bytes]:
        """IP packets since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self._socket.recv(2048)[14:])
        _, lost = struct.unpack("=II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        assert not lost, f"the ear at {self.pod.name} missed {lost} packets"
        return found


@contextlib.contextmanager
def ears(pods: Sequence[Pod]) -> Iterator[list[Ear]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(Ear(pod))) for pod in pods]


def test_every_workload_answers_with_its_own_vpc_and_name(network: Network) -> None:
    for source in network.pods.values():
        for target in of(network, source.vpc):
            told = traffic.ask_once(source.netns, target.address)
            assert (told["vpc"], told["name"], told["address"]) == (source.vpc, target.name, target.address)


def test_an_address_that_only_the_other_vpc_has_is_nobody_s(network: Network) -> None:
    source, target = network.pods["blue-one"], network.pods["green-only"]
    key = (network.vni("blue"), DropReason.UNKNOWN_DESTINATION)
    with network.maps(source.host) as maps, ears([target]) as (ear,), traffic.udp_socket(source.netns) as sock:
        before = maps.drops().get(key, 0)
        for _ in range(50):
            sock.sendto(b"leak", (target.address, traffic.PORT))
        until(lambda: maps.drops().get(key, 0) == before + 50, READY, "the drops")
        with pytest.raises(TimeoutError), traffic.tcp_socket(source.netns) as stream:
            stream.settimeout(0.3)
            stream.connect((target.address, traffic.PORT))
        assert ear.heard() == []
        other = network.pods["green-one"]
        assert traffic.ask_once(other.netns, target.address)["vpc"] == "green"  # where it is heard
        assert len(ear.heard()) == 1


def test_random_probes_never_cross(network: Network) -> None:
    """Half from each VPC, to addresses of the other, to shared ones and to any; what is heard is from one's own."""
    chance = random.Random(4)
    known = [*SHARED.values(), *ONLY.values(), VIP]
    pods = list(network.pods.values())
    before = network.drops()
    with ears(pods) as listening, contextlib.ExitStack() as stack:
        sockets = {pod.name: stack.enter_context(contextlib.closing(raw(pod.netns))) for pod in pods}
        heard: Tally[tuple[str, str]] = Tally()
        for number in range(PROBES):
            pod = pods[number % len(pods)]
            target = chance.choice(known) if number % 3 else f"10.20.{chance.randrange(4)}.{chance.randrange(256)}"
            if target != pod.address:
                sockets[pod.name].send(probe(pod, target, chance))
            if number % 5000 == 0:
                collect(listening, heard)
        collect(listening, heard)
    crossed = {pair: number for pair, number in heard.items() if pair[0] != pair[1]}
    assert crossed == {}
    assert all(heard[vpc, vpc] > PROBES / 20 for vpc in VPCS), heard
    # They were judged, not merely held back by a budget.
    after = Tally({why: sum(network.dropped(host).get(why, 0) for host in network.hosts) for why in DropReason})
    after.subtract(
        itertools.chain.from_iterable([why] * number for host in before for why, number in before[host].items())
    )
    assert after[DropReason.UNKNOWN_DESTINATION] > PROBES / 4
    assert after[DropReason.QUERY_BUDGET] < PROBES / 100


def probe(pod: Pod, target: str, chance: random.Random) -> bytes:
    """A frame that says which VPC it is from."""
    mark = b"from %s" % pod.vpc.encode().ljust(8)
    ports = chance.randrange(1, 65536), chance.choice((SINK, traffic.PORT, chance.randrange(1, 65536)))
    if chance.random() < 0.5:
        return ethernet(pod.mac, 0x0800) + ip(pod.address, target, udp(mark, *ports))
    segment = struct.pack("!HHIIBBHHH", *ports, 1, 0, 5 << 4, chance.choice((2, 16, 18)), 1000, 0, 0)
    return ethernet(pod.mac, 0x0800) + ip(pod.address, target, segment + mark, proto=6)


def collect(listening: Sequence[Ear], heard: Tally[tuple[str, str]]) -> None:
    for ear in listening:
        for packet in ear.heard():
            _, found, mark = packet.rpartition(b"from ")
            if found:
                heard[ear.pod.vpc, mark.strip(b" \0").decode()] += 1


# --- many first packets ---


@pytest.mark.parametrize("target", [SHARED["two"], SHARED["three"], VIP], ids=["same subnet", "other subnet", "VIP"])
def test_a_thousand_first_packets_arrive(network: Network, target: str) -> None:
    source = network.pods["blue-one"]
    burst = send(network, of(network, "blue"), [(source, target, port) for port in range(2000, 3000)])
    assert burst.arrived == 1000, burst


def test_ten_thousand_first_packets_of_many_endpoints_arrive(network: Network) -> None:
    """How soon is for `make soak` to judge."""
    pods = of(network, "blue")
    packets = ways(pods, [*SHARED.values(), ONLY["blue"], VIP], 10_000, port=5000)
    burst = send(network, pods, packets)
    assert burst.arrived == len(packets), burst
    print(f"\n{len(packets)} first packets sent in {burst.seconds:.2f} s")


def test_the_pods_interfaces_have_no_other_address(network: Network) -> None:
    for pod in network.pods.values():
        with links.opened(pod.netns) as inside:
            assert inside.addresses("eth0") == (f"{pod.address}/32",)
