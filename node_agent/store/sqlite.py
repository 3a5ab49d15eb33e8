"""The store of stack `local`: every object a row of one SQLite file, shared by agents, controller, providers and CLI.

`open.open_store` makes it. docs/adr/0003-sqlite-store.md says why it is like this; tests/contract holds it to
`base.Store`. One number, the store's revision, rises with every write; an object's resource version is the revision of
its last write, and a watch asks for what lies above the revision it has seen. Deletions leave a tombstone each, of
which the last HISTORY are kept: a watch that slept longer compares the whole list instead.

Any thread may use a store (see `sqlite_file`); it must not cross a fork.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import typing
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from node_agent.model.codec import canonical
from node_agent.model.errors import AlreadyExists, Conflict, NotFound
from node_agent.model.objects import Meta, Object
from node_agent.store.base import Where
from node_agent.store.parts import check_new, check_part
from node_agent.store.selector import selector
from node_agent.store.sqlite_file import Database
from node_agent.store.sqlite_watch import COLUMNS, SqliteWatch, from_row

T = TypeVar("T", bound=Object)

BUSY_SECONDS = 5.0
HISTORY = 1024


class SqliteStore:
    """A store in the file `path`. `create`: make file and folder where absent; without it an absent file is Temporary.

    `busy`: seconds a verb waits for other writers before it raises Temporary. Every verb may also raise Temporary when
    the file vanished (it is used again once it is back, possibly another one) or the disk is full.
    """

    def __init__(
        self, path: Path | str, *, create: bool = True, busy: float = BUSY_SECONDS, history: int = HISTORY
    ) -> None:
        self._db = Database(Path(path), create=create, busy=busy)
        self._history = history

    def create(self, obj: T) -> T:
        check_new(obj)
        fresh = Meta(uid=str(uuid.uuid4()), generation=1, finalizers=obj.meta.finalizers)

        def body(db: sqlite3.Connection) -> T:
            if _find(db, type(obj), obj.name):
                raise AlreadyExists(f"create {obj.kind} {obj.name}: it exists")
            made = _with(obj, meta=dataclasses.replace(fresh, resource_version=_next_revision(db)))
            db.execute(
                f"INSERT INTO objects (kind, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (obj.kind, *_to_row(made))
            )
            return made

        return self._db.write(f"create {obj.kind} {obj.name}", body)

    def get(self, cls: type[T], name: str) -> T:
        row = self._db.read(f"get {cls.kind} {name}", lambda db: _find(db, cls, name))
        if row is None:
            raise NotFound(f"get {cls.kind} {name}: there is none")
        return from_row(cls, row)

    def list(self, cls: type[T], where: Where | None = None) -> Sequence[T]:
        condition, values = selector(cls, where).sql()
        # The plus keeps SQLite from walking the whole kind by name where the condition has an index.
        statement = f"SELECT {COLUMNS} FROM objects WHERE kind = ? AND {condition} ORDER BY +name"
        rows = self._db.read(f"list {cls.kind}", lambda db: db.execute(statement, (cls.kind, *values)).fetchall())
        return [from_row(cls, row) for row in rows]

    def put_spec(self, cls: type[T], name: str, spec: Any, *, resource_version: int | None = None) -> T:
        return self._put(cls, name, "spec", spec, None, resource_version)

    def put_status(
        self, cls: type[T], name: str, status: Any, *, uid: str | None = None, resource_version: int | None = None
    ) -> T:
        return self._put(cls, name, "status", status, uid, resource_version)

    def _put(self, cls: type[T], name: str, part: str, value: Any, uid: str | None, version: int | None) -> T:
        check_part(cls, part, value)
        text = canonical(value)
        what = f"put {part} of {cls.kind} {name}"

        def body(db: sqlite3.Connection) -> T:
            row = _find(db, cls, name)
            if row is None:
                raise NotFound(f"{what}: there is no such object")
            old = from_row(cls, row)
            _check_same(what, old.meta, uid, version)
            if canonical(getattr(old, part)) == text:
                return old
            meta = dataclasses.replace(
                old.meta, resource_version=_next_revision(db), generation=old.meta.generation + (part == "spec")
            )
            db.execute(
                f"UPDATE objects SET {part} = ?, resource_version = ?, generation = ? WHERE kind = ? AND name = ?",
                (text, meta.resource_version, meta.generation, cls.kind, name),
            )
            return _with(old, meta=meta, **{part: value})

        return self._db.write(what, body)

    def delete(self, cls: type[T], name: str, *, uid: str | None = None) -> None:
        what = f"delete {cls.kind} {name}"

        def body(db: sqlite3.Connection) -> None:
            row = _find(db, cls, name)
            if row is None:
                return
            meta = from_row(cls, row).meta
            _check_same(what, meta, uid, None)
            if not meta.finalizers:
                self._remove(db, cls, name)
            elif not meta.deleting:
                db.execute(
                    "UPDATE objects SET deleting = 1, resource_version = ? WHERE kind = ? AND name = ?",
                    (_next_revision(db), cls.kind, name),
                )

        self._db.write(what, body)

    def drop_finalizer(self, cls: type[T], name: str, finalizer: str, *, uid: str | None = None) -> None:
        """Another uid than the one given: the object that was meant is gone, nothing to do."""

        def body(db: sqlite3.Connection) -> None:
            row = _find(db, cls, name)
            meta = from_row(cls, row).meta if row else Meta()
            if finalizer not in meta.finalizers or uid not in (None, meta.uid):
                return
            rest = [each for each in meta.finalizers if each != finalizer]
            if meta.deleting and not rest:
                self._remove(db, cls, name)
            else:
                db.execute(
                    "UPDATE objects SET finalizers = ?, resource_version = ? WHERE kind = ? AND name = ?",
                    (json.dumps(rest), _next_revision(db), cls.kind, name),
                )

        self._db.write(f"drop finalizer of {cls.kind} {name}", body)

    def watch(self, cls: type[T], where: Where | None = None, wake: Callable[[], None] | None = None) -> SqliteWatch:
        """One thread at a time may poll a watch; different watches are independent. Nobody is woken: a file tells
        nothing by itself."""
        return SqliteWatch(self._db, cls, selector(cls, where))

    def close(self) -> None:
        """Close the connections. Verbs and watches raise Permanent afterwards."""
        self._db.close()

    def _remove(self, db: sqlite3.Connection, cls: type[T], name: str) -> None:
        db.execute("DELETE FROM objects WHERE kind = ? AND name = ?", (cls.kind, name))
        db.execute("INSERT INTO gone VALUES (?, ?, ?)", (_next_revision(db), cls.kind, name))
        row = db.execute(
            "SELECT revision FROM gone ORDER BY revision DESC LIMIT 1 OFFSET ?", (self._history,)
        ).fetchone()
        if row:
            db.execute("DELETE FROM gone WHERE revision <= ?", row)
            db.execute("UPDATE counters SET value = ? WHERE name = 'floor'", row)


def _find(db: sqlite3.Connection, cls: type[T], name: str) -> tuple[Any, ...] | None:
    row = db.execute(f"SELECT {COLUMNS} FROM objects WHERE kind = ? AND name = ?", (cls.kind, name)).fetchone()
    return typing.cast("tuple[Any, ...] | None", row)


def _next_revision(db: sqlite3.Connection) -> int:
    row = db.execute("UPDATE counters SET value = value + 1 WHERE name = 'revision' RETURNING value").fetchall()
    return int(row[0][0])


def _to_row(obj: Object) -> tuple[Any, ...]:
    """The columns COLUMNS of an object."""
    meta = obj.meta
    return (
        obj.name,
        meta.uid,
        meta.resource_version,
        meta.generation,
        int(meta.deleting),
        json.dumps(list(meta.finalizers)),
        canonical(obj.spec),
        canonical(obj.status),
    )


def _with(obj: T, **changes: Any) -> T:
    return dataclasses.replace(obj, **changes)


def _check_same(what: str, meta: Meta, uid: str | None, version: int | None) -> None:
    if uid is not None and uid != meta.uid:
        raise Conflict(f"{what}: it is another object by now, uid {meta.uid} instead of {uid}")
    if version is not None and version != meta.resource_version:
        raise Conflict(f"{what}: it changed since it was read, version {meta.resource_version} instead of {version}")
