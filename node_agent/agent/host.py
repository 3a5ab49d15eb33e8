"""The agent of one host: a loop that reads the store, computes rows and writes maps, and looks after its programs.

`__main__` runs one per process; many may live in one, since nothing here is global. Stopping it, or killing it at any
moment, changes no packet: it detaches nothing, and what it wrote stays pinned.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from node_agent.agent import status
from node_agent.agent.beside import Beside, threaded
from node_agent.agent.endpoints import Endpoints
from node_agent.agent.intent import Intent
from node_agent.agent.kernel import Kernel, Uplink
from node_agent.agent.log import Log
from node_agent.agent.outside import Outlet
from node_agent.agent.refusals import refusal
from node_agent.agent.tables import Tables
from node_agent.cni import protocol
from node_agent.cni.protocol import Reply, Request
from node_agent.datapath.maps import Maps
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid, MizarError, NotFound, Temporary
from node_agent.model.objects import NetworkHost, NetworkHostStatus, ProgramStatus
from node_agent.rows.config import config_rows
from node_agent.rows.image import merged
from node_agent.rows.listed import listed_rows
from node_agent.store.base import Store

TURN = 0.05  # seconds between two looks at the store, when it does not wake us
BREATH = 0.005  # seconds between two looks at least: what comes at once is taken in at once
CHECK_EVERY = 10.0
HEARTBEAT_EVERY = 2.0


@dataclass(frozen=True)
class Clock:
    """Time as the agent uses it, and what happens in it at once. `wall`: seconds since the epoch."""

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    beside: Beside = threaded


class HostAgent:
    """`start` once, then `run`, or `turn` as often as one likes; `handle` answers requests from any thread."""

    def __init__(
        self, config: AgentConfig, store: Store, maps: Maps, kernel: Kernel, log: Log, clock: Clock | None = None
    ) -> None:
        self._config, self._store, self._kernel, self._log = config, store, kernel, log
        self._clock = clock or Clock()
        self._tables = Tables(config.host, maps, max(config.flow_entries, maps.least))
        self._news = threading.Event()
        self._intent = Intent(config.host, store, self._tables, self._clock.monotonic, self._news.set)
        self._endpoints: Endpoints | None = None
        self._told: tuple[Uplink, Outlet] | None = None  # what the programs know of the ways out of this host
        self._checking = threading.Lock()
        self._synced = self._checked = False
        self._check_at = self._beat_at = self._tell_at = float("-inf")
        self._problems: dict[str, list[str]] = {}
        self._programs: tuple[ProgramStatus, ...] = ()
        self._empty = True  # the maps that the loaded programs share
        self._attended = ""  # the endpoint that was attended to last
        self._rows: dict[str, int] = {}
        self._rows_at = -1  # version of the tables that `_rows` speaks of
        self._said: NetworkHostStatus | None = None

    def start(self) -> None:
        """Programs loaded and told who this host is. Raises Invalid when the host cannot carry the tunnel."""
        self._kernel.check_world()
        self._empty = self._kernel.load()
        self._tell_uplink()
        self._endpoints = Endpoints(
            self._config,
            self._store,
            self._tables,
            self._kernel,
            self._log,
            monotonic=self._clock.monotonic,
            sleep=self._clock.sleep,
            beside=self._clock.beside,
        )
        self._log.info("started", mode=self._config.mode, uplink=self._config.uplink, pid=os.getpid())

    def run(self, stop: threading.Event) -> None:
        """Turns until `stop` is set. Store and kernel may fail at any time; it goes on."""
        # What bouncers are told must not wait for a look at every device and row.
        threading.Thread(target=self._look_after, args=(stop,), name="check", daemon=True).start()
        while not stop.wait(BREATH):
            self._news.wait(TURN)
            self._news.clear()  # before the look: news that come meanwhile are worth another one
            now = self._clock.monotonic()
            self.turn(tell=now >= self._tell_at, check=not self._checked)

    def turn(self, *, tell: bool = True, check: bool = True) -> None:
        """One look at the store, and whatever is due. `tell`: the store too, of what is new here; `check`: programs,
        rows and devices too."""
        now = self._clock.monotonic()
        with self._noting("store"):
            self._read()
        if check and now >= self._check_at:
            self._check_at = now + CHECK_EVERY
            self.check()
        if tell:
            self._tell_at = now + TURN
            self._beat(now)

    def check(self) -> list[str]:
        """Programs and rows are as they should be, or are put back. Returns what is wrong and stays wrong."""
        with self._checking:
            with self._noting("programs"):
                self._ensure_programs()
            with self._noting("rows"):
                if self._synced and self._endpoints:
                    for what in self._endpoints.adopt():
                        self._log.warning("devices put right", what=what)
                for change in self._tables.verify():
                    self._log.warning("rows put back", what=str(change))
                if self._synced:
                    self._tables.tidy()
            with self._noting("containers"):
                if self._synced and self._endpoints:
                    for name in self._endpoints.collect():
                        self._log.warning("endpoint without a device removed", endpoint=name)
            with self._noting("uplink"):
                self._programs = self._kernel.programs()
                self._problems["uplink state"] = self._kernel.uplink_problems()
                if self._tell_uplink():
                    self._log.warning("uplink changed", now=str(self._told))
        self._checked = True
        return self.problems()

    def inspect(self) -> list[str]:
        """What is wrong now, and what `check` would put back, one sentence each. Changes nothing, repairs nothing."""
        looks = [self._kernel.differences, self._kernel.uplink_problems, self._untold, self._tables.differences]
        looks += [self._endpoints.differences] if self._endpoints else []
        with self._checking:
            found = [said for what in ("store", "status") for said in self._problems.get(what, ())]
            for look in looks:
                try:
                    found += look()
                except MizarError as error:
                    found.append(str(error))
        return found

    def problems(self) -> list[str]:
        """What is wrong now, one sentence each."""
        found = [said for _, group in sorted(self._problems.items()) for said in group]
        return list(dict.fromkeys([*found, *filter(None, [self._tables.failed])]))

    def handle(self, request: Request) -> Reply:
        """Answer one request; errors become the protocol's codes."""
        try:
            return self._handle(request)
        except MizarError as error:
            reply = refusal(error)
            if reply.code == protocol.FAILED:
                self._log.error("request failed", verb=request.verb, container=request.container_id, error=str(error))
            return reply

    def close(self) -> None:
        """Let go of the store. Nothing in the kernel changes."""
        self._intent.close()

    # --- inside ---

    def _look_after(self, stop: threading.Event) -> None:
        """Check now and then, after the first time."""
        while not stop.wait(CHECK_EVERY):
            try:
                if self._checked:
                    self.check()
            except Exception:  # a mistake of ours must not end all looking after
                self._log.error("check broke", error=traceback.format_exc())

    def _handle(self, request: Request) -> Reply:
        # Until the first check, what an earlier agent left may differ, and is about to be put right.
        if self._endpoints is None or not self._synced or not self._checked:
            reasons = "; ".join(self.problems()) or "it has not read the store yet"
            raise Temporary(f"{request.verb}: the agent of {self._config.host} is starting: {reasons}")
        match request.verb:
            case "ADD":
                return self._endpoints.add(request)
            case "DEL":
                return self._endpoints.delete(request)
            case "CHECK":
                return self._endpoints.check(request)
            case "STATUS":
                return _healthy(self.inspect(), cut_off=self._cut_off())
            case "GC":
                raise Invalid(["verb: GC is of a CNI network, and this request names none"])
            case "REPAIR":
                return _healthy(self.check(), cut_off=self._cut_off())

    def _cut_off(self) -> bool:
        """Whether what is attached here cannot be reached either."""
        try:
            return bool(self._kernel.uplink_problems())
        except MizarError:
            return True

    def _ensure_programs(self) -> None:
        if self._empty and not self._synced:
            raise Temporary("attach programs: their maps are new, and the store has not been read yet")
        for said in self._kernel.ensure_programs() + self._kernel.ensure_endpoint_programs():
            if self._empty:
                self._log.info("program", what=said)
            else:
                self._log.warning("program put back", what=said)
        if self._empty:
            self._kernel.settle()
            self._empty = False

    def _tell_uplink(self) -> bool:
        """The programs know the uplink as it is now; whether they had to be told."""
        now = self._kernel.uplink(), self._kernel.outlet()
        if now == self._told:
            return False
        uplink, outlet = now
        ticks = self._kernel.ticks()
        row = config_rows(
            self._config, ticks, uplink.ifindex, uplink.mtu, redirect=uplink.redirect, link=uplink.link,
            outlet=outlet.ifindex,
        )  # fmt: skip
        self._tables.configure(merged((row, listed_rows(self._config.listed, outlet.own))))
        self._told = now
        return True

    def _untold(self) -> list[str]:
        now = self._kernel.uplink(), self._kernel.outlet()
        return [] if now == self._told else [f"uplink: it is {now}, the programs were told {self._told}"]

    def _read(self) -> None:
        """Take in the store's changes; the first time, go on from what is in the maps."""
        try:
            self._intent.poll()
        except MizarError:
            self._intent.age()
            raise
        if self._endpoints is None:
            return
        if not self._synced:
            for what in self._endpoints.adopt():
                self._log.info("devices", what=what)
            for change in self._tables.adopt():
                self._log.info("rows", what=str(change))
            self._synced = True
            self._log.info("synced", vpcs=len(self._tables.world.vpcs), endpoints=len(self._tables.world.links))
        with self._noting("endpoints"):
            self._attend(self._endpoints)
        for what in self._endpoints.sweep():
            self._log.info("devices", what=what)

    def _attend(self, endpoints: Endpoints) -> None:
        """What is due for the endpoints here. Bouncers' news must not wait for many removals, nor one for another that
        fails: what there is no time for comes first the next time."""
        own, begun, failed = self._tables.own(), self._clock.monotonic(), list[str]()
        first = bisect.bisect([endpoint.name for endpoint in own], self._attended)
        for endpoint in (*own[first:], *own[:first]):
            if self._clock.monotonic() - begun > TURN:
                break
            self._attended = endpoint.name
            try:
                endpoints.attend(endpoint)
            except MizarError as error:
                failed.append(str(error))
        else:
            self._attended = ""
        if failed := [*failed, *endpoints.resume()]:
            raise Temporary("; ".join(failed))

    def _beat(self, now: float) -> None:
        """Tell the store, when it is time or when there is news."""
        if self._synced and self._rows_at != self._tables.version and not self._tables.suspect:
            self._rows_at = self._tables.version
            with self._tables.reading() as world:
                self._rows = status.generations(world, self._intent.incomplete(world))
        said = status.status(
            now=self._clock.wall(),
            pid=os.getpid(),
            mode=self._config.mode,
            synced=self._synced,
            problems=self.problems(),
            programs=self._programs,
            rows=self._rows,
        )
        if now < self._beat_at and not status.differs(said, self._said):
            return
        self._beat_at = now + HEARTBEAT_EVERY
        with self._noting("status"):
            try:
                self._store.put_status(NetworkHost, self._config.host, said)
            except NotFound as error:
                raise Temporary(f"write status: the store has no host {self._config.host}") from error
            self._said = said

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Keeps an error of the block as the one problem of `what` until the block succeeds; changes are logged."""
        before, found = self._problems.get(what, []), list[str]()
        try:
            yield
        except MizarError as error:
            found = [str(error)]
        self._problems[what] = found
        if found != before:
            for said in found:
                self._log.error("problem", what=said)
            if not found:
                self._log.info("problem gone", what="; ".join(before))


def _healthy(problems: list[str], *, cut_off: bool = False) -> Reply:
    code = protocol.LIMITED if cut_off else protocol.NOT_AVAILABLE
    return Reply(code=code if problems else 0, message="; ".join(problems))
