"""Pure arithmetic of addresses: who gets which one, and how many there are.

Called by `infra.rules` (is there room?) and `infra.plan` (who gets which?). An address never depends on what was added
later: hosts and generated endpoints count upwards from the bottom, endpoints that leave the choice to the plan find a
place of their own in the upper half by their name. (Only a subnet whose generated endpoints grow beyond its lower half,
or whose upper half fills up, makes them give way.)
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network

HOST_OFFSET = 10  # host-1 has the underlay's address 11: room below for a gateway and for what a person attaches


def host_room(underlay: IPv4Network) -> int:
    """How many hosts the underlay prefix can number."""
    return max(0, underlay.num_addresses - 2 - HOST_OFFSET)


def host_address(underlay: IPv4Network, number: int) -> IPv4Address:
    """Underlay address of the host with this number (from 1; 0 is a cluster's control plane)."""
    return underlay[HOST_OFFSET + number]


def automatic(places: Sequence[str], name: str, taken: Collection[str]) -> str:
    """A free address for a named endpoint, of a subnet's usable ones: its own place in the upper half, or the next
    free one from there.

    Raises ValueError when every address is taken.
    """
    count = len(places)
    lower = count // 2
    start = lower + zlib.crc32(name.encode()) % max(1, count - lower)
    for step in range(count):
        address = places[(start + step) % count]
        if address not in taken:
            return address
    raise ValueError(f"choose address: all {count} are taken")
