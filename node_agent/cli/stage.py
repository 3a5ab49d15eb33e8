"""One host's programs on a stage: loaded a second time, so that a test run leaves nothing in the live maps.

The maps that the agent writes are the live ones: programs only read them, and a million endpoints need no copy. Every
map that programs write is made anew, with a copy of what the live one holds about the traced endpoint. The pins that
tie them together exist only while the programs are loaded, in a folder that names the process; `swept` removes what a
killed one left. TC programs run in a namespace of their own, with nothing but a loopback device: what they might really
send, the copies of packets that ask about old entries, ends there.

Called by `trace`.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from node_agent.cli.flows import configured, dotted
from node_agent.datapath import inner, libbpf, programs
from node_agent.datapath.layout import (
    MAPS,
    AskedEntry,
    AskedState,
    BouncerKey,
    BouncerState,
    BudgetKey,
    Config,
    Counter,
    DropReason,
    FlowKey,
    PortKey,
    PortRow,
    SubnetKey,
    SubnetRow,
    VpcKey,
    VpcRow,
)
from node_agent.datapath.maps import HostMaps
from node_agent.kernel import netns
from node_agent.model.errors import Permanent
from node_agent.model.places import HostPlaces, StackPlaces
from node_agent.rows import slots

PRIVATE = frozenset(
    {"asked", "bouncers", "budgets", "counters", "drops", "egress", "flows", "fragments", "nats", "ports"}
)
"""Maps that are made anew: those that programs write, and `ports`, whose one row names the stage's own device."""

SHARED = frozenset(
    {
        "backends", "config", "endpoints", "listed", "locals", "maglev", "routes", "services", "serving", "subnets",
        "vpcs",
    }
)  # fmt: skip
"""Maps that programs only read. A test keeps the two sets complete: a new map must be put into one of them."""

LOOPBACK = 1
_ROOM = 256  # entries of a private flow table besides the copied ones
_SKB = struct.Struct("=40xI148x")  # struct __sk_buff: ifindex
_OUTER = ("flows", "nats")


@dataclass(frozen=True)
class Snapshot:
    """What the private maps hold."""

    counters: Mapping[Counter, int] = field(default_factory=dict)
    drops: Mapping[tuple[int, DropReason], int] = field(default_factory=dict)
    flows: Mapping[bytes, bytes] = field(default_factory=dict)
    nats: Mapping[bytes, bytes] = field(default_factory=dict)
    asked: Mapping[bytes, bytes] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    """Underlay addresses of bouncers that were given up because they do not answer."""


@dataclass(frozen=True)
class Traced:
    """Whose packet: the VNI and the mapped address of the sender."""

    vni: int
    addr: bytes


