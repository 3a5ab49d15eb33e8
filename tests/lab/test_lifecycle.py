"""Endpoints come, go, come back elsewhere and misbehave; what is taken away from an agent is put back."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.providers import endpoint
from node_agent.cni.protocol import EXHAUSTED, Request
from node_agent.datapath import programs
from node_agent.datapath.layout import FlowKey
from node_agent.datapath.library import BpfError
from node_agent.emulation import endpoints, hosts
from node_agent.kernel import filters, links, netns
from node_agent.model.errors import MizarError, Permanent
from node_agent.model.objects import NetworkEndpoint
from tests.lab import traffic
from tests.lab.capture import Capture, Type
from tests.lab.network import READY, Network, made
from tests.waiting import until

pytestmark = pytest.mark.root

SMALL = "red-small"


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """4 hosts, 3 of them in the set; anna lives outside it."""
    with made(request, 4) as network:
        subnets = {"red-a": "10.20.1.0/24", "red-b": "10.20.2.0/24", SMALL: "10.20.3.0/28"}
        network.vpc("red", "10.20.0.0/16", subnets)
        one, two, _ = network.members("red")
        network.add("anna", "red-a", network.outside("red")[0])
        network.add("bert", "red-a", one)
        network.add("carl", "red-b", two)
        yield network


@pytest.fixture(autouse=True)
def clean(network: Network) -> Iterator[None]:
    """Each test takes away what it added, and leaves rows and programs as they should be."""
    kept = set(network.pods)
    yield
    for name in set(network.pods) - kept:
        network.remove(network.pods[name])
    assert all(network.ready(host) for host in network.hosts)
    until(lambda: not network.differences(), READY, "rows as in the store")


@pytest.fixture
def capture(network: Network) -> Iterator[Capture]:
    with contextlib.closing(Capture(network.places, network.hosts)) as capture:
        yield capture


# --- ADD and DEL ---


def test_an_endpoint_whose_agent_does_not_answer_is_removed_all_the_same(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the agent did not hear it sees in the store, once it is there again."""
    monkeypatch.setattr(endpoint, "DEL_SECONDS", 0.5)
    pod = network.add("mute", "red-a", network.outside("red")[0])
    props = endpoint.of(network.places.id, network.store.get(NetworkEndpoint, pod.object))
    agent = network.agent(pod.host).pid
    os.kill(agent, signal.SIGSTOP)
    try:
        endpoint.EndpointProvider().remove(props)
        assert not network.store.list(NetworkEndpoint, {"spec.container_id": pod.name})
        assert not netns.exists(pod.netns)
        del network.pods[pod.name]
    finally:
        os.kill(agent, signal.SIGCONT)
    until(lambda: not network.differences(), READY, "its rows are gone")
    assert network.agent(pod.host).pid == agent


def test_add_repeated_gives_the_same_answer(network: Network) -> None:
    host = network.outside("red")[0]
    endpoints.make(network.places, "twice")
    request = network.request("twice", "red-a")
    first = network.call(host, request)
    before = network.dumps()
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda _: network.call(host, request), range(4)))
    assert again == [first] * 4
    assert network.dumps() == before
    assert len(network.store.list(NetworkEndpoint, {"spec.container_id": "twice"})) == 1
    check = Request(verb="CHECK", container_id="twice", netns=request.netns)
    assert network.call(host, check) == first
    for _ in range(3):
        network.call(host, Request(verb="DEL", container_id="twice"))
    assert not network.store.list(NetworkEndpoint, {"spec.container_id": "twice"})
    with pytest.raises(Permanent, match="there is none"):
        network.call(host, check)
    network.call(host, Request(verb="DEL", container_id="never seen"))
    endpoints.remove(network.places, "twice")


def test_add_puts_right_what_a_pod_broke_in_its_own_namespace(network: Network) -> None:
    pod = network.pods["carl"]
    with links.opened(pod.netns) as inside:
        inside.delete(endpoints.INTERFACE)
    assert network.call(pod.host, network.request("carl", "red-b")).address == pod.address
    assert traffic.ask_once(network.pods["anna"].netns, pod.address)["name"] == "carl"


