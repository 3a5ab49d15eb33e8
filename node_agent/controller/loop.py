"""The controller's loop: read what changed, compute the plan, write it. The only part that does I/O.

Called by `__main__`, which gives it a store and a clock. Every write carries the uid and the resource version of the
object that was read, so a second controller, or a write in between, costs a round and nothing else. A heartbeat alone
does not make a round; timers are looked at every TICK seconds.

Each kind has a watch of its own, and over a cluster any of them may lag behind the others: that an object is not seen
is no proof that there is none. Where that would do harm, the store itself is asked before the write.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from node_agent.controller.garbage import Lift
from node_agent.controller.log import Log
from node_agent.controller.plan import Change, Lost, Memory, Plan, State, plan
from node_agent.controller.vnis import MARK
from node_agent.model.config import ControllerConfig
from node_agent.model.errors import AlreadyExists, Conflict, Invalid, NotFound, Temporary
from node_agent.model.objects import (
    NetworkEndpoint,
    NetworkHost,
    NetworkService,
    Object,
    Subnet,
    Vpc,
    Watermark,
    WatermarkStatus,
)
from node_agent.model.users import ends_with_vpc, users_of, where_users
from node_agent.store.base import Event, Store, Watch

TICK = 1.0
"""Seconds between two rounds when nothing happens."""

WAIT = 0.05
"""Seconds that one turn of the loop waits for a change."""

_KINDS: dict[str, type[Any]] = {
    "vpcs": Vpc,
    "subnets": Subnet,
    "endpoints": NetworkEndpoint,
    "services": NetworkService,
    "hosts": NetworkHost,
    "marks": Watermark,
}


class Controller:
    """`clock`: seconds since the epoch. One thread."""

    def __init__(self, config: ControllerConfig, store: Store, clock: Callable[[], float], log: Log) -> None:
        self._config, self._store, self._clock, self._log = config, store, clock, log
        self._watches: dict[str, Watch] = {part: store.watch(cls) for part, cls in _KINDS.items()}
        self._objects: dict[str, dict[str, Any]] = {part: {} for part in _KINDS}
        self._memory = Memory()
        self._due = float("-inf")

    def run(self, stopped: Callable[[], bool], pause: Callable[[float], object]) -> None:
        """Turns until `stopped`. `pause`: waits that many seconds, or until stopped. Raises Permanent errors of the
        store only: what may pass is said once and tried again."""
        while not stopped():
            try:
                self.turn(WAIT)
            except Temporary as error:
                self._log.trouble(str(error))
                pause(error.delay)
            else:
                self._log.fine()

    def turn(self, wait: float = 0.0) -> None:
        """Read what changed (waiting up to `wait` seconds for a host's news), compute, write. Raises Temporary."""
        news = self._read(wait)
        now = self._clock()
        # Also when the clock was set back: then `due` lies further away than any tick.
        if not news and now < self._due <= now + TICK:
            return
        made = plan(State(**self._objects), self._memory, now, self._config)
        self._write(made)
        for note in made.notes:
            self._log.say(**note)
        self._memory = made.memory
        self._due = now + TICK

    def write(self, change: Change) -> None:
        """Carry out one change, of a plan of this loop or of the rebalancer's. Raises Conflict, NotFound (somebody
        else wrote in between: read again) and Temporary."""
        vpc = change.vpc
        # Where a set serves already, a new member hears first what it will bounce: what it then reports of the VPC's
        # new state includes that it knows it all.
        if not vpc.status.members:
            self._write_vpc(change)
        for subnet, status in change.subnets:
            self._store.put_status(
                Subnet, subnet.name, status, uid=subnet.meta.uid, resource_version=subnet.meta.resource_version
            )
        if vpc.status.members:
            self._write_vpc(change)

    def close(self) -> None:
        for watch in self._watches.values():
            watch.close()

    def _read(self, wait: float) -> bool:
        """Whether anything happened that may matter."""
        news = False
        for part, watch in self._watches.items():
            events = watch.poll(wait if part == "hosts" else 0.0)
            if self._take(self._objects[part], events):
                news, self._due = True, float("-inf")  # remembered even if the next watch fails
        return news

    def _take(self, known: dict[str, Any], events: Sequence[Event]) -> bool:
        news = False
        for event in events:
            before = known.pop(event.object.name, None)
            if event.type == "put":
                known[event.object.name] = event.object
            # What the keepers make of a cluster's Services is nothing to the plan.
            news |= not ends_with_vpc(event.object) and (
                event.type == "gone" or not _only_a_heartbeat(before, event.object)
            )
        return news

    def _write(self, made: Plan) -> None:
        try:
            self._write_mark(made.mark)
        except (Conflict, NotFound, AlreadyExists) as error:
            self._refused(error)
            return  # the VNIs of this plan may be another's
        for change in made.changes:
            try:
                self.write(change)
            except (Conflict, NotFound) as error:
                self._refused(error)
        for lost in made.lost:
            try:
                self._write_lost(lost)
            except (Conflict, NotFound) as error:
                self._refused(error)
        for lift in made.lifts:
            self._lift(lift)

    def _write_lost(self, lost: Lost) -> None:
        subnet = lost.subnet
        try:
            self._store.get(Vpc, subnet.spec.vpc)
        except Invalid:
            return  # there is one, which a newer program wrote
        except NotFound:
            version = subnet.meta.resource_version
            self._store.put_status(Subnet, subnet.name, lost.status, uid=subnet.meta.uid, resource_version=version)
            self._log.say("subnet without a VPC", subnet=subnet.name, vpc=subnet.spec.vpc)

    def _lift(self, lift: Lift) -> None:
        """Who is in use after all is planned for again at the next tick."""
        obj = lift.object
        if isinstance(obj, Vpc | Subnet):
            found = [user for cls, where in where_users(obj) for user in self._store.list(cls, where)]
            if users_of(obj, found):
                return
        self._store.drop_finalizer(type(obj), obj.name, lift.finalizer, uid=obj.meta.uid)
        self._log.say("finalizer lifted", kind=obj.kind, name=obj.name, why=lift.why)

    def _write_mark(self, mark: int | None) -> None:
        if mark is None:
            return
        status = WatermarkStatus(value=mark)
        found = self._objects["marks"].get(MARK)
        if found is None:
            self._store.create(Watermark(name=MARK, status=status))
        else:
            self._store.put_status(
                Watermark, MARK, status, uid=found.meta.uid, resource_version=found.meta.resource_version
            )

    def _write_vpc(self, change: Change) -> None:
        vpc = change.vpc
        self._store.put_status(
            Vpc, vpc.name, change.status, uid=vpc.meta.uid, resource_version=vpc.meta.resource_version
        )

    def _refused(self, error: Exception) -> None:
        self._log.say("write refused, reading again", "info", cause=str(error))


def _only_a_heartbeat(before: Object | None, now: Object) -> bool:
    """Hosts write every two seconds; nothing but the time has changed then."""
    if not isinstance(before, NetworkHost) or not isinstance(now, NetworkHost):
        return False
    status = dataclasses.replace(now.status, heartbeat=before.status.heartbeat)
    return (
        status == before.status
        and now.spec == before.spec
        and bool(before.status.heartbeat)
        and (now.meta.uid, now.meta.deleting) == (before.meta.uid, before.meta.deleting)
    )
