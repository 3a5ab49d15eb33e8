"""Endpoints that change hosts, on fakes: what is said when, and that a kill at any step changes not the outcome."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node_agent.agent.moves import LINGER, MOVED_FOR
from node_agent.datapath.layout import LocalRow
from node_agent.model.objects import NetworkEndpoint
from node_agent.rows.image import number
from tests.transition.agents import Agents, Fuse, Killed, KillingStore

ADDRESS = "10.0.1.5"


@pytest.fixture
def agents() -> Agents:
    return network()


def network() -> Agents:
    """h0 and h1 bounce, h2 has the endpoint, h3 is to get it."""
    made = Agents(4)
    made.vpc({"h0": "active", "h1": "active"})
    made.subnet((0, 1))
    made.settle()
    assert made.add("h2", "pod", address=ADDRESS).code == 0
    made.settle()
    return made


def want(agents: Agents, host: str) -> None:
    held = endpoint(agents)
    agents.store.put_spec(NetworkEndpoint, held.name, replace(held.spec, host=host))
    agents.settle()


def endpoint(agents: Agents) -> NetworkEndpoint:
    return agents.store.list(NetworkEndpoint)[0]


def local(agents: Agents, host: str) -> list[tuple[bool, int]]:
    """(whether there is a device, where it moved to) of the host's rows."""
    rows = agents.hosts[host].maps.rows["locals"].values()
    return [(bool(row.ifindex), row.moved_to) for row in map(LocalRow.unpack, rows)]


def wait(agents: Agents, seconds: float) -> None:
    # A little more: on a machine that is up for long, (now + seconds) - now is less than seconds.
    agents.clock.advance(seconds + 0.001)
    agents.settle()


def moved(agents: Agents) -> None:
    """h3 has it and h2 has let go."""
    status = endpoint(agents).status
    assert (status.host, status.next_host, status.previous_host) == ("h3", "", "h2")
    assert local(agents, "h3") == [(True, 0)]
    assert local(agents, "h2") == [(False, number(agents.address("h3")))]
    assert not agents.hosts["h2"].kernel.devices
    assert not agents.hosts["h2"].maps.rows["ports"]


def test_wanted_elsewhere_changes_nothing_until_the_new_host_is_asked(agents: Agents) -> None:
    before = agents.images()
    want(agents, "h3")
    assert agents.images() == before
    assert endpoint(agents).status.host == "h2"


def test_the_old_host_delivers_until_the_new_one_has_it_and_then_says_where_it_went(agents: Agents) -> None:
    want(agents, "h3")
    uid, seen = endpoint(agents).meta.uid, []
    agents.hosts["h3"].kernel.before = lambda step: seen.append((step.split()[0], local(agents, "h2"), says(agents)))
    assert agents.add("h3", "pod", address=ADDRESS).code == 0
    both = ("h2", agents.address("h3"))
    assert seen == [("make", [(True, 0)], ("h2", "")), ("switch", [(True, 0)], both)]
    wait(agents, LINGER)
    moved(agents)
    assert endpoint(agents).meta.uid == uid
    wait(agents, MOVED_FOR)
    assert local(agents, "h2") == []
    assert endpoint(agents).status.previous_host == ""


def says(agents: Agents) -> tuple[str, str]:
    return endpoint(agents).status.host, endpoint(agents).status.next_address


def test_a_restarted_old_host_still_says_where_it_went(agents: Agents) -> None:
    want(agents, "h3")
    agents.add("h3", "pod", address=ADDRESS)
    wait(agents, LINGER)
    agents.start("h2")
    agents.settle()
    moved(agents)


def test_an_old_host_that_slept_through_the_move_lets_go_when_it_wakes(agents: Agents) -> None:
    agents.hosts["h2"].alive = False
    want(agents, "h3")
    agents.add("h3", "pod", address=ADDRESS)
    assert local(agents, "h2") == [(True, 0)]
    agents.start("h2")
    agents.settle()
    wait(agents, LINGER)
    moved(agents)