@pytest.mark.parametrize("where", ["another host", "the same host"])
def test_an_address_that_is_used_again_is_its_new_owners_at_once(
    network: Network, where: str, capture: Capture
) -> None:
    """A third endpoint's old flow: its first packet after the change arrives, at the new owner."""
    anna, here = network.pods["anna"], network.members("red")[0]
    there = here if where == "the same host" else network.members("red")[1]
    old = network.add("old", "red-b", here)
    with traffic.udp_socket(anna.netns) as sock, traffic.udp_socket(anna.netns) as other:
        for _ in range(3):
            assert traffic.ask(sock, old.address)["name"] == "old"
        network.detach(old)
        new = network.add("new", "red-b", there, old.address)
        assert new.address == old.address and new.mac == old.mac
        capture.take()
        assert traffic.ask(sock, new.address)["name"] == "new"
        assert Type.NOT_HERE in {message.type for message in capture.take()}, "the old flow was used"
        assert traffic.ask(sock, new.address)["name"] == "new"
        assert {message.type for message in capture.take()} == {Type.DATA}
        assert traffic.ask(other, new.address)["name"] == "new"


def test_a_new_owner_does_not_inherit_flows(network: Network) -> None:
    """Nothing of what was meant for the old one: neither its connections nor what others still send to them."""
    anna, here = network.pods["anna"], network.members("red")[0]
    old = network.add("old", "red-b", here)
    with traffic.connect(anna.netns, old.address) as stream:
        assert traffic.echo(stream, b"mine") == b"mine"
        network.detach(old)
        network.add("new", "red-b", here, old.address)
        with network.maps(here) as maps:
            kept = [key for slot in maps.flow_tables() for key in maps.read_flows(slot)]
        ends = {socket.inet_aton(old.address), socket.inet_aton(anna.address)}
        assert not [key for key in map(FlowKey.unpack, kept) if {key.src[12:], key.dst[12:]} == ends]
        stream.send(b"still mine?")
        with pytest.raises(ConnectionResetError):  # by the new one's kernel, which never heard of it
            stream.recv(100)


def test_a_small_subnet_is_filled_emptied_and_filled_again(network: Network) -> None:
    names = [f"small-{number}" for number in range(14)]
    placed = {name: sorted(network.hosts)[number % 4] for number, name in enumerate(names)}
    for name in names:
        endpoints.make(network.places, name)

    def add(name: str) -> str:
        return network.call(placed[name], network.request(name, SMALL)).address

    for _ in range(2):
        with ThreadPoolExecutor(4) as pool:
            addresses = list(pool.map(add, names[:13]))
        assert sorted(addresses, key=lambda text: int(text.split(".")[3])) == [f"10.20.3.{n}" for n in range(2, 15)]
        with pytest.raises(Permanent, match=rf"all 13 .*taken.*\(code {EXHAUSTED}\)"):
            add(names[13])
        assert {name: add(name) for name in names[:13]} == dict(zip(names, addresses, strict=False)), "claims stand"
        with ThreadPoolExecutor(4) as pool:
            for name in names:
                pool.submit(network.call, placed[name], Request(verb="DEL", container_id=name))
        assert not network.store.list(NetworkEndpoint, {"spec.subnet": SMALL})
    for name in names:
        endpoints.remove(network.places, name)


@pytest.mark.parametrize("address", ["10.20.3.0", "10.20.3.1", "10.20.3.15", "10.20.4.1"])
def test_reserved_and_foreign_addresses_are_refused(network: Network, address: str) -> None:
    with pytest.raises(Permanent, match="address: "):
        network.call("host-1", network.request("anna", SMALL, address))


def test_a_taken_address_is_refused_naming_its_owner(network: Network) -> None:
    endpoints.make(network.places, "thief")
    with pytest.raises(Permanent, match=f"bert on {network.pods['bert'].host} has it"):
        network.call("host-1", network.request("thief", "red-a", network.pods["bert"].address))
    endpoints.remove(network.places, "thief")