class Stage:
    """The programs of one host, ready to run. `close` lets go of all of it."""

    def __init__(self, places: StackPlaces, host: str, folder: Path, bare: Path, traced: Traced) -> None:
        """`folder`: on the stack's bpffs, not there yet; `bare`: path of an empty network namespace. Raises
        MizarError."""
        self.host, self._namespace, self._bare, self._traced = host, places.netns_path(host), bare, traced
        self.agent = configured(places, host)
        self._resources = contextlib.ExitStack()
        try:
            self._set_up(places.host(host), folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._resources.close()

    def run(self, program: str, frame: bytes) -> libbpf.TestResult:
        """One run of that program over an Ethernet frame."""
        # XDP asks the kernel for the way to another host, so it needs the host's routes; it sends no copies.
        xdp = program == programs.TRANSIT_XDP
        with netns.enter(self._namespace if xdp else self._bare):
            return libbpf.test_run(self._programs[program], frame, b"" if xdp else _SKB.pack(LOOPBACK))

    def snapshot(self) -> Snapshot:
        flows, nats = (inner.rows(self._inner[outer], outer) if outer in self._inner else {} for outer in _OUTER)
        states = ((key, BouncerState.unpack(value)) for key, value in self._maps.read("bouncers").items())
        silent = frozenset(dotted(BouncerKey.unpack(key).host) for key, state in states if state.dead)
        return Snapshot(self._maps.counters(), self._maps.drops(), flows, nats, self._maps.read("asked"), silent)

    def wait(self) -> None:
        """Open questions are as old as they must be for another bouncer to be asked."""
        older = self.config.pending + 1
        for key, value in self._maps.read("asked").items():
            entry = AskedEntry.unpack(value)
            if entry.state == AskedState.PENDING:
                aged = replace(entry, since=entry.since - older & 0xFFFFFFFF)
                self._maps.put("asked", {key: aged.pack()})

    # --- inside ---

    def _set_up(self, host: HostPlaces, folder: Path) -> None:
        with HostMaps(host.maps) as live:
            self.config = Config.unpack(live.read("config")[bytes(4)])
            self.slot = slots.read(live.read("vpcs")).get(self._traced.vni, 0)
            port = self._port(live)
            self.sender = PortRow.unpack(port[1]) if port else None
            self.device = PortKey.unpack(port[0]).ifindex if port else 0
            self.bouncers = self._bouncers(live) if port else ()
            with netns.enter(self._namespace):
                state = programs.xdp_state(self.config.uplink)
            self.arrival = programs.TRANSIT_XDP if state else programs.TRANSIT_TC
            try:
                self._load(host, folder)
            finally:
                remove(folder)
            self._copy(host, live, port)

    def _port(self, live: HostMaps) -> tuple[bytes, bytes] | None:
        """The row of the sender's device, on the sender's host."""
        for key, value in live.read("ports").items():
            row = PortRow.unpack(value)
            if (row.vni, row.addr) == (self._traced.vni, self._traced.addr):
                return key, value
        return None

    def _load(self, host: HostPlaces, folder: Path) -> None:
        source = Path(self.agent.bpf_objects)
        if not (host.pins / "progs" / programs.digest(source)).is_dir():
            raise Permanent(
                f"trace on {host.host}: the programs in {source} are not those that it runs; `make up` loads them"
            )
        folder.mkdir(mode=0o700, parents=True)
        sizes = {}
        for name in SHARED & set(MAPS):
            with inner.pinned(host.maps, name) as fd:
                libbpf.pin(fd, folder / name)
                sizes[name] = libbpf.map_info(fd).max_entries
        self._programs: dict[str, int] = {}
        for file, members in programs.OBJECTS.items():
            loaded = self._resources.enter_context(libbpf.load(source / file, folder, sizes))
            self._programs |= {name: loaded.program(name) for name in members}
        self.tags = {name: libbpf.program_info(fd).tag for name, fd in self._programs.items()}
        self._maps = self._resources.enter_context(HostMaps(folder))
        for name in PRIVATE:
            self._maps.read(name)  # opened now, while it has a name

    def _copy(self, host: HostPlaces, live: HostMaps, port: tuple[bytes, bytes] | None) -> None:
        """What the live maps hold about the sender, into the private ones."""
        if port:
            self._maps.put("ports", {PortKey(ifindex=LOOPBACK).pack(): port[1]})
        self._maps.put("bouncers", live.read("bouncers"))
        self._maps.put("asked", {k: v for k, v in live.read("asked").items() if self._about(k)})
        self._maps.put("budgets", self._budgets(live))
        # Others' rows too: their ports are not free.
        self._maps.put("egress", live.read("egress"))
        self._inner: dict[str, int] = {}
        for outer in _OUTER if self.slot else ():
            with inner.tables(host.maps, outer) as there:
                if self.slot not in there:
                    continue  # no table means "ask", on stage as in life
                content = {k: v for k, v in inner.rows(there[self.slot], outer).items() if self._about(k)}
            fd = inner.table(outer, len(content) + _ROOM, content)
            self._resources.callback(os.close, fd)
            self._maps.put(outer, {struct.pack("=I", self.slot): struct.pack("=I", fd)})
            self._inner[outer] = fd

    def _bouncers(self, live: HostMaps) -> tuple[str, ...]:
        """Underlay addresses of the bouncers of the sender's subnet that may be asked."""
        assert self.sender is not None
        subnet = live.read("subnets").get(SubnetKey(vni=self._traced.vni, subnet=self.sender.subnet).pack())
        vpc = live.read("vpcs").get(VpcKey(vni=self._traced.vni).pack())
        if not subnet or not vpc:
            return ()
        row = VpcRow.unpack(vpc)
        mask = SubnetRow.unpack(subnet).bouncers & row.ask
        return tuple(dotted(member) for place, member in enumerate(row.members) if mask >> place & 1)

    def _budgets(self, live: HostMaps) -> dict[bytes, bytes]:
        found = {}
        for raw, value in live.read("budgets").items():
            key = BudgetKey.unpack(raw)
            if key.host:
                found[raw] = value
            elif self.device and key.id == self.device:
                found[BudgetKey(host=0, id=LOOPBACK).pack()] = value
        return found

    def _about(self, raw: bytes) -> bool:
        key = FlowKey.unpack(raw)
        return key.vni == self._traced.vni and self._traced.addr in (key.src, key.dst)


@contextlib.contextmanager
def scratch(places: StackPlaces) -> Iterator[tuple[Path, Path]]:
    """(a folder's path on the stack's bpffs for this process, path of an empty network namespace), for the block."""
    swept(places)
    name = f"trace_{os.getpid()}"  # no host has a name with "_"
    folder, mount = places.bpffs / name, places.netns_path(name)
    with contextlib.ExitStack() as resources:
        resources.callback(_remove_all, folder)
        try:
            netns.create(mount)
            held = resources.enter_context(netns.opened(mount))
        finally:
            netns.delete(mount)  # the descriptor keeps it, and ends with this process
        yield folder, Path(f"/proc/self/fd/{held}")


def swept(places: StackPlaces) -> None:
    """Remove what traces left that were killed."""
    marked = [*places.bpffs.glob("trace_*"), *netns.listed(places.netns("trace_"), places.netns_path("x").parent)]
    for path in marked:
        if not Path("/proc", path.name.rpartition("_")[2]).exists():
            if path.is_dir():
                _remove_all(path)
            else:
                netns.delete(path)


def remove(folder: Path) -> None:
    """Unpin everything in the folder, and the folder; absent is success."""
    if folder.is_dir():
        for pin in folder.iterdir():
            pin.unlink(missing_ok=True)
        folder.rmdir()


def _remove_all(folder: Path) -> None:
    if folder.is_dir():
        for host in folder.iterdir():
            remove(host)
        folder.rmdir()
