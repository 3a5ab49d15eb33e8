"""Container runtimes on hosts with real agents: what they ask for by CNI happens, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from node_agent.cni import protocol
from node_agent.cni.conflist import FOLLOWERS
from node_agent.cni.queue import Queue
from node_agent.emulation import processes
from node_agent.emulation.cluster import programs
from node_agent.kernel import links, netns
from node_agent.kernel.commands import CommandError
from node_agent.model.objects import NetworkEndpoint, NetworkEndpointSpec
from node_agent.model.places import veth_name
from tests.lab import cni, traffic
from tests.lab.cni import cnitool, config, namespace
from tests.lab.network import READY, Network, made
from tests.waiting import until

pytestmark = pytest.mark.root

BURST = 50


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Two hosts, a VPC with two subnets."""
    cni.build()
    # Waits for a build in the background, and builds what is missing; nothing to do is a tenth of a second.
    subprocess.run([str(programs.SCRIPT)], check=True, stdin=subprocess.DEVNULL)
    with made(request, 2) as network:
        network.vpc("blue", "10.40.0.0/16", {"front": "10.40.1.0/24", "back": "10.40.2.0/24"}, set_size=2)
        yield network


@pytest.fixture(autouse=True)
def clean(network: Network) -> Iterator[None]:
    """Each test takes away what it added, and every agent serves."""
    yield
    for host in network.hosts:
        until(lambda host=host: network.ready(host), READY, f"{host}: {network.log(host)}")
    for endpoint in claims(network).values():
        network.call(endpoint.host, protocol.Request(verb="DEL", container_id=endpoint.container_id))
    for path in netns.listed(network.places.netns("pod-"), Path("/run/netns")):
        netns.delete(path)
    network.pods.clear()
    assert not claims(network)
    until(lambda: not network.differences(), READY, lambda: network.differences())


def claims(network: Network) -> dict[str, NetworkEndpointSpec]:
    """Endpoints in the store, by container."""
    return {each.spec.container_id: each.spec for each in network.store.list(NetworkEndpoint)}


def add(network: Network, host: str, container: str, **more: Any) -> cni.Answer:
    return cni.run("ADD", config(network, host, **more), container, namespace=namespace(network, container))


def address(answer: cni.Answer) -> str:
    assert not answer.error, answer
    found: str = answer.said["ips"][0]["address"]
    return found.removesuffix("/32")


def reaches(one: Path, other: Path, target: str) -> bool:
    """Whether a datagram gets from one namespace to the other and back."""
    with traffic.udp_socket(other, traffic.PORT) as there, traffic.udp_socket(one) as here:
        here.sendto(b"ping", (target, traffic.PORT))
        said, sender = there.recvfrom(64)
        there.sendto(said, sender)
        return here.recv(64) == b"ping"


def take_down(network: Network, host: str) -> None:
    """No agent on that host, and nobody who starts one."""
    seen = network.agent(host)
    for pid in (seen.supervisor_pid, seen.pid):
        os.kill(pid, signal.SIGKILL)

    def gone() -> bool:
        now = processes.inspect(network.places.host(host).root, "agent")
        return now is None or not (now.pid or now.supervisor_pid)

    until(gone, READY, "the agent's end")


# --- cnitool ---


def test_a_runtime_adds_checks_and_removes_containers_that_reach_each_other(network: Network) -> None:
    pods = {host: namespace(network, f"on-{host}") for host in network.hosts}
    tools = {host: cnitool(network, host) for host in network.hosts}
    said = {host: tools[host].run("add", "net", pods[host]) for host in pods}
    one, two = pods
    for host, result in said.items():
        ours, theirs = result["interfaces"]
        assert ours["name"] in network.links(host) and "sandbox" not in ours
        assert (theirs["name"], theirs["sandbox"], theirs["mtu"]) == ("eth0", str(pods[host]), 1450)
        assert result["ips"][0]["interface"] == 1
        tools[host].run("status", "net", pods[host])
        tools[host].run("check", "net", pods[host])
        assert tools[host].run("add", "net", pods[host])["ips"] == result["ips"]
    addresses = {host: result["ips"][0]["address"].removesuffix("/32") for host, result in said.items()}
    assert reaches(pods[one], pods[two], addresses[two])
    assert reaches(pods[two], pods[one], addresses[one])
    tools[one].run("del", "net", pods[one])
    tools[one].run("del", "net", pods[one])
    assert [each.host for each in claims(network).values()] == [two]
    assert said[one]["interfaces"][0]["name"] not in network.links(one)
    tools[two].run("gc", "net", pods[two])
    assert not claims(network)


def test_check_tells_when_the_interface_is_not_as_add_left_it(network: Network) -> None:
    pod, tool = namespace(network, "changed"), cnitool(network, "host-1")
    tool.run("add", "net", pod)
    with cni.netns.enter(pod):
        subprocess.run(["ip", "link", "set", "eth0", "mtu", "1300"], check=True)
    with pytest.raises(CommandError, match="MTU 1300 instead of 1450"):
        tool.run("check", "net", pod)