def test_a_change_of_mind_brings_it_back(agents: Agents) -> None:
    """The move stopped after both hosts could speak for it."""
    want(agents, "h3")
    held = endpoint(agents)
    status = replace(held.status, next_host="h3", next_address=agents.address("h3"))
    agents.store.put_status(NetworkEndpoint, held.name, status)
    want(agents, "h2")
    assert agents.add("h2", "pod", address=ADDRESS).code == 0
    wait(agents, LINGER)
    assert says(agents) == ("h2", "")
    assert (local(agents, "h2"), agents.hosts["h3"].kernel.devices) == ([(True, 0)], {})


def test_there_and_back_again_within_the_minute(agents: Agents) -> None:
    for host, other in (("h3", "h2"), ("h2", "h3"), ("h3", "h2")):
        want(agents, host)
        assert agents.add(host, "pod", address=ADDRESS).code == 0
        wait(agents, LINGER + 1)
        assert local(agents, host) == [(True, 0)]
        assert local(agents, other) == [(False, number(agents.address(host)))]


@pytest.mark.parametrize("after", [0.0, LINGER])
def test_removed_right_after_the_move_nothing_is_left(agents: Agents, after: float) -> None:
    """Before the old host has let go, and after."""
    want(agents, "h3")
    agents.add("h3", "pod", address=ADDRESS)
    wait(agents, after)
    assert agents.delete("h3", "pod").code == 0
    agents.settle()
    assert not agents.store.list(NetworkEndpoint)
    nothing(agents)


def nothing(agents: Agents) -> None:
    """No host has anything of an endpoint."""
    for host in agents.hosts.values():
        assert not host.kernel.devices
        assert not host.maps.rows["locals"] and not host.maps.rows["ports"]


def test_removed_while_the_old_host_was_down_nothing_is_left_when_it_is_back(agents: Agents) -> None:
    want(agents, "h3")
    agents.add("h3", "pod", address=ADDRESS)
    agents.hosts["h2"].alive = False
    assert agents.delete("h3", "pod").code == 0
    agents.start("h2")
    agents.settle()
    nothing(agents)


def test_wanted_by_a_third_host_in_the_middle_the_second_lets_go(agents: Agents) -> None:
    want(agents, "h3")
    agents.hosts["h3"].kernel.before = Fuse(1).step  # its veth is made, and nothing was said yet
    with pytest.raises(Killed):
        agents.add("h3", "pod", address=ADDRESS)
    agents.start("h3")
    assert agents.hosts["h3"].kernel.devices
    want(agents, "h0")
    assert not agents.hosts["h3"].kernel.devices
    assert local(agents, "h3") == []


def test_removed_in_the_middle_both_hosts_let_go(agents: Agents) -> None:
    want(agents, "h3")
    assert agents.delete("h3", "pod").code == 0
    agents.settle()
    assert not agents.store.list(NetworkEndpoint)
    assert local(agents, "h2") == local(agents, "h3") == []
    assert not agents.hosts["h2"].kernel.devices


def test_killed_at_any_step_the_next_add_completes_the_move() -> None:
    steps = 0
    while killed_after(steps):
        steps += 1
    assert steps > 10, "the fuse was not on the way"


def killed_after(steps: int) -> bool:
    """Whether an ADD that may take so many steps was killed; either way the next one completes the move."""
    agents = network()
    want(agents, "h3")
    fuse, killed = Fuse(-1), False
    agents.start("h3", KillingStore(agents.store, fuse))
    kernel, maps = agents.hosts["h3"].kernel, agents.hosts["h3"].maps
    kernel.before = maps.before = fuse.step
    fuse.left = steps
    try:
        agents.add("h3", "pod", address=ADDRESS)
    except Killed:
        killed = True
    fuse.left = -1
    assert local(agents, "h2") or local(agents, "h3")
    agents.start("h3")
    agents.settle()
    assert agents.add("h3", "pod", address=ADDRESS).code == 0
    wait(agents, LINGER)
    moved(agents)
    return killed
