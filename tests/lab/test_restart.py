"""Killing what runs in user space changes no packet: agents, supervisors and the controller, under load."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.cni.protocol import Request
from node_agent.datapath import libbpf
from node_agent.datapath.layout import DIGEST, MAPS, Counter
from node_agent.emulation import endpoints, processes
from node_agent.kernel import links
from node_agent.model.config import Timers
from node_agent.model.objects import NetworkEndpoint
from node_agent.model.places import veth_name
from tests.lab import boot_clock, traffic
from tests.lab.network import READY, Network, made
from tests.lab.traffic import Load, Probe, Stream
from tests.waiting import until

pytestmark = pytest.mark.root

BACK = 2.0  # seconds within which a killed agent runs again
HOSTS = ("host-1", "host-2", "host-3", "host-4")


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Three of four hosts bounce; one endpoint of each subnet on every host. Entries stay fresh while the tests last:
    what is asked then, is asked because something was lost."""
    with made(request, 4, timers=Timers(fresh=3600.0)) as network:
        network.vpc("red", "10.20.0.0/16", {"red-a": "10.20.1.0/24", "red-b": "10.20.2.0/24"})
        for number, host in enumerate(HOSTS, 1):
            network.add(f"a-{number}", "red-a", host)
            network.add(f"b-{number}", "red-b", host)
        yield network


class Loads:
    """Around the ring of hosts: one flow, ever new flows, and a stream, from each host to the next."""

    def __init__(self, network: Network) -> None:
        ring = range(1, len(HOSTS) + 1)
        self.loads: list[Load] = []
        for number in ring:
            here = network.pods[f"a-{number}"].netns
            to = number % len(HOSTS) + 1
            self.loads.append(Probe(here, network.pods[f"a-{to}"].address, fresh=False))
            self.loads.append(Stream(here, network.pods[f"b-{to}"].address))
        # 100 first packets a second in all, so that questions reach every bouncer while somebody is away.
        self.loads.append(Probe(network.pods["b-1"].netns, network.pods["a-3"].address, fresh=True))

    def go_on(self) -> None:
        traffic.go_on(self.loads, 30)

    def stop(self) -> None:
        for load in self.loads:
            load.halt()
        for load in self.loads:
            load.stop()

    def check(self) -> None:
        """Nothing lost, nothing reset, nothing altered, and something was sent."""
        assert [load.error for load in self.loads] == [""] * len(self.loads)
        assert [load.lost for load in self.loads] == [0] * len(self.loads)
        assert all(load.sent > 20 for load in self.loads)


@pytest.fixture
def loads(network: Network) -> Iterator[Loads]:
    """Stopped and judged at the end of the test."""
    loads = Loads(network)
    try:
        loads.go_on()
        yield loads
        loads.go_on()
    finally:
        loads.stop()
    loads.check()


def kill_agent(network: Network, host: str) -> None:
    """Kill it and wait until another one is ready. It must have begun in time; when it is ready is only told."""
    old, began = network.agent(host).pid, boot_clock.now()
    os.kill(old, signal.SIGKILL)

    def back() -> bool:
        found = processes.inspect(network.places.host(host).root, "agent")
        return found is not None and found.pid not in (0, old) and network.ready(host)

    until(back, READY, f"{host} ready again: {network.log(host)[-2000:]}")
    took = boot_clock.now() - began
    restarted = boot_clock.born(network.agent(host).pid) - began
    print(f"\n{host}: a new agent after {restarted:.2f} s, ready after {took:.2f} s")
    assert restarted <= BACK


def map_ids(folder: Path) -> set[int]:
    """The kernel's numbers of every pinned map."""
    found = set()
    for name in MAPS:
        fd = libbpf.get(folder / name)
        assert fd is not None, name
        found.add(libbpf.map_info(fd).id)
        os.close(fd)
    return found


def questions(network: Network) -> int:
    """Asked by those hosts whose loads are old flows only."""
    return network.counted(Counter.QUERIES_SENT, HOSTS[1:])


@pytest.mark.parametrize("host", HOSTS)
def test_a_killed_agent_is_missed_by_no_packet(network: Network, loads: Loads, host: str) -> None:
    before, asked = network.dump(host), questions(network)
    kill_agent(network, host)
    loads.go_on()
    assert questions(network) == asked, "flows outlive the agent"
    assert network.dump(host) == before
    assert network.differences() == []
    said = network.host(host).status
    until(lambda: network.host(host).status.pid == network.agent(host).pid, READY, "a status of the new agent")
    assert said.problems == ()


def test_the_roles_that_were_tested_differ(network: Network) -> None:
    assert len(network.outside("red")) == 1
    assert network.bouncers("red-a") == network.members("red")


@pytest.mark.parametrize("host", ["host-1", "host-4"])
def test_programs_with_other_maps_take_over_without_losing_a_packet(network: Network, loads: Loads, host: str) -> None:
    """As after an edit of abi.h: what is pinned has another layout, and what is attached goes on with it meanwhile."""
    before, pins = network.dump(host), network.places.host(host).pins
    old = map_ids(pins / "maps")
    processes.stop(network.places.host(host).root, "agent")
    (pins / "layout" / DIGEST).rename(pins / "layout" / "another")
    (pins / "maps" / "config").unlink()
    wrong = ("type", "array", "key", "4", "value", "8", "entries", "1", "name", "config")
    subprocess.run(["bpftool", "map", "create", str(pins / "maps" / "config"), *wrong], check=True)
    loads.go_on()
    network.start_agent(host)
    until(lambda: network.ready(host), READY, f"{host} ready again: {network.log(host)[-2000:]}")
    assert old.isdisjoint(map_ids(pins / "maps"))
    assert [entry.name for entry in (pins / "layout").iterdir()] == [DIGEST]
    assert network.dump(host) == before


