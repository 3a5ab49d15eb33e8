"""A host with a port in the VPC of its pods: who reaches whom with it, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.providers.host_port import HostPortProps, HostPortProvider
from node_agent.emulation import hosts
from node_agent.emulation.cluster import host_port
from node_agent.kernel import links, netns
from node_agent.kernel.commands import CommandError
from tests.lab import mizar
from tests.lab.cluster import Lab
from tests.lab.server import NAME_BYTES, Server
from tests.waiting import until

pytestmark = pytest.mark.root

PATIENCE = 60.0  # seconds; a bound for a loaded machine, nothing is measured by it
PROVIDER = HostPortProvider()
SERVED, DOOR = 8080, 18080
FLOWS = 20


lab = mizar.fixture(chained=("portmap",))


@pytest.fixture(scope="module")
def pods(lab: Lab) -> dict[str, str]:
    """One pod of the default VPC per node: node -> address."""
    lab.apply(*(mizar.pod(f"on-{node}", node) for node in lab.nodes))
    found = mizar.addresses(lab, *(f"on-{node}" for node in lab.nodes))
    return {node: found[f"on-{node}"] for node in lab.nodes}


@pytest.fixture
def port(lab: Lab) -> Iterator[HostPortProps]:
    """The first node's."""
    props = HostPortProps(
        stack=lab.places.id, host=next(iter(lab.nodes)), vpc="blue", subnet="front", prefixes=("10.50.0.0/16",)
    )
    PROVIDER.ensure(props, None)
    yield props
    PROVIDER.remove(props)


def with_host_port(name: str, node: str, **annotations: str) -> dict[str, Any]:
    """A pod whose port SERVED is its host's DOOR, TCP and UDP."""
    made = mizar.pod(name, node, **annotations)
    made["spec"]["containers"][0]["ports"] = [
        {"containerPort": SERVED, "hostPort": DOOR, "protocol": protocol} for protocol in ("TCP", "UDP")
    ]
    return made


def said(where: Path, address: str, kind: socket.SocketKind) -> str:
    """Who answers at DOOR of that address; "": nobody."""
    with netns.enter(where):
        sock = socket.socket(socket.AF_INET, kind)
    with sock, contextlib.suppress(OSError):
        sock.settimeout(5.0)
        sock.connect((address, DOOR))
        sock.send(b"who")
        return sock.recv(NAME_BYTES).decode().strip()
    return ""


def answers(where: Path, address: str) -> bool:
    try:
        netns.run_in(where, ["ping", "-n", "-c1", "-W2", address], 10.0)
    except CommandError:
        return False
    return True


def test_without_one_a_host_reaches_no_pod(lab: Lab, pods: dict[str, str]) -> None:
    for node in lab.nodes:
        assert not any(answers(lab.places.netns_path(node), address) for address in pods.values())


def test_a_host_and_the_pods_of_every_node_reach_each_other(
    lab: Lab, pods: dict[str, str], port: HostPortProps
) -> None:
    observed = PROVIDER.observe(port)
    assert observed is not None
    for node, address in pods.items():
        assert answers(lab.places.netns_path(port.host), address)
        assert answers(mizar.space(lab, node, f"on-{node}"), observed["address"])
    other = next(node for node in lab.nodes if node != port.host)
    assert not any(answers(lab.places.netns_path(other), address) for address in pods.values())


def test_it_is_repaired_and_keeps_its_address(lab: Lab, pods: dict[str, str], port: HostPortProps) -> None:
    before = PROVIDER.observe(port)
    with links.opened(lab.places.netns_path(port.host)) as net:
        net.delete(host_port.LINK)
    assert PROVIDER.observe(port) is None
    assert PROVIDER.ensure(port, port) == before
    assert all(answers(lab.places.netns_path(port.host), address) for address in pods.values())


def test_a_port_of_the_host_is_a_pods(lab: Lab, pods: dict[str, str], port: HostPortProps) -> None:
    other = next(node for node in lab.nodes if node != port.host)
    lab.apply(with_host_port("door", port.host))
    mizar.addresses(lab, "door")
    inside, host, away = mizar.space(lab, port.host, "door"), *map(lab.places.netns_path, (port.host, other))
    own = (PROVIDER.observe(port) or {})["address"]
    with contextlib.closing(Server(inside, SERVED, "door")):
        for asker, address in (
            (away, lab.nodes[port.host].address),
            (host, lab.nodes[port.host].address),
            (host, "127.0.0.1"),
            (mizar.space(lab, other, f"on-{other}"), own),
            (mizar.space(lab, port.host, f"on-{port.host}"), own),
            (inside, own),
        ):
            # New flows, of which some bouncers are on this host and some are not; no datagram is sent twice.
            for _ in range(FLOWS):
                assert said(asker, address, socket.SOCK_DGRAM) == "door", (asker, address)
            assert said(asker, address, socket.SOCK_STREAM) == "door", (asker, address)
    lab.kubectl("delete", "pod", "door", "--timeout=60s", timeout=70)
    with contextlib.closing(Server(host, DOOR, "host")):  # it is the host's own again
        until(lambda: said(away, lab.nodes[port.host].address, socket.SOCK_STREAM) == "host", PATIENCE, "the host")


