"""What maps hold, as plain bytes, and how addresses are written in them. Pure; used by every module of this package.

A map image is {map name: {key: value}}, the packed records of `datapath.layout`. Row functions return one for the rows
of their object alone; no two objects share a key, so images are put together by `merged`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from node_agent.datapath.record import Record

MapImage = dict[str, dict[bytes, bytes]]


def merged(images: Iterable[MapImage]) -> MapImage:
    """One image with the rows of all; maps without rows are left out."""
    total: MapImage = {}
    for image in images:
        for name, rows in image.items():
            if rows:
                total.setdefault(name, {}).update(rows)
    return total


def row(name: str, key: Record, value: Record) -> MapImage:
    """An image of one row."""
    return {name: {key.pack(): value.pack()}}


def number(address: str) -> int:
    """An IPv4 address as the number that `layout` writes in network order."""
    return int(ipaddress.IPv4Address(address))


def mapped(address: str) -> bytes:
    """An IPv4 address as the 16 bytes of ::ffff:a.b.c.d, which is how keys hold it."""
    return bytes(10) + b"\xff\xff" + number(address).to_bytes(4, "big")


def network(cidr: str) -> tuple[int, int]:
    """(network address as a number, prefix length)."""
    parsed = ipaddress.IPv4Network(cidr)
    return int(parsed.network_address), parsed.prefixlen


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
