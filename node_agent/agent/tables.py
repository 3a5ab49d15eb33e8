"""What this host's maps hold and should hold: the pure rows of `rows.host`, carried out on real maps.

Called by `host` for events and by `endpoints` for ADD and DEL. One lock over the desired image and its writing, so that
steps of two threads never interleave; readers of packets never wait for it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from node_agent.datapath.layout import DropKey, EgressRow, FlowEntry, FlowKey, NatEntry
from node_agent.datapath.library import BpfError
from node_agent.datapath.maps import Maps
from node_agent.model.errors import MizarError
from node_agent.model.objects import NetworkEndpoint, NetworkService, Subnet, Vpc, concerns
from node_agent.rows import slots
from node_agent.rows.diff import PUT_ORDER, Change, diff
from node_agent.rows.endpoints import Port
from node_agent.rows.host import Desired, Known, World
from node_agent.rows.image import MapImage, mapped, number


class Tables:
    """The maps of one host. `flow_entries`: size of each VPC's flow table. Any thread may call; raises BpfError."""

    def __init__(self, host: str, maps: Maps, flow_entries: int) -> None:
        self._host, self._maps, self._flow_entries = host, maps, flow_entries
        self._lock = threading.RLock()
        self._config: MapImage = {}
        self._desired = Desired(World(host))
        self.version = 0  # rises with every change of what is known
        self._own: dict[str, NetworkEndpoint] = {}  # of the known endpoints, those that concern this host
        self._awaited: dict[int, int] = {}  # VNI -> how many endpoints of it are being made
        self._adopted = False  # before that nothing is written: the maps are right, we do not know yet why
        self.suspect = False  # a step failed half-way: the maps must be compared before the next one
        self.failed = ""  # why it failed, until the maps are right again

    @property
    def world(self) -> World:
        """What is known, for looking up single objects; `reading` is for going through it."""
        return self._desired.world

    @contextlib.contextmanager
    def reading(self) -> Iterator[World]:
        """What is known, unchanged during the block; keep no part of it."""
        with self._lock:
            yield self._desired.world

    def own(self) -> tuple[NetworkEndpoint, ...]:
        """The endpoints that this host has, is to have, or had until just now."""
        with self._lock:
            return tuple(self._own[name] for name in sorted(self._own))

    def configure(self, config: MapImage) -> None:
        """The `config` row and what is `listed`, before anything else: the programs drop everything without it."""
        with self._lock:
            self._config = config
            self._perform(diff({name: self._maps.read(name) for name in ("config", "listed")}, config))

    def adopt(self) -> list[Change]:
        """Go on from what an earlier run left in the maps: keep its flow tables, mend what differs, remove what
        nothing asks for. Returns the steps taken. Until then events only fill the desired image."""
        with self._lock:
            have = self._read()
            world = replace(self.world, slots=slots.read(have.get("vpcs", {})))
            self._desired = Desired(world)
            self._ensure_tables()
            changes = diff(have, self._wanted())
            with self._failing():
                self._perform(changes)
                self._maps.drop_flow_tables(set(self._maps.flow_tables()) - set(self.world.slots.values()))
            self._adopted = True
            return changes

    def put(self, *objects: Known) -> list[Change]:
        """Objects are new or changed; an older version of a known one is ignored. Returns the steps taken."""
        with self._lock:
            news = [obj for obj in objects if self._is_news(obj)]
            return self._settle(lambda: [c for obj in news for c in self._take(obj)]) if news else []

    def gone(self, kind: str, name: str, uid: str = "") -> list[Change]:
        """The object is no more, or no concern of this host's; with a uid: unless the name is another's by now, whom
        a request made meanwhile. Returns the steps taken."""
        with self._lock:
            known = self._find(kind, name)
            if uid and known and known.meta.uid != uid:
                return []
            return self._settle(lambda: self._forget(kind, name))

    def link(self, name: str, port: Port | None) -> list[Change]:
        """The endpoint's veth is here, or is here no more (None)."""
        return self._settle(lambda: self._desired.link(name, port))

    def expect(self, vpc: Vpc) -> None:
        """An endpoint of the VPC is about to be here: its flow table is made, which takes long. To be followed by
        `expected`, whatever became of it."""
        with self._lock:
            self._awaited[vpc.status.vni] = self._awaited.get(vpc.status.vni, 0) + 1
            self.put(vpc)
            self._settle(lambda: self._desired.wait_for(self._awaited))

    def expected(self, vpc: Vpc) -> None:
        """The flow table is needed by endpoints that are here, and no more by this one that was expected."""
        with self._lock:
            left = self._awaited.pop(vpc.status.vni, 1) - 1
            if left:
                self._awaited[vpc.status.vni] = left
            self._settle(lambda: self._desired.wait_for(self._awaited))

    def know(self, listed: Iterable[tuple[str, str]], stale: Iterable[str]) -> list[Change]:
        """Which lists of objects are complete, and which are old."""
        listed, stale = frozenset(listed), frozenset(stale)
        if (listed, stale) == (self.world.listed, self.world.stale):
            return []
        return self._settle(lambda: self._desired.know(listed, stale))

    def verify(self) -> list[Change]:
        """Compare the maps with what they should hold and mend them. Returns what had to be mended."""
        with self._lock:
            if not self._adopted:
                return []
            missing = self._ensure_tables()
        if not (self.suspect or missing or self._apart()):
            return []
        with self._lock:
            changes = diff(self._read(), self._wanted())
            with self._failing():
                self._perform(changes)
                self._maps.drop_flow_tables(set(self._maps.flow_tables()) - set(self.world.slots.values()))
            return changes + [Change("put", "flows", {slot.to_bytes(4, "little"): b""}) for slot in sorted(missing)]

    def differences(self) -> list[str]:
        """What `verify` would mend, one sentence each. Changes nothing."""
        if not self._apart():
            return []
        with self._lock:
            return self._apart()

    def tidy(self) -> None:
        """Forget what was counted of VPCs that are no more: their numbers do not come back, and the room is others'."""
        with self._lock:
            known = {0, *(vpc.status.vni for vpc in self.world.vpcs.values())}
        gone = [raw for raw in self._maps.read("drops") if DropKey.unpack(raw).vni not in known]
        self._maps.delete("drops", gone)

    def purge_flows(self, vni: int, address: str) -> None:
        """Forget every flow of this address, with or without a service, and every open question about it."""
        addr, short = mapped(address), number(address)
        network = short.to_bytes(4)

        def about(keys: Collection[bytes]) -> list[bytes]:
            # Nearly all are others': those are not worth unpacking.
            found = ((raw, FlowKey.unpack(raw)) for raw in keys if addr in raw)
            return [raw for raw, key in found if key.vni == vni and addr in (key.src, key.dst)]

        def through(nats: Mapping[bytes, bytes]) -> list[bytes]:
            """Also those that only turn into it, or that it answers under another name."""
            entries = ((raw, NatEntry.unpack(value)) for raw, value in nats.items() if network in value)
            named = {raw for raw, n in entries if short in (n.src, n.dst, n.flow[0].vip)}
            return [raw for raw in nats if raw in named and FlowKey.unpack(raw).vni == vni] + about(nats.keys() - named)

        with self._lock:
            slot = self.world.slots.get(vni, 0)
            if slot:
                self._maps.delete_flows(slot, about(self._maps.read_flows(slot)))
                self._maps.delete_nats(slot, through(self._maps.read_nats(slot)))
            self._maps.delete("asked", about(self._maps.read("asked")))
            egress = self._maps.read("egress").items()
            ways_back = ((raw, EgressRow.unpack(value)) for raw, value in egress if network in value)
            self._maps.delete("egress", [raw for raw, row in ways_back if (row.vni, row.endpoint) == (vni, short)])

    def take_flow(self, key: FlowKey) -> FlowEntry | None:
        """The entry of this flow, which is removed; None: there is none."""
        slot, raw = self.world.slots.get(key.vni, 0), key.pack()
        found = self._maps.find_flow(slot, raw) if slot else None
        if found is None:
            return None
        self._maps.delete_flows(slot, [raw])
        return FlowEntry.unpack(found)

    def bounces(self, endpoint: NetworkEndpoint) -> bool:
        """Whether this host itself, as a bouncer, knows where the endpoint lives."""
        with self._lock:
            return bool(self._adopted and not self.suspect and self._desired.rows_of(endpoint).get("endpoints"))

    # --- inside ---

    def _apart(self) -> list[str]:
        """Where maps and rows differ, one sentence each; without the lock, also where they are just being changed."""
        with self._lock:
            if not self._adopted:
                return []
            wanted, slots_wanted = self._wanted(), set(self.world.slots.values())
        there = self._maps.flow_tables()
        missing = [slot for slot in slots_wanted if there.get(slot) != self._flow_entries]
        found = [f"rows differ: {change} is wanting" for change in diff(self._read(), wanted)]
        return found + [f"flow table {slot} is missing" for slot in sorted(missing)]

    def _settle(self, event: Callable[[], list[Change]]) -> list[Change]:
        with self._lock:
            before = set(self.world.slots.values())
            changes = event()  # first of all: it is told once
            self.version += 1
            if not self._adopted:
                return []
            if self.suspect:
                self.verify()
                return changes
            after = set(self.world.slots.values())
            with self._failing():
                if after - before:
                    self._ensure_tables()
                self._perform(changes)
                if before - after:
                    self._maps.drop_flow_tables(before - after)
            return changes

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """The maps are right once the block has ended well."""
        self.suspect = True
        try:
            yield
        except MizarError as error:
            self.failed = str(error)
            raise
        self.suspect, self.failed = False, ""

    def _take(self, obj: Known) -> list[Change]:
        if isinstance(obj, NetworkEndpoint):
            if concerns(obj, self._host):
                self._own[obj.name] = obj
            else:
                self._own.pop(obj.name, None)
        return self._desired.put(obj)

    def _forget(self, kind: str, name: str) -> list[Change]:
        if kind == NetworkEndpoint.kind:
            self._own.pop(name, None)
        return self._desired.gone(kind, name)

    def _find(self, kind: str, name: str) -> Known | None:
        known: dict[str, Mapping[str, Known]] = {
            Vpc.kind: self.world.vpcs,
            Subnet.kind: self.world.subnets,
            NetworkEndpoint.kind: self.world.endpoints,
            NetworkService.kind: self.world.services,
        }
        return known[kind].get(name)

    def _is_news(self, obj: Known) -> bool:
        known = self._find(obj.kind, obj.name)
        return (
            known is None or known.meta.uid != obj.meta.uid or known.meta.resource_version < obj.meta.resource_version
        )

    def _ensure_tables(self) -> set[int]:
        return self._maps.ensure_flow_tables(dict.fromkeys(self.world.slots.values(), self._flow_entries))

    def _perform(self, changes: Sequence[Change]) -> None:
        for at, change in enumerate(changes):
            try:
                self._step(change)
            except BpfError:
                if change.verb == "delete":
                    raise
                # The table may be full of what is to go: that first, and then once more.
                left = changes[at:]
                for later in [*(c for c in left if c.verb == "delete"), *(c for c in left if c.verb == "put")]:
                    self._step(later)
                return

    def _step(self, change: Change) -> None:
        if change.verb == "put":
            self._maps.put(change.map, change.rows)
        else:
            self._maps.delete(change.map, change.rows)

    def _wanted(self) -> MapImage:
        return {**self._desired.image(), **self._config}

    def _read(self) -> MapImage:
        return {name: self._maps.read(name) for name in PUT_ORDER}
