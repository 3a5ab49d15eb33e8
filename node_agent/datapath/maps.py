"""The pinned maps of one host: read all, put, delete, in plain bytes. Called by the agent, the CLI and the probes.

`Maps` is what the agent needs of them; `testing.maps.FakeMaps` is the same without a kernel. Keys and values are the
packed records of `layout`; a map whose shape is not the one in `layout.MAPS` is refused before anything is written.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, Self

from node_agent.datapath import elements, libbpf
from node_agent.datapath.layout import MAPS, Counter, DropKey, DropReason, FlowEntry, FlowKey, NatEntry
from node_agent.datapath.library import BpfError
from node_agent.datapath.record import MapSpec
from node_agent.model.errors import Permanent

PERCPU = {5, 6, 10}
BATCH = 4096
LRU_LEAST = 256
"""Entries of an LRU table, and of each CPU's share of it: kernels before mid-2025 hand free entries out by the CPU, and
a table with fewer forgets what it has room for."""
_ENOTSUPP = 524  # the kernel's own, not in errno
_NO_BATCH = {_ENOTSUPP, errno.EINVAL, errno.EOPNOTSUPP}
_U32 = struct.Struct("=I")

Rows = Mapping[bytes, bytes]


class Maps(Protocol):
    """A host's maps. Every verb may be repeated; names are those of layout.MAPS. `least`: entries of a flow table."""

    @property
    def least(self) -> int: ...
    def read(self, name: str) -> dict[bytes, bytes]: ...
    def put(self, name: str, rows: Rows) -> None: ...
    def delete(self, name: str, keys: Iterable[bytes]) -> None: ...
    def flow_tables(self) -> dict[int, int]: ...
    def ensure_flow_tables(self, entries: Mapping[int, int]) -> set[int]: ...
    def drop_flow_tables(self, slots: Iterable[int]) -> None: ...
    def read_flows(self, slot: int) -> dict[bytes, bytes]: ...
    def find_flow(self, slot: int, key: bytes) -> bytes | None: ...
    def delete_flows(self, slot: int, keys: Iterable[bytes]) -> None: ...
    def read_nats(self, slot: int) -> dict[bytes, bytes]: ...
    def find_nat(self, slot: int, key: bytes) -> bytes | None: ...
    def delete_nats(self, slot: int, keys: Iterable[bytes]) -> None: ...
    def drops(self) -> dict[tuple[int, DropReason], int]: ...
    def counters(self) -> dict[Counter, int]: ...
    def close(self) -> None: ...


