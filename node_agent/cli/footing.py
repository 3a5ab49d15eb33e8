"""What a test run does not show of a packet's way: whether the programs are attached, and the devices carry anything.

Every function answers with "" or why a live packet would be lost there, in words. Devices and hooks are read; nothing
is sent. Called by `way`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node_agent.datapath import programs
from node_agent.datapath.programs import ENDPOINT_TC, TRANSIT_TC, TRANSIT_XDP
from node_agent.emulation import hosts
from node_agent.kernel import filters, links, netns
from node_agent.kernel.links import Link, Links
from node_agent.model.config import AgentConfig
from node_agent.model.places import StackPlaces


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A host as a packet finds it. `namespace`: its path; `tags`: of the programs that should be attached, by name."""

    config: AgentConfig
    namespace: Path
    tags: Mapping[str, str]

    def sender(self, ifindex: int) -> str:
        """Of what the endpoint behind this device sends."""
        with links.opened(self.namespace) as net:
            device = _numbered(net, ifindex)
            return _dead(device, ifindex) or _hook(net, device, ENDPOINT_TC, self.tags)

    def receiver(self, ifindex: int) -> str:
        """Of what is delivered to the endpoint behind this device."""
        with links.opened(self.namespace) as net:
            return _dead(_numbered(net, ifindex), ifindex)

    def xdp(self) -> str:
        """Of what arrives at the uplink; no XDP program at all is no loss: TC does its work."""
        with links.opened(self.namespace) as net, netns.enter(self.namespace):
            state = programs.xdp_state(net.need(self.config.uplink).index)
        if state is None or state.tag == self.tags[TRANSIT_XDP]:
            return ""
        return f"XDP of {self.config.uplink} runs somebody else's program (tag {state.tag})"

    def tc(self) -> str:
        """Of what XDP left to TC."""
        with links.opened(self.namespace) as net:
            return _hook(net, net.need(self.config.uplink), TRANSIT_TC, self.tags)


def cut(places: StackPlaces, config: AgentConfig) -> str:
    """Of what goes over the host's uplink, either way."""
    path = places.netns_path(config.host)
    if not netns.exists(path):
        return f"{config.host} is gone: it has no network namespace"
    with links.opened(path) as net:
        uplink = net.get(config.uplink)
        addresses = net.addresses(config.uplink) if uplink else ()
    what = f"{config.uplink} of {config.host}"
    if uplink is None:
        return f"{what} is gone"
    if not uplink.up:
        return f"{what} is down"
    if not uplink.carrier:
        return f"{what} is unplugged: it has no carrier"
    if config.address not in (address.partition("/")[0] for address in addresses):
        return f"{what} does not have the address {config.address}"
    why = hosts.unplugged(places, config.host)
    return f"{what} is unplugged: {why}" if why else ""


def _numbered(net: Links, ifindex: int) -> Link | None:
    return next((link for link in net.all() if link.index == ifindex), None)


def _dead(device: Link | None, ifindex: int) -> str:
    if device is None:
        return f"the endpoint's device (number {ifindex}) is gone"
    if not device.up:
        return f"{device.name}, the endpoint's device on the host, is down"
    return "" if device.carrier else f"{device.name} has no carrier: the endpoint's own end is down"


def _hook(net: Links, device: Link | None, name: str, tags: Mapping[str, str]) -> str:
    assert device is not None
    found = filters.attached(net, device.name, "ingress")
    if found is None:
        return f"{name} is not attached to {device.name}: what comes there goes to the host's own stack"
    return (
        "" if found.tag == tags[name] else f"TC of {device.name} runs another program ({found.name}, tag {found.tag})"
    )