def test_all_agents_killed_at_once(network: Network, loads: Loads) -> None:
    old = {host: network.agent(host).pid for host in HOSTS}
    for pid in old.values():
        os.kill(pid, signal.SIGKILL)
    for host, pid in old.items():
        # Within no given time: four agents start on this machine's few cores at once.
        until(lambda host=host, pid=pid: network.agent(host).pid not in (0, pid), READY, f"{host} back")
        until(lambda host=host: network.ready(host), READY, f"{host} ready")
    loads.go_on()
    assert network.differences() == []


def test_an_endpoint_added_while_a_bouncer_has_no_agent(network: Network, loads: Loads) -> None:
    """ADD succeeds. That bouncer has never heard of the new one, so what the new one asks it others answer; as soon as
    its agent is back it knows."""
    away = network.members("red")[0]
    here = next(host for host in HOSTS if host != away)
    processes.stop(network.places.host(away).root, "agent")
    try:
        late = network.add("late", "red-a", here)
        before = network.dumps()[away]
        for _ in range(20):
            assert traffic.ask_once(late.netns, network.pods["a-1"].address)["name"] == "a-1"
        assert network.differences() == [f"{away}: endpoints"]
        assert network.dump(away) == before
    finally:
        network.start_agent(away)
    until(lambda: network.ready(away), READY, f"{away} ready")
    assert network.differences() == []
    for _ in range(20):
        assert traffic.ask_once(network.pods["a-1"].netns, late.address)["name"] == "late"
    network.remove(late)
    until(lambda: not network.differences(), READY, "rows as in the store")


def test_a_killed_supervisor_is_missed_by_nobody(network: Network, loads: Loads) -> None:
    host = HOSTS[1]
    old = network.agent(host)
    os.kill(old.supervisor_pid, signal.SIGKILL)
    try:
        until(lambda: network.agent(host).supervisor_pid == 0, READY, "the supervisor's end")
        assert network.agent(host).pid == old.pid and network.ready(host), "the agent goes on alone"
        loads.go_on()
    finally:
        network.start_agent(host)  # as the next `up` does
    new = network.agent(host)
    assert new.supervisor_pid and new.pid != old.pid
    until(lambda: network.ready(host), READY, f"{host} ready")
    kill_agent(network, host)
    assert network.differences() == []


def test_a_killed_controller_is_missed_by_nobody(network: Network, loads: Loads) -> None:
    folder = network.places.controller
    old = processes.inspect(folder, "controller")
    assert old
    os.kill(old.pid, signal.SIGKILL)

    def back() -> bool:
        found = processes.inspect(folder, "controller")
        return found is not None and found.pid not in (0, old.pid)

    until(back, READY, "the controller")
    network.vpc("green", "10.40.0.0/16", {"green-a": "10.40.1.0/24"})
    assert network.vni("green") > network.vni("red")
    loads.go_on()


def test_endpoints_come_and_go_without_a_controller(network: Network, loads: Loads) -> None:
    folder = network.places.controller
    processes.stop(folder, "controller")
    try:
        late = network.add("late", "red-b", HOSTS[3])
        assert traffic.ask_once(network.pods["a-1"].netns, late.address)["name"] == "late"
        network.remove(late)
        network.turned()
        assert network.differences() == []
    finally:
        network.start_controller()


def test_an_agent_killed_during_add_and_del_leaves_one_claim_or_none(network: Network, loads: Loads) -> None:
    """The caller repeats the verb, as the Pulumi program and kubelet do."""
    names = {f"shaky-{number}": HOSTS[number % len(HOSTS)] for number in range(3)}

    def killing(number: int, host: str, request: Request) -> None:
        # An ADD takes some 50 ms here: the kills fall before, into and behind it.
        killer = threading.Timer(number * 0.03, os.kill, (network.agent(host).pid, signal.SIGKILL))
        killer.start()
        network.call(host, request)
        killer.join()
        until(lambda: network.ready(host), READY, f"{host} ready")

    def claims() -> list[NetworkEndpoint]:
        return [one for one in network.store.list(NetworkEndpoint) if one.spec.container_id in names]

    for number, (name, host) in enumerate(names.items()):
        endpoints.make(network.places, name)
        killing(number, host, network.request(name, "red-a"))
    assert sorted(one.spec.container_id for one in claims()) == sorted(names)
    assert len({one.spec.address for one in claims()}) == len(names)
    until(lambda: not network.differences(), READY, "rows as in the store")
    for number, (name, host) in enumerate(names.items()):
        killing(number, host, Request(verb="DEL", container_id=name))
    assert claims() == []
    until(lambda: not network.differences(), READY, "rows as in the store")
    for host in HOSTS:
        with links.opened(network.places.netns_path(host)) as net:
            assert not {veth_name(name, endpoints.INTERFACE) for name in names} & {link.name for link in net.all()}