def test_a_pod_of_a_vpc_that_hosts_are_not_in_gets_no_port_of_theirs(
    lab: Lab, pods: dict[str, str], port: HostPortProps
) -> None:
    lab.apply(with_host_port("shut", port.host, vpc="red"))

    def told() -> bool:
        events = lab.get("events", "--field-selector=involvedObject.name=shut")["items"]
        wanted = f"hostPort: {DOOR}: not for a pod of VPC 'red', as the hosts are in VPC 'blue' only"
        return any(wanted in event["message"] for event in events)

    until(told, PATIENCE, lambda: lab.kubectl("get", "events"))
    lab.kubectl("delete", "pod", "shut", "--timeout=60s", timeout=70)


def test_nobody_else_gets_into_the_vpc_by_a_host(lab: Lab, pods: dict[str, str], port: HostPortProps) -> None:
    other = next(node for node in lab.nodes if node != port.host)
    away, target = lab.places.netns_path(other), pods[port.host]
    with links.opened(away) as net:
        net.ensure_route(f"{target}/32", lab.nodes[port.host].address, hosts.UPLINK)
    try:
        assert not answers(away, target)
    finally:
        netns.run_in(away, ["ip", "route", "del", f"{target}/32"], 10.0)
    assert answers(lab.places.netns_path(port.host), target)


DAMAGES: dict[str, tuple[bool, str, str]] = {  # on the host or beside it -> what is done there, what is told
    "a route": (True, "ip route del 10.50.0.0/16", "packets for 10.50.0.0 do not leave by vpc0"),
    "its link": (True, "ip link set vpc0 down", "on the host: vpc0 is down"),
    "a neighbour": (True, "ip neigh del 169.254.1.1 dev vpc0", "neighbour 169.254.1.1 of vpc0 is not"),
    "the way back": (False, "ip link set vpc0 down", "beside the host: vpc0 is down"),
    "the way out": (False, "ip route del default", "packets for 10.50.0.0 do not leave by eth0"),
    "the gateway": (False, "ip neigh del 169.254.1.1 dev eth0", "neighbour 169.254.1.1 of eth0 is not"),
    "forwarding": (False, "sysctl -w net.ipv4.ip_forward=0", "beside the host: sysctl net/ipv4/ip_forward is not 1"),
    "the way back from it": (True, "sysctl -w net.ipv4.conf.vpc0.forwarding=0", "vpc0/forwarding is not 1"),
    "a rule": (True, "nft flush chain ip mizar postrouting", "other rules in chain postrouting of ip mizar"),
    "all rules": (True, "nft delete table ip mizar", "other rules in chain forward of ip mizar"),
    "a rule more": (True, "nft insert rule ip mizar forward accept", "other rules in chain forward of ip mizar"),
    "a chain more": (True, "nft add chain ip mizar more", "a chain more in ip mizar that is not ours"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_drift_and_is_repaired(lab: Lab, pods: dict[str, str], port: HostPortProps, damage: str) -> None:
    on_host, command, told = DAMAGES[damage]
    outputs = {"stack": port.stack, "host": port.host, **(PROVIDER.observe(port) or {})}
    assert not PROVIDER.drift(port, port, outputs)
    netns.run_in(lab.places.netns_path(port.host if on_host else host_port.name(port.host)), command.split(), 10.0)
    assert PROVIDER.drift(port, port, outputs)
    damaged = PROVIDER.observe(port)
    assert damaged is not None and told in "; ".join(damaged["problems"])
    PROVIDER.ensure(port, port)
    assert not PROVIDER.drift(port, port, outputs)
    assert all(answers(lab.places.netns_path(port.host), address) for address in pods.values())


def test_nothing_is_left_of_one(lab: Lab, pods: dict[str, str], port: HostPortProps) -> None:
    PROVIDER.remove(port)
    PROVIDER.remove(port)
    assert PROVIDER.observe(port) is None
    assert not netns.exists(lab.places.netns_path(host_port.name(port.host)))
    with links.opened(lab.places.netns_path(port.host)) as net:
        assert net.get(host_port.LINK) is None

    def released() -> bool:
        return {each["spec"]["address"] for each in lab.get("networkendpoints")["items"]} == set(pods.values())

    until(released, PATIENCE, "the address")