class HostMaps:
    """The maps pinned in folder `pins` (HostPlaces.maps), opened as they are needed. Any thread may call.

    Raises BpfError, Permanent (a map is absent, or of another shape).
    """

    def __init__(self, pins: Path) -> None:
        self._pins = pins
        self._fds: dict[str, int] = {}
        self._opening = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.popitem()[1])

    @property
    def least(self) -> int:
        return LRU_LEAST * libbpf.possible_cpus()

    def read(self, name: str) -> dict[bytes, bytes]:
        """Every entry as key -> value. A per-CPU map's values are sums of unsigned 64-bit counters, host's order."""
        fd, spec = self._open(name)
        if spec.type not in PERCPU:
            return dict(_entries(fd, spec.key_size, spec.value_size))
        cpus = libbpf.possible_cpus()
        form = struct.Struct(f"={cpus}Q")
        return {
            key: struct.pack("=Q", sum(form.unpack(value)) & (1 << 64) - 1)
            for key, value in _entries(fd, spec.key_size, form.size)
        }

    def put(self, name: str, rows: Rows) -> None:
        """Write the entries; others stay. A full map raises BpfError E2BIG."""
        fd, spec = self._open(name)
        _sized(name, rows, spec.key_size)
        _sized(name, rows.values(), spec.value_size)
        items = list(rows.items())
        for at in range(0, len(items), BATCH):
            part = items[at : at + BATCH]
            try:
                _put(fd, part)
            except BpfError as error:
                raise BpfError(f"write {len(part)} rows of {name}", error.code) from error

    def delete(self, name: str, keys: Iterable[bytes]) -> None:
        """Remove the entries; absent ones are fine."""
        fd, spec = self._open(name)
        wanted = list(keys)
        _sized(name, wanted, spec.key_size)
        _delete(fd, wanted)

    # --- flow tables and, beside each, one for the NAT pairs of services: inner maps by slot ---

    def flow_tables(self) -> dict[int, int]:
        """Slot -> size (entries) of every flow table there is. A NAT table without a flow table does not occur: it is
        made after it and dropped before it."""
        return self._sizes("flows")

    def ensure_flow_tables(self, entries: Mapping[int, int]) -> set[int]:
        """A flow table of that size in each slot, and a NAT table to go with it. One of another size is replaced, which
        costs its flows a query. Returns the slots where something was made."""
        nats = {slot: max(self.least, nat_entries(size)) for slot, size in entries.items()}
        made = self._ensure("flows", entries, FlowEntry.SIZE)
        return made | self._ensure("nats", nats, NatEntry.SIZE)

    def drop_flow_tables(self, slots: Iterable[int]) -> None:
        """Remove these slots' tables; absent is fine."""
        slots = set(slots)
        for name in ("nats", "flows"):
            self.delete(name, [_U32.pack(slot) for slot in slots & set(self._inner_ids(name))])

    def read_flows(self, slot: int) -> dict[bytes, bytes]:
        """A slot's flows, FlowKey -> FlowEntry; none when there is no table."""
        return self._read_inner("flows", slot, FlowEntry.SIZE)

    def find_flow(self, slot: int, key: bytes) -> bytes | None:
        """One flow's entry, or None."""
        return self._find_inner("flows", slot, key, FlowEntry.SIZE)

    def delete_flows(self, slot: int, keys: Iterable[bytes]) -> None:
        """Remove flows of a slot; absent ones are fine."""
        self._delete_inner("flows", slot, keys)

    def read_nats(self, slot: int) -> dict[bytes, bytes]:
        """A slot's NAT entries, FlowKey -> NatEntry; none when there is no table."""
        return self._read_inner("nats", slot, NatEntry.SIZE)

    def find_nat(self, slot: int, key: bytes) -> bytes | None:
        """One NAT entry, or None."""
        return self._find_inner("nats", slot, key, NatEntry.SIZE)

    def delete_nats(self, slot: int, keys: Iterable[bytes]) -> None:
        """Remove NAT entries of a slot; absent ones are fine."""
        self._delete_inner("nats", slot, keys)

    # --- what the programs counted ---

    def drops(self) -> dict[tuple[int, DropReason], int]:
        """(VNI, reason) -> packets dropped since the maps were made; VNI 0: not known, or the table was full."""
        return counted_drops(self.read("drops"))

    def counters(self) -> dict[Counter, int]:
        return counted_events(self.read("counters"))

    def _sizes(self, name: str) -> dict[int, int]:
        found = {}
        for slot, id_ in self._inner_ids(name).items():
            fd = libbpf.map_by_id(id_)
            if fd is not None:
                found[slot] = libbpf.map_info(fd).max_entries
                os.close(fd)
        return found

    def _ensure(self, name: str, entries: Mapping[int, int], value_size: int) -> set[int]:
        present = self._sizes(name)
        new = {slot: size for slot, size in entries.items() if present.get(slot) != size}
        made: dict[int, int] = {}
        try:
            for slot, size in new.items():
                made[slot] = libbpf.create_map(libbpf.LRU_HASH, f"{name[:-1]}_table", FlowKey.SIZE, value_size, size)
            # One batch: a change of the outer map waits for an RCU grace period (8 ms) however many slots it holds.
            self.put(name, {_U32.pack(slot): _U32.pack(fd) for slot, fd in made.items()})
        finally:
            for fd in made.values():
                os.close(fd)
        return set(new)

    def _read_inner(self, name: str, slot: int, value_size: int) -> dict[bytes, bytes]:
        with _Inner(self._inner_id(name, slot)) as fd:
            return {} if fd is None else dict(_entries(fd, FlowKey.SIZE, value_size))

    def _find_inner(self, name: str, slot: int, key: bytes, value_size: int) -> bytes | None:
        _sized(name, [key], FlowKey.SIZE)
        with _Inner(self._inner_id(name, slot)) as fd:
            return None if fd is None else elements.lookup(fd, key, value_size)

    def _delete_inner(self, name: str, slot: int, keys: Iterable[bytes]) -> None:
        wanted = list(keys)
        _sized(name, wanted, FlowKey.SIZE)
        with _Inner(self._inner_id(name, slot)) as fd:
            if fd is not None:
                _delete(fd, wanted)

    def _inner_id(self, name: str, slot: int) -> int | None:
        fd, _ = self._open(name)
        found = elements.lookup(fd, _U32.pack(slot), _U32.size)
        return _U32.unpack(found)[0] if found else None

    def _inner_ids(self, name: str) -> dict[int, int]:
        return {_U32.unpack(slot)[0]: _U32.unpack(id_)[0] for slot, id_ in self.read(name).items()}

    def _open(self, name: str) -> tuple[int, MapSpec]:
        spec = MAPS[name]
        with self._opening:
            if name not in self._fds:
                self._fds[name] = self._opened(name, spec)
            return self._fds[name], spec

    def _opened(self, name: str, spec: MapSpec) -> int:
        fd = libbpf.get(self._pins / name)
        if fd is None:
            raise Permanent(f"open map {name}: nothing is pinned at {self._pins / name}; is the agent running?")
        try:
            _check(name, spec, libbpf.map_info(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd


def nat_entries(flow_entries: int) -> int:
    """Size of the NAT table that goes with a flow table of this size."""
    return max(LRU_LEAST, flow_entries // 4)


class _Inner:
    """Descriptor of a map by id for the length of a block; None for no id or a map that is gone."""

    def __init__(self, id_: int | None) -> None:
        self._id, self._fd = id_, None if id_ is None else libbpf.map_by_id(id_)

    def __enter__(self) -> int | None:
        return self._fd

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)


def counted_drops(rows: Rows) -> dict[tuple[int, DropReason], int]:
    """Entries of map `drops` as (VNI, reason) -> packets. The programs keep rows where nothing was counted yet."""
    found = {}
    for raw, value in rows.items():
        key, (number,) = DropKey.unpack(raw), struct.unpack("=Q", value)
        if number:
            found[key.vni, DropReason(key.reason)] = number
    return found


def counted_events(rows: Rows) -> dict[Counter, int]:
    """Entries of map `counters` as counter -> events."""
    return {Counter(_U32.unpack(key)[0]): struct.unpack("=Q", value)[0] for key, value in rows.items()}


def _check(name: str, spec: MapSpec, found: libbpf.MapInfo) -> None:
    wrong = [
        f"{what} {have} instead of {want}"
        for what, have, want in (
            ("type", found.type, spec.type),
            ("key size", found.key_size, spec.key_size),
            ("value size", found.value_size, spec.value_size),
            ("flags", found.flags, spec.flags),
        )
        if have != want
    ]
    if wrong:
        raise Permanent(
            f"open map {name}: it has another shape than these programs: {', '.join(wrong)}; "
            "it was made by another version"
        )


def _sized(name: str, parts: Iterable[bytes], size: int) -> None:
    for part in parts:
        if len(part) != size:
            raise Permanent(f"use map {name}: {len(part)} bytes ({part.hex()}) instead of {size}")


def _entries(fd: int, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
    """Every entry. Batched where the map can; an entry that moves meanwhile may come twice or, changed, not at all."""
    position: bytes | None = None
    count, first = BATCH, True
    while first or position is not None:
        try:
            rows, position = elements.lookup_batch(fd, position, key_size, value_size, count)
        except BpfError as error:
            if error.code == errno.ENOSPC:
                count *= 2
                continue
            if first and error.code in _NO_BATCH:
                yield from _walk(fd, key_size, value_size)
                return
            raise
        first = False
        yield from rows


def _walk(fd: int, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
    key = elements.next_key(fd, None, key_size)
    while key is not None:
        value = elements.lookup(fd, key, value_size)
        if value is not None:
            yield key, value
        key = elements.next_key(fd, key, key_size)


def _put(fd: int, items: list[tuple[bytes, bytes]]) -> None:
    try:
        if len(items) > 1:
            elements.update_batch(fd, b"".join(k for k, _ in items), b"".join(v for _, v in items), len(items))
            return
    except BpfError as error:
        if error.code not in _NO_BATCH:
            raise
    for key, value in items:
        elements.update(fd, key, value)


def _delete(fd: int, keys: list[bytes]) -> None:
    at = 0
    while len(keys) - at > 1:
        try:
            done = elements.delete_batch(fd, b"".join(keys[at : at + BATCH]), len(keys[at : at + BATCH]))
        except BpfError as error:
            if error.code not in _NO_BATCH:
                raise
            break
        at += BATCH if done is None else done + 1
    for key in keys[at:]:
        elements.delete(fd, key)
