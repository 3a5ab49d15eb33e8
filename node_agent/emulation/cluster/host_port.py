"""A port of an emulated host in a VPC: its kubelet, API server and hostNetwork pods call pods and services of that VPC,
and are called from there, as one more endpoint of it. Called by the Pulumi provider and the tests.

The endpoint is an ordinary one, which the host's agent makes on ADD, in a namespace of its own: a packet cannot be
handed to the other end of a veth pair in the same namespace. That namespace hands packets on between the endpoint and
the host; the address is the host's. So a host may be one in a VPC that trusts its hosts, and in none else: pods of the
VPC reach what the host serves to everybody.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from node_agent.cni import client
from node_agent.cni.protocol import Request
from node_agent.emulation.cluster import forwarding, machines
from node_agent.emulation.endpoints import INTERFACE
from node_agent.kernel import commands, links, netns
from node_agent.model.addresses import POD_GATEWAY
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces

LINK = "vpc0"
"""The host's interface, and the end of it in the namespace beside the host."""
BESIDE = "169.254.1.2/32"
"""An address of the namespace's own. Nobody ever calls it."""
FORWARDS = "net/ipv4/ip_forward"
GATEWAY_MAC = "02:6d:7a:00:00:01"  # of every endpoint's gateway, as the endpoint program answers
ADD_SECONDS = 60.0
TIMEOUT = 30.0


@dataclass(frozen=True, kw_only=True)
class Spec:
    """`prefixes`: what the host is to reach that way: the VPC's own, and that of cluster IPs."""

    host: str
    vpc: str
    subnet: str
    prefixes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """`address`: of the host in the VPC. `problems`: why packets do not get through it, one sentence each."""

    host: str
    address: str
    problems: tuple[str, ...] = ()


def name(host: str) -> str:
    """Of the namespace beside the host, and of the container that the agent takes it for."""
    return f"port-{host}"


def make(places: StackPlaces, spec: Spec) -> Observed:
    """The port, carrying packets; repairs what is there. Raises Permanent, Temporary as the agent does."""
    path, beside = places.netns_path(spec.host), places.netns_path(name(spec.host))
    if not netns.exists(path):
        raise Permanent(f"make port of {spec.host}: the host has no namespace")
    _namespace(places, spec.host)
    reply = client.persist(
        places.host(spec.host).socket,
        Request(
            verb="ADD",
            container_id=name(spec.host),
            interface=INTERFACE,
            netns=str(beside),
            vpc=spec.vpc,
            subnet=spec.subnet,
            workload=f"host {spec.host}",
        ),
        ADD_SECONDS,
    )
    netns.set_sysctl(beside, FORWARDS, "1")
    with links.opened(path) as net, links.opened(beside) as between:
        net.ensure_veth(LINK, peer_netns=beside, peer=LINK, mtu=reply.mtu)
        for end in (net, between):
            end.ensure(LINK, up=True)
        # Instead of the endpoint's, which is the host's from here on; what has no address sends nothing.
        between.ensure_address(INTERFACE, BESIDE)
        between.ensure_pod_routes(INTERFACE)
        between.ensure_neighbour(POD_GATEWAY, GATEWAY_MAC, INTERFACE)
        between.ensure_link_route(f"{reply.address}/32", LINK, BESIDE.partition("/")[0])
        between.ensure_neighbour(reply.address, net.need(LINK).mac, LINK)
        net.ensure_address(LINK, f"{reply.address}/32")
        net.ensure_link_route(f"{POD_GATEWAY}/32", LINK, reply.address)
        net.ensure_neighbour(POD_GATEWAY, between.need(LINK).mac, LINK)
        for prefix in spec.prefixes:
            net.ensure_route(prefix, POD_GATEWAY, LINK)
    forwarding.ensure(path, LINK)
    return Observed(host=spec.host, address=reply.address)


