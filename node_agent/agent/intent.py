"""What this host has to know of the store: the watches it needs, and what they said. Called by the agent's loop.

    vpcs                  every VPC (a set may name this host at any time)
    own, held, moved      endpoints meant for this host, held by it, and moved away from it a moment ago
    subnets of <VPC>      where this host is in the VPC set
    services of <VPC>     the same
    subnet <name>         of an endpoint held here, when its VPC's subnets are not watched anyway
    endpoints of <subnet> where this host bounces the subnet
No watch, and so no cost, grows with the number of hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from node_agent.agent.tables import Tables
from node_agent.model.objects import NetworkEndpoint, NetworkService, Object, Subnet, Vpc
from node_agent.rows.diff import Change
from node_agent.rows.host import Known, World, bounced
from node_agent.rows.vpcs import member
from node_agent.store.base import Store, Watch

Need = tuple[str, str]  # what, of which object
VPCS, SUBNETS, SERVICES, SUBNET, ENDPOINTS = "vpcs", "subnets", "services", "subnet", "endpoints"
OWN, HELD, MOVED = "own", "held", "moved"
# In which order watches are read: an endpoint that moves leaves one and enters a later one, and is always in one.
_ORDER = (VPCS, SUBNETS, SERVICES, SUBNET, OWN, HELD, MOVED, ENDPOINTS)
_LISTS = {SUBNETS: Vpc.kind, SERVICES: NetworkService.kind, ENDPOINTS: Subnet.kind}  # as World.listed names them
STALE_AFTER = 60.0  # seconds without a good look at a subnet's endpoints


def needs(world: World, own: Iterable[NetworkEndpoint]) -> set[Need]:
    """The watches a host with this knowledge needs; `own`: the endpoints that concern it. Pure."""
    divided = {name for name, vpc in world.vpcs.items() if member(vpc, world.host)}
    return (
        {(VPCS, ""), (OWN, ""), (HELD, ""), (MOVED, "")}
        | {(what, name) for name in divided for what in (SUBNETS, SERVICES)}
        | {(SUBNET, e.spec.subnet) for e in own if e.spec.vpc not in divided}
        | {(ENDPOINTS, name) for name in bounced(world)}
    )


@dataclass
class _Open:
    """One watch, and the objects it shows now as (kind, name)."""

    watch: Watch
    shown: set[tuple[str, str]]
    complete: bool = False


class Intent:
    """The open watches of one host. One thread at a time. `poll` raises the store's errors; nothing is lost by one.
    `wake`: called, by any thread, when it may have news, as far as the store hears of them."""

    def __init__(
        self, host: str, store: Store, tables: Tables, monotonic: Callable[[], float], wake: Callable[[], None]
    ) -> None:
        self._host, self._store, self._tables, self._monotonic = host, store, tables, monotonic
        self._wake = wake
        self._open: dict[Need, _Open] = {}
        self._seen = -1  # version of the tables that the open watches are right for
        # What a watch shows no more, until all have been read: its kind, name and, where one is meant, uid.
        self._left: list[tuple[_Open, str, str, str]] = []

    def poll(self) -> list[Change]:
        """Take in what changed, and open and close watches until nothing more is needed. Returns the steps taken.

        The steps of one poll go to the maps as they come; a new watch is read in the same call, so that a host which
        just became a bouncer serves when this returns."""
        changes: list[Change] = []
        while True:
            changes += self._take()
            if not self._rewatch(changes):
                break
        return changes + self._tables.know(*self._knowledge())

    def close(self) -> None:
        for opened in self._open.values():
            opened.watch.close()
        self._open = {}

    def incomplete(self, world: World) -> set[str]:
        """VPCs of which this host must know more than it has seen."""
        found = set()
        for what, name in needs(world, self._tables.own()):
            opened = self._open.get((what, name))
            if what in _LISTS and not (opened and opened.complete):
                found.add(world.subnets[name].spec.vpc if what == ENDPOINTS else name)
        return found

    # --- inside ---

    def _take(self) -> list[Change]:
        """What every watch has to say; what one shows no more and another shows now is not gone in between."""
        changes: list[Change] = []
        for _, opened in sorted(self._open.items(), key=lambda item: (_ORDER.index(item[0][0]), item[0])):
            events = opened.watch.poll()
            puts = [event.object for event in events if event.type == "put"]
            shown = {(obj.kind, obj.name) for obj in puts}
            opened.shown |= shown
            # A watch tells once: what it said is kept before anything is done about it, which may fail.
            self._left = [one for one in self._left if one[0] is not opened or one[1:3] not in shown]
            gone = (event.object for event in events if event.type == "gone")
            self._left += [(opened, obj.kind, obj.name, obj.meta.uid) for obj in gone]
            opened.complete = True
            changes += self._tables.put(*(obj for obj in puts if isinstance(obj, Known)))
        return changes + self._hide_left()

    def _hide_left(self) -> list[Change]:
        changes: list[Change] = []
        while self._left:
            changes += self._hide(*self._left.pop(0))
        return changes

    def _hide(self, opened: _Open, kind: str, name: str, uid: str) -> list[Change]:
        """The watch shows the object no longer; it is gone once no watch does."""
        opened.shown.discard((kind, name))
        if any((kind, name) in other.shown for other in self._open.values()):
            return []
        return self._tables.gone(kind, name, uid)

    def _rewatch(self, changes: list[Change]) -> bool:
        """Open what is needed and, once that is read, close what is not. Whether there is more to do."""
        if self._seen == self._tables.version:
            return False
        version, wanted = self._tables.version, self._needs()
        missing = sorted(wanted - set(self._open))
        for need in missing:
            self._open[need] = _Open(self._watch(need), set())
        if missing:
            # Nothing is closed before: what one watch showed and another is about to would be gone in between.
            return True
        for need in set(self._open) - wanted:
            closing = self._open.pop(need)
            closing.watch.close()
            self._left += [(closing, kind, name, "") for kind, name in sorted(closing.shown)]
        changes += self._hide_left()
        self._seen = version
        return self._seen != self._tables.version

    def _needs(self) -> set[Need]:
        with self._tables.reading() as world:
            return needs(world, self._tables.own())

    def _watch(self, need: Need) -> Watch:
        what, name = need
        cls: type[Object]
        cls, where = {
            VPCS: (Vpc, {}),
            OWN: (NetworkEndpoint, {"spec.host": self._host}),
            HELD: (NetworkEndpoint, {"status.host": self._host}),
            MOVED: (NetworkEndpoint, {"status.previous_host": self._host}),
            SUBNETS: (Subnet, {"spec.vpc": name}),
            SERVICES: (NetworkService, {"spec.vpc": name}),
            SUBNET: (Subnet, {"name": name}),
            ENDPOINTS: (NetworkEndpoint, {"spec.subnet": name}),
        }[what]
        return self._store.watch(cls, where, self._wake)

    def _knowledge(self) -> tuple[Sequence[tuple[str, str]], Sequence[str]]:
        """(lists that are complete, subnets whose list is old)."""
        listed = [
            (_LISTS[what], name) for (what, name), opened in self._open.items() if what in _LISTS and opened.complete
        ]
        return listed, self._old()

    def _old(self) -> list[str]:
        now = self._monotonic()
        return [
            name
            for (what, name), opened in self._open.items()
            if what == ENDPOINTS and opened.complete and now - opened.watch.fresh_at > STALE_AFTER
        ]

    def age(self) -> list[Change]:
        """The store cannot be read: say so in the rows once the lists are old."""
        return self._tables.know(*self._knowledge())
