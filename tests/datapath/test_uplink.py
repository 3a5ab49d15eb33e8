"""How a message leaves by the uplink: straight to a neighbour on the uplink's own link, else by the routing table."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from node_agent.datapath import programs
from node_agent.kernel import filters, links, netns
from tests.datapath.conftest import VNI
from tests.datapath.host import Endpoint, Host, ip_int
from tests.datapath.walk import GATEWAY_MAC

pytestmark = pytest.mark.root
SELF, PEER, ROUTER = "198.18.0.51", "198.18.0.52", "198.18.0.254"
PEER_MAC, ROUTER_MAC = "02:00:00:00:00:52", "02:00:00:00:00:fe"


@pytest.fixture(scope="module")
def where() -> Iterator[Path]:
    """A namespace with both ends of an endpoint's veth and of an uplink, whose routes all lead to a router."""
    path = Path(f"/run/netns/mizar-uplinktest-{os.getpid()}")
    netns.create(path)
    try:
        with links.opened(path) as net:
            net.ensure_veth("pod0", peer_netns=path, peer="pod1", mtu=1450)
            net.ensure_veth("up0", peer_netns=path, peer="up1", mtu=1500)
            net.ensure_address("up0", f"{SELF}/32")
            for name in ("pod0", "pod1", "up0", "up1"):
                net.ensure(name, up=True)
            index = net.need("up0").index
        with netns.enter(path), IPRoute() as route:
            for address, mac in ((PEER, PEER_MAC), (ROUTER, ROUTER_MAC)):
                route.neigh("add", dst=address, lladdr=mac, ifindex=index, state=0x80)  # permanent
            route.route("add", dst="198.18.0.0/24", gateway=ROUTER, oif=index, flags=4)  # on-link
        yield path
    finally:
        netns.delete(path)


@pytest.fixture
def one(where: Path, host: Callable[..., Host]) -> Iterator[Host]:
    """A host in that namespace with anna on it; whom it asks has PEER's address."""
    host_ = host(41)
    with links.opened(where) as net:
        anna = Endpoint("anna", VNI, "10.10.1.10", "10.10.1.0", "10.10.1.1", 0x0A01, net.need("pod0").index)
        host_.holds(anna)
        host_.vpc(VNI, [PEER])
        host_.subnet(VNI, "10.10.1.0", 1)
        filters.attach(net, "pod0", "ingress", host_.programs[programs.ENDPOINT_TC].fd, programs.ENDPOINT_TC)
        yield host_


@pytest.mark.parametrize(
    "link,mask,mac",
    [("198.18.0.0", 0xFFFFFF00, PEER_MAC), ("0.0.0.0", 0, ROUTER_MAC), ("198.18.1.0", 0xFFFFFF00, ROUTER_MAC)],
    ids=["on the link", "no link known", "on another link"],
)
def test_neighbours_are_sent_to_and_others_routed_to(where: Path, one: Host, link: str, mask: int, mac: str) -> None:
    with links.opened(where) as net:
        one.configure(uplink=net.need("up0").index, link=ip_int(link), link_mask=mask)
    frame = Ether(src=one.locals["anna"].mac, dst=GATEWAY_MAC) / IP(src="10.10.1.10", dst="10.10.1.20") / UDP()
    with contextlib.ExitStack() as stack:
        with netns.enter(where):
            out, seen = (stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) for _ in range(2))
        out.bind(("pod1", 0))
        seen.bind(("up1", 0x0800))
        seen.settimeout(2.0)
        out.send(bytes(frame))
        got = Ether(seen.recv(2000))
    assert (got.dst, got[IP].dst, got[UDP].dport) == (mac, PEER, 4789)