def test_portmap_follows_in_the_chain(network: Network) -> None:
    one, two = namespace(network, "mapped"), namespace(network, "free")
    tool = cnitool(network, "host-1", {"type": "portmap", **FOLLOWERS["portmap"]})
    mapped, free = tool.run("add", "net", one), cnitool(network, "host-2").run("add", "net", two)
    tool.run("check", "net", one)
    assert reaches(one, two, free["ips"][0]["address"].removesuffix("/32"))
    tool.run("del", "net", one)
    assert set(claims(network).values()) and mapped["interfaces"][0]["name"] not in network.links("host-1")


# --- what there is not, and what was there before ---


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"vpc": "nowhere"}, "no VPC 'nowhere'"),
        ({"subnet": "nowhere"}, "no subnet 'nowhere'"),
        ({"vpc": "nowhere", "subnet": ""}, "VPC 'nowhere' has not one subnet but none"),
        ({"subnet": ""}, "VPC 'blue' has not one subnet but back, front"),
        ({"vpc": "", "subnet": "nowhere"}, "no subnet 'nowhere'"),
        ({"vpc": "", "subnet": ""}, "no VPC"),
    ],
)
def test_an_unknown_network_is_a_clear_error_and_no_address(network: Network, where: dict[str, str], said: str) -> None:
    answer = add(network, "host-1", "lost", **where)
    assert answer.error == protocol.INVALID_CONFIG
    assert said in answer.said["msg"] and "default of network net" in answer.said["msg"]
    assert not claims(network)


def test_an_interface_that_is_somebody_elses_stays_and_add_says_so(network: Network) -> None:
    host = next(iter(network.hosts))
    where = namespace(network, "taken")
    with links.opened(where) as pod:
        pod.ensure_bridge("eth0")
        pod.ensure_address("eth0", "192.0.2.1/24")
    refused = cni.run("ADD", config(network, host), "taken", namespace=where)
    assert refused.error and "it has an interface of that name already" in str(refused.said), refused
    with links.opened(where) as pod:
        assert (pod.need("eth0").kind, pod.addresses("eth0")) == ("bridge", ("192.0.2.1/24",))
    cni.run("DEL", config(network, host), "taken", namespace=where)
    assert "taken" not in claims(network)


def test_the_hosts_own_namespace_is_no_containers(network: Network) -> None:
    host = next(iter(network.hosts))
    refused = cni.run("ADD", config(network, host), "host", namespace=network.places.netns_path(host))
    assert refused.error and "is no network namespace of a container" in str(refused.said), refused


def test_a_subnet_alone_means_its_vpc(network: Network) -> None:
    assert address(add(network, "host-1", "sub", vpc="", subnet="back")).startswith("10.40.2.")


def test_a_result_of_a_plugin_before_is_kept(network: Network) -> None:
    before = {
        "interfaces": [{"name": "first", "sandbox": "/x"}],
        "ips": [{"address": "192.0.2.9/24", "interface": 0}],
        "routes": [{"dst": "192.0.2.0/24"}],
        "dns": {"domain": "example.test"},
    }
    answer = add(network, "host-1", "late", prevResult={"cniVersion": "1.1.0", **before})
    assert answer.said["interfaces"][0] == before["interfaces"][0]
    assert answer.said["ips"][0] == before["ips"][0] and answer.said["ips"][1]["interface"] == 2
    assert answer.said["routes"][0] == before["routes"][0] and answer.said["dns"] == before["dns"]


def test_gc_removes_what_is_not_valid_in_its_own_network_only(network: Network) -> None:
    for name in ("kept", "stale"):
        add(network, "host-1", name)
    add(network, "host-1", "other", name="another")
    add(network, "host-2", "far")
    network.add("pod-program", "front", "host-1", workload=False)
    everything = set(claims(network))
    assert everything == {"kept", "stale", "other", "far", "pod-program"}
    assert cni.run("GC", config(network, "host-1")).error == 0
    assert set(claims(network)) == everything
    valid = [{"containerID": "kept", "ifname": "eth0"}, {"containerID": "stale", "ifname": "eth1"}]
    assert cni.run("GC", config(network, "host-1", **{"cni.dev/valid-attachments": valid})).error == 0
    assert set(claims(network)) == everything - {"stale"}
    assert veth_name("stale", "eth0") not in network.links("host-1")


# --- agents that die ---


def test_an_agent_killed_during_add_leaves_something_to_try_again(network: Network) -> None:
    pod, killed = namespace(network, "hard"), network.agent("host-1").pid
    os.kill(killed, signal.SIGSTOP)  # so it does not even look at the request
    until(lambda: stopped(killed), READY, "the agent to stop")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(cni.run, "ADD", config(network, "host-1"), "hard", namespace=pod)
        try:
            until(lambda: connecting(cni.socket(network, "host-1")), READY, "the plugin's connection")
        finally:
            os.kill(killed, signal.SIGKILL)
        assert asked.result().error == protocol.TRY_AGAIN
    until(lambda: network.ready("host-1"), READY, "the next agent")
    answer = cni.run("ADD", config(network, "host-1"), "hard", namespace=pod)
    assert set(claims(network)) == {"hard"} and claims(network)["hard"].address == address(answer)


