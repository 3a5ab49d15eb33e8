"""Watching one kind of object in a SQLite store. Used by `sqlite`.

An idle poll is one stat and one `PRAGMA data_version`. After a commit of anybody, a poll reads what changed above the
revision it has seen: rows of this kind by index, tombstones of this kind by key, so its cost follows the changes and
not the size of the store. The condition is evaluated by SQLite; objects that do not match never become Python
objects. The watch remembers what it has delivered, which is how it knows what stopped matching.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar

from node_agent.model.codec import decode_part
from node_agent.model.objects import Meta, Object
from node_agent.store.base import Event
from node_agent.store.selector import Selector
from node_agent.store.sqlite_file import Database

T = TypeVar("T", bound=Object)

STEP = 0.02
"""Seconds between two looks of a waiting poll."""

COLUMNS = "name, uid, resource_version, generation, deleting, finalizers, spec, status"


def from_row(cls: type[T], row: Sequence[Any]) -> T:
    """The object in a row of COLUMNS. Raises Invalid where another program wrote what this one does not know."""
    name, uid, version, generation, deleting, finalizers, spec, status = row
    meta = Meta(
        uid=uid,
        resource_version=version,
        generation=generation,
        deleting=bool(deleting),
        finalizers=tuple(json.loads(finalizers)),
    )
    build: Any = cls
    made: T = build(
        name=name,
        spec=decode_part(cls, "spec", json.loads(spec)),
        status=decode_part(cls, "status", json.loads(status)),
        meta=meta,
    )
    return made


class SqliteWatch:
    """See base.Watch. An error of a poll loses nothing: the next poll continues from the last one that succeeded."""

    def __init__(self, db: Database, cls: type[T], chosen: Selector) -> None:
        self._db, self._cls = db, cls
        self._condition, self._values = chosen.sql()
        self._what = f"watch {cls.kind}"
        self._known: dict[str, Object] = {}
        self._seen: tuple[int, int] | None = None  # Database.data_version at the last look that was complete
        self._revision = 0
        self._fresh_at = float("-inf")
        self._closed = threading.Event()

    @property
    def fresh_at(self) -> float:
        return self._fresh_at

    def poll(self, timeout: float = 0.0) -> Sequence[Event]:
        deadline = time.monotonic() + timeout
        while not self._closed.is_set():
            if events := self._look():
                return events
            rest = deadline - time.monotonic()
            if rest <= 0:
                break
            self._closed.wait(min(STEP, rest))
        return ()

    def close(self) -> None:
        """Ends a poll that waits in another thread; later polls yield nothing."""
        self._closed.set()

    def _look(self) -> Sequence[Event]:
        now = time.monotonic()
        seen = self._db.data_version(self._what)
        events: Sequence[Event] = ()
        if seen != self._seen:
            same_file = self._seen is not None and self._seen[0] == seen[0]
            # Nothing of the watch changes before the transaction has ended well.
            revision, events = self._db.read(self._what, lambda db: self._changes(db, same_file))
            self._remember(events)
            self._revision, self._seen = revision, seen
        self._fresh_at = now
        return events

    def _changes(self, db: sqlite3.Connection, same_file: bool) -> tuple[int, list[Event]]:
        counters = dict(db.execute("SELECT name, value FROM counters").fetchall())
        if same_file and self._revision >= counters["floor"]:
            return counters["revision"], self._since(db, self._revision)
        return counters["revision"], self._compare(db)

    def _remember(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.type == "put":
                self._known[event.object.name] = event.object
            else:
                del self._known[event.object.name]

    def _since(self, db: sqlite3.Connection, revision: int) -> list[Event]:
        """What the rows and tombstones above `revision` mean to this watch, gone ones first."""
        left, puts = [], []
        exists = set()
        matching = f"CASE WHEN {self._condition} THEN 1 ELSE 0 END"
        changed = db.execute(
            f"SELECT {matching}, {COLUMNS} FROM objects WHERE kind = ? AND resource_version > ? "
            "ORDER BY resource_version",
            (*self._values, self._cls.kind, revision),
        )
        for matches, *row in changed:
            exists.add(row[0])
            if matches:
                puts.append(Event("put", from_row(self._cls, row)))
            else:
                left.append(row[0])
        deleted = db.execute(
            "SELECT name FROM gone WHERE revision > ? AND kind = ? ORDER BY revision", (revision, self._cls.kind)
        )
        left += [name for (name,) in deleted if name not in exists]
        return self._gone(left) + puts

    def _compare(self, db: sqlite3.Connection) -> list[Event]:
        """The difference between everything that matches and everything known."""
        rows = db.execute(
            f"SELECT {COLUMNS} FROM objects WHERE kind = ? AND {self._condition} ORDER BY +resource_version",
            (self._cls.kind, *self._values),
        )
        found = [from_row(self._cls, row) for row in rows]
        names = {obj.name for obj in found}
        return self._gone([name for name in self._known if name not in names]) + [
            Event("put", obj) for obj in found if obj != self._known.get(obj.name)
        ]

    def _gone(self, names: list[str]) -> list[Event]:
        return [Event("gone", self._known[name]) for name in dict.fromkeys(names) if name in self._known]
