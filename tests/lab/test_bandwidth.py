"""Containers that may receive or send only so much: by our plugin, and by a plugin behind it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from node_agent.cni.protocol import Request
from node_agent.datapath.layout import LocalRow
from node_agent.emulation.cluster import programs
from node_agent.kernel import netns
from node_agent.kernel.commands import CommandError
from node_agent.kernel.shaping import bucket
from node_agent.model.bandwidth import Rate
from node_agent.model.objects import NetworkEndpoint
from tests.lab import cni, traffic
from tests.lab.cni import cnitool, namespace
from tests.lab.network import Network, made
from tests.waiting import until

pytestmark = pytest.mark.root

RATE, BURST = 8_000_000, 800_000  # bits a second, and bits
WAITING = bucket(Rate(RATE, BURST))[2]
SENT = 3000
DATAGRAM = 1400
SETTLED = 15.0  # seconds; the agent looks at all devices every 10


@dataclass(frozen=True)
class Blast:
    """What came of datagrams that were sent as fast as one core can. `seconds`: from the first to the last to come."""

    arrived: int
    seconds: float

    @property
    def bounded(self) -> bool:
        """No more than the rate lets through, and no less than the bucket holds. Frames are a little longer than what
        they carry, and the bucket counts frames: so never more bytes than that."""
        most = BURST // 8 + WAITING + self.seconds * RATE / 8
        return BURST // 8 * 0.9 <= self.arrived * DATAGRAM <= most


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    cni.build()
    subprocess.run([str(programs.SCRIPT)], check=True, stdin=subprocess.DEVNULL)
    with made(request, 2) as network:
        network.vpc("blue", "10.40.0.0/16", {"front": "10.40.1.0/24"}, set_size=2)
        yield network


@pytest.fixture(autouse=True)
def clean(network: Network) -> Iterator[None]:
    yield
    for endpoint in network.store.list(NetworkEndpoint):
        network.call(endpoint.spec.host, Request(verb="DEL", container_id=endpoint.spec.container_id))
    for path in netns.listed(network.places.netns("pod-"), Path("/run/netns")):
        netns.delete(path)


def blast(source: Path, target: Path, address: str) -> Blast:
    with traffic.udp_socket(target, traffic.PORT) as there, traffic.udp_socket(source) as here:
        here.sendto(b"first", (address, traffic.PORT))  # asks for the way
        assert there.recv(64) == b"first"
        there.settimeout(0.2)
        began = last = time.monotonic()
        for _ in range(SENT):
            here.sendto(bytes(DATAGRAM), (address, traffic.PORT))
        arrived = 0
        try:
            while there.recv(DATAGRAM + 1):
                arrived, last = arrived + 1, time.monotonic()
        except TimeoutError:
            return Blast(arrived, last - began)


def address(result: Any) -> str:
    found: str = result["ips"][0]["address"]
    return found.removesuffix("/32")


@pytest.mark.parametrize("other", ["host-1", "host-2"])
@pytest.mark.parametrize("way", ["ingress", "egress"])
def test_a_container_receives_and_sends_no_more_than_it_may(network: Network, way: str, other: str) -> None:
    one, two = namespace(network, "bounded"), namespace(network, "free")
    wishes = {"bandwidth": {f"{way}Rate": RATE, f"{way}Burst": BURST}}
    tool = cnitool(network, "host-1", capabilities={"bandwidth": True})
    bounded = address(tool.run("add", "net", one, wishes))
    free = address(cnitool(network, other).run("add", "net", two))
    there, back = blast(one, two, free), blast(two, one, bounded)
    held, loose = (there, back) if way == "egress" else (back, there)
    assert held.bounded, held
    assert not loose.bounded, loose
    tool.run("check", "net", one, wishes)


def test_check_tells_when_a_bound_is_gone(network: Network) -> None:
    pod = namespace(network, "freed")
    wishes = {"bandwidth": {"egressRate": RATE, "ingressRate": RATE}}
    tool = cnitool(network, "host-1", capabilities={"bandwidth": True})
    tool.run("add", "net", pod, wishes)
    with netns.enter(pod):
        subprocess.run(["tc", "qdisc", "del", "dev", "eth0", "root"], check=True)
    with pytest.raises(CommandError, match="bound on what it sends False instead of True"):
        tool.run("check", "net", pod, wishes)


def test_the_bound_of_a_plugin_behind_ours_holds(network: Network) -> None:
    one, two = namespace(network, "shaped"), namespace(network, "free")
    wishes = {"bandwidth": {"ingressRate": RATE, "ingressBurst": BURST}}
    tool = cnitool(network, "host-1", {"type": "bandwidth", "capabilities": {"bandwidth": True}})
    shaped = address(tool.run("add", "net", one, wishes))
    cnitool(network, "host-2").run("add", "net", two)
    tool.run("check", "net", one, wishes)

    def queued() -> bool:
        with network.maps("host-1") as maps:
            return any(LocalRow.unpack(row).queued for row in maps.read("locals").values())

    until(queued, SETTLED, "the agent sees the queue", pause=0.1)
    assert (held := blast(two, one, shaped)).bounded, held
    tool.run("del", "net", one, wishes)