def stopped(pid: int) -> bool:
    """Whether every thread of the process has stopped; the one that accepts may be quick."""
    states = (path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(state == "T" for state in states)


def connecting(path: Path) -> bool:
    """Whether somebody is connected to the agent's socket whom the agent has not accepted yet."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    # The kernel knows the socket by the name that it was bound to, before the rename.
    return any(line[5] == "02" and line[-1].startswith(str(path.with_name(f".{path.name}."))) for line in lines)


def test_agents_killed_at_any_moment_of_many_adds_leave_one_claim_each(network: Network) -> None:
    names = [f"storm{n}" for n in range(12)]
    spaces = {name: namespace(network, name) for name in names}
    over = threading.Event()

    def persist(name: str) -> str:
        def tried() -> str:
            answer = cni.run("ADD", config(network, "host-1"), name, namespace=spaces[name])
            assert answer.error in (0, protocol.TRY_AGAIN), answer
            return "" if answer.error else address(answer)

        return until(tried, 3 * READY, f"ADD of {name}", pause=0.05)

    def kill() -> None:
        """A moment after it has begun to serve, five times."""
        for moment in (0.0, 0.02, 0.05, 0.1, 0.15):
            until(lambda: over.is_set() or network.ready("host-1"), READY, "the agent")
            if not over.wait(moment):
                os.kill(network.agent("host-1").pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with ThreadPoolExecutor(3) as pool:
            addresses = dict(zip(names, pool.map(persist, names), strict=True))
    finally:
        over.set()
        killer.join()
    assert {name: each.address for name, each in claims(network).items()} == addresses
    assert len(set(addresses.values())) == len(names)


def test_a_removal_while_no_agent_is_there_is_done_by_the_next(network: Network) -> None:
    pod = namespace(network, "ends")
    assert not cni.run("ADD", config(network, "host-1"), "ends", namespace=pod).error
    take_down(network, "host-1")
    assert cni.run("ADD", config(network, "host-1"), "new", namespace=pod).error == protocol.TRY_AGAIN
    assert cni.run("STATUS", config(network, "host-1")).error == protocol.NOT_AVAILABLE
    assert cni.run("DEL", config(network, "host-1"), "ends", namespace=pod).error == 0
    queue = Queue.beside(cni.socket(network, "host-1"))
    assert queue.waiting() and claims(network)
    network.start_agent("host-1")
    until(lambda: not claims(network) and not queue.waiting(), READY, "the late removal")
    assert veth_name("ends", "eth0") not in network.links("host-1")


def test_a_late_removal_never_hits_a_later_add(network: Network) -> None:
    pod = namespace(network, "again")
    assert not cni.run("ADD", config(network, "host-1"), "again", namespace=pod).error
    take_down(network, "host-1")
    assert cni.run("DEL", config(network, "host-1"), "again", namespace=pod).error == 0
    network.start_agent("host-1")

    def added() -> cni.Answer | None:
        answer = cni.run("ADD", config(network, "host-1"), "again", namespace=pod)
        return None if answer.error else answer

    answer = until(added, READY, "ADD")
    assert not Queue.beside(cni.socket(network, "host-1")).waiting()
    assert claims(network)["again"].address == address(answer)
    assert not cni.run("CHECK", config(network, "host-1", prevResult=answer.said), "again", namespace=pod).error


# --- many at once ---


def test_fifty_adds_at_once_get_fifty_addresses(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    spaces = {f"many{n}": namespace(network, f"many{n}") for n in range(BURST)}

    def timed(name: str) -> tuple[float, cni.Answer]:
        began = time.monotonic()
        answer = cni.run("ADD", config(network, "host-1"), name, namespace=spaces[name])
        return time.monotonic() - began, answer

    with ThreadPoolExecutor(BURST) as pool:
        answers = list(pool.map(timed, spaces))
    addresses = {address(answer) for _, answer in answers}
    assert len(addresses) == BURST == len(claims(network))
    with ThreadPoolExecutor(BURST) as pool:
        gone = list(pool.map(lambda name: cni.run("DEL", config(network, "host-1"), name).error, spaces))
    assert not any(gone) and not claims(network)
    timed("many0")  # stays: the first of a VPC on a host makes the VPC's flow table, which is another matter
    alone = []
    for _ in range(20):
        alone.append(timed("many1")[0])
        cni.run("DEL", config(network, "host-1"), "many1")
    with capsys.disabled():
        print(f"\nCNI ADD in ms: {told([took for took, _ in answers])} of {BURST} at once; {told(alone)} alone")


def told(seconds: list[float]) -> str:
    cuts = statistics.quantiles((1000 * each for each in seconds), n=100, method="inclusive")
    return f"p50 {cuts[49]:.0f}, p99 {cuts[98]:.0f}"
