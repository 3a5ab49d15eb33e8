"""`mizar trace` on a network where something is broken: it says which step fails, and where."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from node_agent.cli import trace
from node_agent.datapath.layout import Counter
from node_agent.emulation import fabric, hosts
from node_agent.kernel import filters, links
from tests.lab import traffic
from tests.lab.network import READY, Network, made
from tests.lab.tracing import traced, way
from tests.waiting import until

pytestmark = pytest.mark.root

TRIES = 40  # flows, of which each asks one of three bouncers by its hash


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """VPC `red` with a set of three of four hosts: anna and dora outside of it, bert on its first member."""
    with made(request, 4) as network:
        network.vpc("red", "10.20.0.0/16", {"red-a": "10.20.1.0/24"})
        (outside,) = network.outside("red")
        network.add("anna", "red-a", outside)
        network.add("dora", "red-a", outside, workload=False)
        network.add("bert", "red-a", network.members("red")[0])
        yield network


@contextlib.contextmanager
def asleep(network: Network, host: str) -> Iterator[None]:
    """The host's agent repairs nothing meanwhile, and everything afterwards."""
    pid = network.agent(host).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        until(lambda: network.ready(host) and network.ready(host), READY, f"{host} repaired")


@contextlib.contextmanager
def unplugged(network: Network, host: str) -> Iterator[None]:
    with links.opened(network.places.netns_path(fabric.NAME)) as net:
        net.ensure(hosts.port_name(host), up=False)
        try:
            yield
        finally:
            net.ensure(hosts.port_name(host), up=True)


def detach(network: Network, host: str, device: str) -> None:
    with links.opened(network.places.netns_path(host)) as net:
        filters.detach(net, device, "ingress")


def reaches(network: Network, source: str, destination: str) -> None:
    """The network is whole again, and a trace says so."""
    assert traced(network, source, destination)["outcome"]["result"] == "delivered"
    assert traffic.ask_once(network.pods[source].netns, network.pods[destination].address)["name"] == destination


def lost(told: dict[str, Any], host: str, program: str, why: str) -> None:
    last = told["steps"][-1]
    assert (told["outcome"]["result"], told["outcome"]["host"]) == ("lost", host)
    assert (last["host"], last["program"]) == (host, program) and why in last["lost"]
    assert f"result: LOST on {host}: " in trace.text(told) and why in trace.text(told)


def test_the_sender_s_program_is_detached(network: Network) -> None:
    anna = network.pods["anna"]
    with asleep(network, anna.host):
        detach(network, anna.host, anna.veth)
        lost(traced(network, "anna", "bert"), anna.host, "endpoint_tc", f"endpoint_tc is not attached to {anna.veth}")
        assert traced(network, "dora", "bert")["outcome"]["result"] == "delivered", "the neighbour's is attached"
    reaches(network, "anna", "bert")


def test_the_target_s_programs_are_detached(network: Network) -> None:
    bert = network.pods["bert"]
    with asleep(network, bert.host):
        detach(network, bert.host, hosts.UPLINK)
        lost(traced(network, "anna", "bert"), bert.host, "transit_tc", "transit_tc is not attached to uplink0")
    with asleep(network, bert.host):
        (network.places.host(bert.host).links / "uplink").unlink()
        told = traced(network, "anna", "bert")
        assert told["outcome"]["result"] == "delivered"
        assert "transit_xdp is not attached" in told["steps"][-1]["did"][0]
    reaches(network, "anna", "bert")


def test_an_unplugged_uplink_of_sender_and_of_target(network: Network) -> None:
    anna, bert = network.pods["anna"], network.pods["bert"]
    with unplugged(network, bert.host):
        lost(traced(network, "anna", "bert"), bert.host, "underlay", f"uplink0 of {bert.host} is unplugged")
    with unplugged(network, anna.host):
        told = traced(network, "anna", "bert")
        lost(told, anna.host, "underlay", f"uplink0 of {anna.host} is unplugged")
        assert told["steps"][-1]["packet"] == 3, "one packet for each bouncer"
        same = traced(network, "anna", "dora")
        lost(same, anna.host, "underlay", "unplugged")
    with links.opened(network.places.netns_path(bert.host)) as net:
        net.ensure(hosts.UPLINK, up=False)
        told = traced(network, "anna", "bert")
        net.ensure(hosts.UPLINK, up=True)
    lost(told, bert.host, "underlay", f"uplink0 of {bert.host} is down")
    reaches(network, "anna", "bert")


def test_the_target_s_own_interface_is_down(network: Network) -> None:
    bert = network.pods["bert"]
    with links.opened(bert.netns) as net:
        net.ensure("eth0", up=False)
        told = traced(network, "anna", "bert")
        net.ensure("eth0", up=True)
        net.ensure_pod_routes("eth0")
    assert told["steps"][-1]["did"][-1].startswith("LOST: ")
    lost(told, bert.host, "transit_tc", f"{bert.veth} has no carrier")
    reaches(network, "anna", "bert")


def test_a_dead_bouncer_costs_the_first_packet_and_is_skipped_in_time(network: Network) -> None:
    anna, dead = network.pods["anna"], network.members("red")[1]
    with unplugged(network, dead):
        asks_it = (
            told
            for port in range(50000, 50000 + TRIES)
            if (dead, "") in way(told := traced(network, "anna", "bert", protocol="udp", port=9, source_port=port))
        )
        told = next(asks_it)
        first = [step for step in told["steps"] if step["packet"] == 1]
        assert (first[-1]["host"], first[-1]["program"]) == (dead, "underlay")
        assert f"uplink0 of {dead} is unplugged" in first[-1]["lost"]
        assert told["outcome"] == {"result": "delivered", "detail": "to bert", "host": network.pods["bert"].host}
        assert "1 of its packets lost before" in trace.text(told)
        assert "its question has no answer yet" in trace.text(told)

        # The real network finds out by itself; from then on nobody asks it.
        skipped = network.counted(Counter.BOUNCERS_SKIPPED, [anna.host])

        def ask() -> bool:
            with traffic.udp_socket(anna.netns) as sock:
                sock.sendto(b"x", (network.pods["bert"].address, 9))
            return network.counted(Counter.BOUNCERS_SKIPPED, [anna.host]) > skipped

        until(ask, READY, "bouncer given up")
        told = trace.collect(
            network.places,
            trace.Question(source="anna", destination="bert", protocol="udp", port=9, source_port=told["ports"][0]),
        )
        assert f"skips {dead}" in trace.text(told) and told["outcome"]["result"] == "delivered"
        assert {step["packet"] for step in told["steps"]} == {1}
