"""The underlay of a stack: a namespace of its own with a bridge, one port per host.

Called by the Pulumi provider; `emulation.hosts` plugs hosts in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from node_agent.kernel import links, netns
from node_agent.model.places import StackPlaces

NAME = "fabric"  # of the namespace; no host of a stack may have this name
BRIDGE = "fabric0"
# A bridge shows its frames to the packet filter of IP where somebody (Docker, for one) loaded br_netfilter, and new
# namespaces begin so. An underlay is a wire: nothing is defragmented, filtered or slowed down on it.
FILTERS = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")


@dataclass(frozen=True, kw_only=True)
class Observed:
    """`netns`: name below /run/netns; `identity`: its inode; `ports`: interface names, sorted."""

    netns: str
    identity: int
    up: bool
    ports: tuple[str, ...]


def make(places: StackPlaces) -> Observed:
    """Namespace and bridge. Raises Permanent."""
    path = places.netns_path(NAME)
    netns.create(path)
    unfilter(path)
    with links.opened(path) as net:
        net.ensure_bridge(BRIDGE)
        net.ensure(BRIDGE, up=True)
        return _observe(places, net)


def unfilter(path: Path) -> None:
    """No bridge of that namespace shows its frames to the packet filter. Raises Permanent."""
    for key in FILTERS:
        if netns.sysctl(path, key) is not None:
            netns.set_sysctl(path, key, "0")


def inspect(places: StackPlaces) -> Observed | None:
    """The fabric as it is; None without namespace or bridge."""
    path = places.netns_path(NAME)
    if not netns.exists(path):
        return None
    with links.opened(path) as net:
        return _observe(places, net) if net.get(BRIDGE) else None


def remove(places: StackPlaces) -> None:
    """Remove the namespace and with it bridge and ports, which cuts the hosts' uplinks; absent is success."""
    netns.delete(places.netns_path(NAME))


def _observe(places: StackPlaces, net: links.Links) -> Observed:
    bridge = net.need(BRIDGE)
    ports = sorted(link.name for link in net.all() if link.master == bridge.index)
    return Observed(
        netns=places.netns(NAME),
        identity=netns.identity(places.netns_path(NAME)) or 0,
        up=bridge.up,
        ports=tuple(ports),
    )
