"""What the underlay carries: super-packets, as veth does by itself, or one packet per MTU, as a NIC without offloads.

Every port of the fabric changes together, whoever's traffic passes it. Called by `run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from node_agent.emulation import fabric, hosts
from node_agent.kernel import features, links, netns
from node_agent.model.places import NETNS, StackPlaces

Kind = Literal["gso", "mtu"]

# Off where one packet per MTU is to cross: what leaves a port is then segmented and summed before.
OFFLOADS = (
    "tx-checksum-ip-generic",
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
)

Port = tuple[str, str]  # name of a namespace below the stack, device


class WirePorts:
    """Every port of the fabric, both ends, and the offloads that it has by itself."""

    def __init__(self, places: StackPlaces) -> None:
        self._places = places
        prefix = places.netns("")
        names = [path.name.removeprefix(prefix) for path in netns.listed(prefix, NETNS)]
        self._own: dict[Port, Mapping[str, bool]] = {}
        for name in names:
            with links.opened(places.netns_path(name)) as net:
                for link in net.all():
                    uplink = link.name == hosts.UPLINK and bool(net.addresses(link.name))
                    if uplink or (name == fabric.NAME and link.kind == "veth"):
                        self._own[name, link.name] = features.read(net, link.name)

    def become(self, kind: Kind) -> None:
        """All ports carry this from now on."""
        for (name, device), own in self._own.items():
            wanted = {feature: kind == "gso" and own.get(feature, False) for feature in OFFLOADS if feature in own}
            with links.opened(self._places.netns_path(name)) as net:
                features.ensure(net, device, wanted)
