"""The underlay of a stack: a namespace of its own with a bridge, one port per host.

Called by the Pulumi provider; `emulation.hosts` plugs hosts in.
"""

from __future__ import annotations

from dataclasses import dataclass

from node_agent.kernel import links, netns
from node_agent.model.places import StackPlaces

NAME = "fabric"  # of the namespace; no host of a stack may have this name
BRIDGE = "fabric0"


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
    with links.opened(path) as net:
        net.ensure_bridge(BRIDGE)
        net.ensure(BRIDGE, up=True)
        return _observe(places, net)


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
