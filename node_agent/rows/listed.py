"""Rows of map `listed`: what endpoints may reach outside of every VPC. Pure; written by the agent at start."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from node_agent.datapath.layout import Limit, ListedKey, ListedRow
from node_agent.model.addresses import FIRST_PORT, FORBIDDEN, LAST_PORT, OUTLET_ADDRESS, address_mistakes, told
from node_agent.model.config import Listed
from node_agent.model.errors import Invalid
from node_agent.rows.image import MapImage, number
from node_agent.rows.services import PROTOCOLS

LINK_LOCAL = "169.254.0.0/16"
"""Somebody's, unlike the other prefixes that are set aside: what is there may be listed."""


def listed_rows(listed: Iterable[Listed], own: Collection[str]) -> MapImage:
    """`own`: those of the addresses that are this host's. Raises Invalid with every mistake."""
    listed = tuple(listed)
    mistakes = [mistake for each in listed for mistake in listed_mistakes(each)]
    if mistakes:
        raise Invalid(mistakes)
    keys = (ListedKey(addr=number(one.address), port=one.port, proto=PROTOCOLS[one.protocol]).pack() for one in listed)
    rows = (ListedRow(local=one.address in own).pack() for one in listed)
    return {"listed": dict(zip(keys, rows, strict=True))}


def listed_mistakes(one: Listed) -> list[str]:
    """What must not be listed, however much somebody trusts it."""
    found = address_mistakes("listed", one.address)
    if not found:
        address = ipaddress.IPv4Address(one.address)
        found = [
            told("listed", one.address, f"must not be in {taken}, which is set aside ({why})")
            for taken, why in FORBIDDEN.items()
            if taken != LINK_LOCAL and address in ipaddress.IPv4Network(taken)
        ]
        if one.address == OUTLET_ADDRESS:
            found.append(told("listed", one.address, "is what endpoints have as their own address there"))
    if not FIRST_PORT <= one.port <= LAST_PORT:
        found.append(told("listed", one.port, f"must be a port from {FIRST_PORT} to {LAST_PORT}"))
    if one.protocol not in PROTOCOLS:
        found.append(told("listed", one.protocol, f"must be one of {', '.join(PROTOCOLS)}"))
    if (one.protocol, one.port) == ("udp", Limit.WIRE_PORT):
        found.append(told("listed", f"{one.address}:{one.port}", "is the tunnel's own port"))
    return found