def inspect(places: StackPlaces, spec: Spec) -> Observed | None:
    """The port as it is; None: there is none, or half of one."""
    path, beside = places.netns_path(spec.host), places.netns_path(name(spec.host))
    if not netns.exists(path) or not netns.exists(beside):
        return None
    with links.opened(path) as net, links.opened(beside) as between:
        if not net.get(LINK) or not between.get(INTERFACE):
            return None
        addresses = net.addresses(LINK)
        if not addresses or not between.get(LINK):
            return None
        address = str(ipaddress.ip_interface(addresses[0]).ip)
        problems = _problems(net, between, address, spec.prefixes)
    if netns.sysctl(beside, FORWARDS) != "1":
        problems.append(f"beside the host: sysctl {FORWARDS} is not 1")
    problems += forwarding.problems(path, LINK)
    return Observed(host=spec.host, address=address, problems=tuple(problems))


def _problems(net: links.Links, between: links.Links, address: str, prefixes: tuple[str, ...]) -> list[str]:
    """What differs from what `make` makes. `net`: the host; `between`: the namespace beside it."""
    gateway, far = POD_GATEWAY, [str(ipaddress.ip_network(prefix)[0]) for prefix in prefixes]
    return [
        *_lacking("on the host", net, LINK, [gateway, *far], (gateway, between.need(LINK).mac)),
        *_lacking("beside the host", between, LINK, [address], (address, net.need(LINK).mac)),
        *_lacking("beside the host", between, INTERFACE, [gateway, *far], (gateway, GATEWAY_MAC)),
    ]


def _lacking(where: str, space: links.Links, name: str, ways: list[str], neighbour: tuple[str, str]) -> list[str]:
    """`ways`: addresses that packets leave for by this link. `neighbour`: one on it, and its MAC address."""
    link, (address, mac) = space.need(name), neighbour
    found = [] if link.up else [f"{where}: {name} is down"]
    for each in ways:
        way = space.way_to(each)
        if way is None or way[0] != link.index:
            found.append(f"{where}: packets for {each} do not leave by {name}")
    if space.neighbours(name).get(address) != mac:
        found.append(f"{where}: neighbour {address} of {name} is not {mac}")
    return found


def remove(places: StackPlaces, host: str) -> None:
    """No port; absent is success. What the agent knows of it, it forgets with the claim: DEL comes before."""
    path, beside = places.netns_path(host), places.netns_path(name(host))
    if netns.exists(path):
        with links.opened(path) as net:
            net.delete(LINK)
        forwarding.remove(path)
    netns.delete(beside)
    seen = machines.inspect(places, host)
    if seen and seen.pid and netns.exists(_on_machine(seen.pid, beside)):
        machines.run(places, host, ("/usr/bin/umount", str(beside)), TIMEOUT)
        machines.run(places, host, ("/usr/bin/rm", str(beside)), TIMEOUT)


def _namespace(places: StackPlaces, host: str) -> None:
    """The namespace beside the host, under one path both on the computer and on the host's machine, where an agent that
    is a pod sees it."""
    beside = places.netns_path(name(host))
    seen = machines.inspect(places, host)
    if seen is None or not seen.pid:
        raise Permanent(f"make port of {host}: its machine is down")
    there = _on_machine(seen.pid, beside)
    found = netns.identity(beside)
    if found is not None and found == netns.identity(there):
        return
    netns.delete(beside)  # of the machine's last life
    if not netns.exists(there):
        machines.run(places, host, ("/usr/bin/touch", str(beside)), TIMEOUT)
        machines.run(places, host, ("/usr/bin/unshare", f"--net={beside}", "/usr/bin/true"), TIMEOUT)
    beside.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    beside.touch(mode=0o444)
    # Not canonical: the way through the machine's root is lost on the way otherwise.
    commands.run(["mount", "-c", "--bind", str(there), str(beside)], TIMEOUT)
    netns.run_in(beside, ["ip", "link", "set", "lo", "up"], TIMEOUT)
    netns.disable_ipv6(beside)


def _on_machine(pid: int, path: Path) -> Path:
    """How the computer sees a path of the machine whose first process this is."""
    return Path(f"/proc/{pid}/root") / path.relative_to("/")
