"""What the uplink must be like, and what its own address makes of it. Pure but for reading it. Called by `kernel`."""

from __future__ import annotations

from ipaddress import IPv4Interface

from node_agent.kernel import features
from node_agent.kernel.links import Link, Links
from node_agent.model.addresses import MIN_UPLINK_MTU
from node_agent.model.config import AgentConfig


def own_link(address: str, addresses: tuple[str, ...]) -> str:
    """The prefix that the host's own address, one of "address/length", makes a link of; "" when it makes none."""
    own = [IPv4Interface(found).network for found in addresses if found.partition("/")[0] == address]
    return str(own[0]) if own and own[0].prefixlen < 31 else ""


def mistakes(config: AgentConfig, net: Links, link: Link | None) -> list[str]:
    if link is None:
        return [f"uplink: {config.uplink!r} is no interface of this host"]
    found = []
    addresses = [address.partition("/")[0] for address in net.addresses(link.name)]
    if config.address not in addresses:
        found.append(f"address: {config.address} is not on {link.name}, which has {', '.join(addresses) or 'none'}")
    if link.mtu < MIN_UPLINK_MTU:
        found.append(f"uplink: MTU {link.mtu} of {link.name} is below {MIN_UPLINK_MTU}")
    active = features.read(net, link.name)
    found += [
        f"uplink: {feature} of {link.name} must be {'on' if wanted else 'off'}: "
        f"ethtool -K {link.name} {feature} {'on' if wanted else 'off'}"
        for feature, wanted in features.UPLINK.items()
        if active.get(feature, False) != wanted
    ]
    return found