# --- the agent's self check ---


def detach_endpoint(network: Network) -> None:
    pod = network.pods["bert"]
    with links.opened(network.places.netns_path(pod.host)) as net:
        filters.detach(net, pod.veth, "ingress")


def detach_transit(network: Network) -> None:
    with links.opened(network.places.netns_path(network.pods["bert"].host)) as net:
        filters.detach(net, hosts.UPLINK, "ingress")


def detach_xdp(network: Network) -> None:
    (network.places.host(network.pods["bert"].host).links / programs.UPLINK_LINK).unlink()


def delete_rows(name: str) -> Callable[[Network], None]:
    def act(network: Network) -> None:
        with network.maps(network.pods["bert"].host) as maps:
            rows = maps.read(name)
            assert rows
            maps.delete(name, rows)

    return act


def delete_flow_table(network: Network) -> None:
    with network.maps(network.pods["bert"].host) as maps:
        assert maps.flow_tables()
        maps.drop_flow_tables(maps.flow_tables())


def scribble(network: Network) -> None:
    """Every endpoint row of a bouncer names a host that does not exist."""
    with network.maps(network.pods["bert"].host) as maps:
        rows = maps.read("endpoints")
        maps.put("endpoints", {key: b"\xc6\x12\x00\xfe" + value[4:] for key, value in rows.items()})


DAMAGE = {
    "endpoint program": (detach_endpoint, "program put back"),
    "transit program": (detach_transit, "program put back"),
    "xdp program": (detach_xdp, "program put back"),
    **{
        name: (delete_rows(name), "rows put back")
        for name in ("vpcs", "subnets", "routes", "serving", "endpoints", "locals", "ports")
    },
    "flow table": (delete_flow_table, "rows put back"),
    "wrong rows": (scribble, "rows put back"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_repaired_and_reported(network: Network, damage: str) -> None:
    act, told = DAMAGE[damage]
    host = network.pods["bert"].host
    before, said = attached(network, host), len(network.log(host))
    act(network)
    hurt = network.differences() or attached(network, host) != before or damage == "flow table"
    assert hurt or told in network.log(host)[said:], "the agent's own look, every 10 s, may have come first"
    assert network.ready(host)
    assert attached(network, host) == before
    assert network.differences() == []
    assert told in network.log(host)[said:]
    with network.maps(host) as maps:
        assert maps.flow_tables()
    for source, target in (("anna", "bert"), ("bert", "carl"), ("carl", "bert")):
        assert traffic.ask_once(network.pods[source].netns, network.pods[target].address)["name"] == target


def attached(network: Network, host: str) -> tuple[object, ...]:
    """What runs on the host's hooks, by kernel id."""
    path = network.places.netns_path(host)
    with links.opened(path) as net:
        index = net.need(hosts.UPLINK).index
        veths = sorted(pod.veth for pod in network.pods.values() if pod.host == host)
        found = [filters.attached(net, name, "ingress") for name in (hosts.UPLINK, *veths)]
    with netns.enter(path), contextlib.suppress(BpfError):
        return programs.xdp_state(index), *found
    return tuple(found)


def test_a_downed_uplink_is_a_problem_until_it_is_up(network: Network) -> None:
    host = network.outside("red")[0]
    path = network.places.netns_path(host)
    with links.opened(path) as net:
        net.ensure(hosts.UPLINK, up=False)
        with pytest.raises(MizarError, match="uplink0 is down"):
            network.call(host, Request(verb="STATUS"), 2.0)
        until(lambda: not network.host(host).status.ready, READY, "a status that says so")
        assert "uplink: uplink0 is down" in network.host(host).status.problems
        net.ensure(hosts.UPLINK, up=True)
    assert network.ready(host)
    until(lambda: network.host(host).status.ready, READY, "a status that says so")
    assert traffic.ask_once(network.pods["anna"].netns, network.pods["bert"].address)["name"] == "bert"
