"""Maps by descriptor: the flow and NAT tables behind the outer maps, and how full a map is. Called by CLI and metrics.

`maps.HostMaps` gives a host's pinned maps by name; this is for what has no name. Reading changes nothing, not even the
order in which an LRU forgets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from node_agent.datapath import elements, libbpf
from node_agent.datapath.layout import MAPS, FlowEntry, FlowKey, NatEntry
from node_agent.datapath.library import BpfError
from node_agent.model.errors import Permanent

TABLES = {"flows": ("flow_table", FlowEntry.SIZE), "nats": ("nat_table", NatEntry.SIZE)}
"""Outer map -> name and value size of its inner maps; their key is a FlowKey."""

_BATCH = 1024
_U32 = struct.Struct("=I")


@contextlib.contextmanager
def pinned(pins: Path, name: str) -> Iterator[int]:
    """Descriptor of a pinned map for the length of the block. Raises Permanent when there is none."""
    fd = libbpf.get(pins / name)
    if fd is None:
        raise Permanent(f"open map {name}: nothing is pinned at {pins / name}; is the agent running?")
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def tables(pins: Path, outer: str) -> Iterator[Mapping[int, int]]:
    """Slot -> descriptor of every inner map of `outer`, for the length of the block."""
    with pinned(pins, outer) as fd:
        ids = {_U32.unpack(key)[0]: _U32.unpack(value)[0] for key, value in _walk(fd, 4, 4)}
    opened: dict[int, int] = {}
    try:
        for slot, id_ in ids.items():
            inner = libbpf.map_by_id(id_)
            if inner is not None:
                opened[slot] = inner
        yield opened
    finally:
        for inner in opened.values():
            os.close(inner)


def entries(fd: int, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
    """Every entry of a hash map; one that changes meanwhile may come twice or not at all."""
    position: bytes | None = None
    count, first = _BATCH, True
    while first or position is not None:
        try:
            rows, position = elements.lookup_batch(fd, position, key_size, value_size, count)
        except BpfError as error:
            if error.code != errno.ENOSPC:
                raise
            count *= 2
            continue
        first = False
        yield from rows


def rows(fd: int, outer: str) -> dict[bytes, bytes]:
    """Every entry of an inner map of `outer`."""
    return dict(entries(fd, FlowKey.SIZE, TABLES[outer][1]))


def fill(pins: Path, name: str) -> tuple[int, int]:
    """(entries, room) of a pinned hash map, counted without keeping them."""
    spec = MAPS[name]
    with pinned(pins, name) as fd:
        read = _walk if name == "routes" else entries  # not every kernel has batches for prefixes
        number = sum(1 for _ in read(fd, spec.key_size, spec.value_size))
        return number, libbpf.map_info(fd).max_entries


def table(outer: str, size: int, content: Mapping[bytes, bytes]) -> int:
    """Descriptor of a new inner map for `outer` with this content."""
    name, value_size = TABLES[outer]
    fd = libbpf.create_map(libbpf.LRU_HASH, name, FlowKey.SIZE, value_size, size)
    try:
        for key, value in content.items():
            elements.update(fd, key, value)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _walk(fd: int, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
    key = elements.next_key(fd, None, key_size)
    while key is not None:
        value = elements.lookup(fd, key, value_size)
        if value is not None:
            yield key, value
        key = elements.next_key(fd, key, key_size)
