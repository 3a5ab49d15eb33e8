"""A host's maps without a kernel: the contract of datapath.maps.Maps. `str(maps)` is their content, one row a line."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable, Mapping

from node_agent.datapath.layout import MAPS, Counter, DropReason, FlowEntry, FlowKey, NatEntry
from node_agent.datapath.library import BpfError
from node_agent.datapath.maps import counted_drops, counted_events, nat_entries
from node_agent.datapath.record import Record
from node_agent.model.errors import MizarError, Permanent
from node_agent.rows.diff import PUT_ORDER


class FakeMaps:
    """`steps`: every call that changed something, as "put 2 of locals". `fail`: errors to raise, one per such call.
    `room`: entries that a map has, where a test wants fewer than there are.

    `before` is called ahead of every step, with its text: where a test kills the agent.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict[bytes, bytes]] = {name: {} for name in MAPS if name not in ("flows", "nats")}
        self.rows["config"][bytes(4)] = bytes(MAPS["config"].value_size)
        self.flows: dict[int, dict[bytes, bytes]] = {}
        self.nats: dict[int, dict[bytes, bytes]] = {}
        self.sizes: dict[int, int] = {}
        self.nat_sizes: dict[int, int] = {}
        self.steps: list[str] = []
        self.fail: list[MizarError] = []
        self.room: dict[str, int] = {}
        self.least = 0
        self.before: Callable[[str], None] = lambda step: None

    def read(self, name: str) -> dict[bytes, bytes]:
        return dict(self.rows[name])

    def put(self, name: str, rows: Mapping[bytes, bytes]) -> None:
        spec = MAPS[name]
        for key, value in rows.items():
            if (len(key), len(value)) != (spec.key_size, spec.value_size):
                raise Permanent(f"use map {name}: {len(key)} and {len(value)} bytes")
        self._step(f"put {len(rows)} of {name}")
        if len(self.rows[name].keys() | rows.keys()) > self.room.get(name, spec.max_entries):
            raise BpfError(f"write {len(rows)} rows of {name}", errno.E2BIG)
        self.rows[name].update(rows)

    def delete(self, name: str, keys: Iterable[bytes]) -> None:
        wanted = [key for key in keys if key in self.rows[name]]
        if wanted and name != "config":
            self._step(f"delete {len(wanted)} of {name}")
            for key in wanted:
                del self.rows[name][key]

    def flow_tables(self) -> dict[int, int]:
        return dict(self.sizes)

    def ensure_flow_tables(self, entries: Mapping[int, int]) -> set[int]:
        made = set()
        for slot, size in entries.items():
            if self.sizes.get(slot) != size:
                self._step(f"make flow table {slot}")
                self.sizes[slot], self.flows[slot] = size, {}
                made.add(slot)
            if self.nat_sizes.get(slot) != nat_entries(size):
                self._step(f"make NAT table {slot}")
                self.nat_sizes[slot], self.nats[slot] = nat_entries(size), {}
                made.add(slot)
        return made

    def drop_flow_tables(self, slots: Iterable[int]) -> None:
        for slot in slots:
            if slot in self.nat_sizes:
                self._step(f"drop NAT table {slot}")
                del self.nat_sizes[slot], self.nats[slot]
            if slot in self.sizes:
                self._step(f"drop flow table {slot}")
                del self.sizes[slot], self.flows[slot]

    def read_flows(self, slot: int) -> dict[bytes, bytes]:
        return dict(self.flows.get(slot, {}))

    def find_flow(self, slot: int, key: bytes) -> bytes | None:
        return self.flows.get(slot, {}).get(key)

    def delete_flows(self, slot: int, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.flows.get(slot, {}).pop(key, None)

    def read_nats(self, slot: int) -> dict[bytes, bytes]:
        return dict(self.nats.get(slot, {}))

    def find_nat(self, slot: int, key: bytes) -> bytes | None:
        return self.nats.get(slot, {}).get(key)

    def delete_nats(self, slot: int, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.nats.get(slot, {}).pop(key, None)

    def learn(self, slot: int, key: FlowKey, entry: FlowEntry) -> None:
        """What a program does when a verdict arrives; without a table, nothing."""
        if slot in self.flows:
            self.flows[slot][key.pack()] = entry.pack()

    def drops(self) -> dict[tuple[int, DropReason], int]:
        return counted_drops(self.rows["drops"])

    def counters(self) -> dict[Counter, int]:
        return counted_events(self.rows["counters"])

    def close(self) -> None:
        """Nothing is held."""

    def image(self) -> dict[str, dict[bytes, bytes]]:
        """The maps that the agent writes and that are not empty."""
        return {name: dict(self.rows[name]) for name in PUT_ORDER if self.rows[name]}

    def __str__(self) -> str:
        lines = [
            f"{name}: {_text(MAPS[name].key, key)} -> {_text(MAPS[name].value, value)}"
            for name, rows in sorted(self.rows.items())
            for key, value in sorted(rows.items())
        ]
        lines += [
            f"flows {slot}: {_text(FlowKey, key)} -> {_text(FlowEntry, value)}"
            for slot, rows in sorted(self.flows.items())
            for key, value in sorted(rows.items())
        ]
        lines += [
            f"nats {slot}: {_text(FlowKey, key)} -> {_text(NatEntry, value)}"
            for slot, rows in sorted(self.nats.items())
            for key, value in sorted(rows.items())
        ]
        return "\n".join(lines) or "(empty)"

    def _step(self, text: str) -> None:
        self.before(text)
        if self.fail:
            raise self.fail.pop(0)
        self.steps.append(text)


def _text(cls: type[Record] | None, raw: bytes) -> str:
    if cls is None:
        return str(struct.unpack("=I", raw)[0]) if len(raw) == 4 else raw.hex()
    record = cls.unpack(raw)
    shown = ((field.name, getattr(record, field.name)) for field in cls.FIELDS)
    return " ".join(f"{name}={value.hex() if isinstance(value, bytes) else value}" for name, value in shown)
