"""The outlet's devices and the ports that are kept for endpoints, in a namespace of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.kernel import links, netns, outlet, ports
from node_agent.kernel.links import Links
from node_agent.model.addresses import OUTLET_ADDRESS

pytestmark = pytest.mark.root
OWN, MTU = "198.18.0.11", 1500


@pytest.fixture
def space() -> Iterator[Path]:
    path = Path(f"/run/netns/mizar-outlet-{os.getpid()}")
    netns.create(path)
    try:
        yield path
    finally:
        netns.delete(path)


@pytest.fixture
def net(space: Path) -> Iterator[Links]:
    with links.opened(space) as session:
        session.ensure_veth("up0", peer_netns=space, peer="up1", mtu=MTU)
        session.ensure_address("up0", f"{OWN}/24")
        session.ensure("up1", up=True)
        session.ensure("up0", up=True)
        yield session


def test_made_once_and_put_right_whatever_is_broken(net: Links, space: Path) -> None:
    assert outlet.ensure(net, space, OWN, MTU)
    assert outlet.problems(net, OWN, MTU) == [] == outlet.ensure(net, space, OWN, MTU)
    breaks = (
        lambda: net.delete(outlet.STACK_SIDE),
        lambda: net.ensure(outlet.STACK_SIDE, up=False),
        lambda: net.ensure(outlet.PROGRAM_SIDE, up=False),
        lambda: net.ensure(outlet.STACK_SIDE, mtu=1400),
        lambda: net.ensure(outlet.PROGRAM_SIDE, mac="02:00:00:00:00:09"),
        lambda: net.ensure_link_route(f"{OUTLET_ADDRESS}/32", "up0", OWN),
    )
    for number, broken in enumerate(breaks):
        broken()
        assert len(outlet.problems(net, OWN, MTU)) == 1, number
        outlet.ensure(net, space, OWN, MTU)
        assert outlet.problems(net, OWN, MTU) == [], number
    assert outlet.remove(net) and net.get(outlet.PROGRAM_SIDE) is None
    assert outlet.remove(net) == []


def test_somebody_elses_device_of_that_name_is_left_alone(net: Links, space: Path) -> None:
    net.ensure_bridge(outlet.STACK_SIDE)
    assert outlet.remove(net) == [] and net.get(outlet.STACK_SIDE) is not None


def test_ports_are_kept_from_the_kernels_choice_only_when_it_could_choose_them(space: Path) -> None:
    first, last = 61440, 65535
    assert ports.ensure(space, first, last) == []
    assert netns.sysctl(space, ports.RESERVED) == ""
    netns.set_sysctl(space, ports.RANGE, "32768 65000")
    netns.set_sysctl(space, ports.RESERVED, "8080")
    assert len(ports.problems(space, first, last)) == 1
    assert ports.ensure(space, first, last)
    assert netns.sysctl(space, ports.RESERVED) == "8080,61440-65535"
    assert ports.problems(space, first, last) == []
