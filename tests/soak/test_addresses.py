"""The 13 addresses of a /28 are given out, refused, given back and given out again, while agents are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from node_agent.cni.protocol import EXHAUSTED, Request
from node_agent.emulation import endpoints
from node_agent.model.addresses import Usable
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkEndpoint
from tests.lab.network import READY, Network, made
from tests.soak.rounds import dice, rounds
from tests.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.root]

SUBNET, PREFIX = "red-small", "10.20.3.0/28"
NAMES = [f"small-{number}" for number in range(14)]


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    with made(request, 3) as network:
        network.vpc("red", "10.20.0.0/16", {SUBNET: PREFIX})
        yield network


def test_a_28_is_filled_and_emptied_round_after_round(network: Network) -> None:
    chance, hosts = dice(), sorted(network.hosts)
    for name in NAMES:
        endpoints.make(network.places, name)

    for _ in rounds(10):
        placed = {name: chance.choice(hosts) for name in NAMES}

        def add(name: str, placed: dict[str, str] = placed) -> str:
            return network.call(placed[name], network.request(name, SUBNET)).address

        def remove(name: str, placed: dict[str, str] = placed) -> None:
            network.call(placed[name], Request(verb="DEL", container_id=name, interface=endpoints.INTERFACE))

        with ThreadPoolExecutor(4) as pool:
            asked = pool.map(add, NAMES[:13])
            os.kill(network.agent(chance.choice(hosts)).pid, signal.SIGKILL)
            addresses = list(asked)
        assert sorted(addresses) == sorted(Usable(PREFIX))
        with pytest.raises(Permanent, match=rf"all 13 .*taken.*\(code {EXHAUSTED}\)"):
            add(NAMES[13])
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(remove, NAMES))
        assert not network.store.list(NetworkEndpoint, {"spec.subnet": SUBNET})
    until(lambda: not network.differences(), READY, "maps as the store asks for")
