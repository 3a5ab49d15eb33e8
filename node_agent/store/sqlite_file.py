"""The SQLite file under a store: opening, schema, transactions, and what its errors mean.

Used by `sqlite` (verbs) and `sqlite_watch`. Many processes share the file; it is in WAL mode, so readers never wait
and one writer at a time does. A process killed at any moment leaves either the whole transaction or nothing: its
locks die with it, and the next reader ignores a WAL frame without a commit.

Threads: a Database may be used by any thread. It holds two connections, one that writes and one that reads, each
behind a lock that is held for one transaction only. Two, because `PRAGMA data_version` tells of every commit but
those of its own connection: the reading one hears of all. A Database must not cross a fork (SQLite's locks belong to
the process), which it checks.

The file must not be opened by other means in a process that has it open as a store: closing any descriptor of a file
drops all POSIX locks the process has on it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from node_agent.model.errors import Permanent, Temporary
from node_agent.model.resources import RESOURCES

R = TypeVar("R")

SCHEMA_VERSION = 1

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counters VALUES ('revision', 0), ('floor', 0);
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, resource_version INTEGER NOT NULL,
    generation INTEGER NOT NULL, deleting INTEGER NOT NULL, finalizers TEXT NOT NULL,
    spec TEXT NOT NULL, status TEXT NOT NULL, PRIMARY KEY (kind, name));
CREATE INDEX IF NOT EXISTS changed ON objects (kind, resource_version);
CREATE TABLE IF NOT EXISTS gone (revision INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL);
PRAGMA user_version = {SCHEMA_VERSION};
"""

# By these the stores select: index -> what makes it.
_SELECTED = sorted({path.removeprefix("spec.") for each in RESOURCES.values() for path in each.selectable})
_INDEXES = {
    f"by_{field}": f"CREATE INDEX IF NOT EXISTS by_{field} ON objects (kind, json_extract(spec, '$.{field}'));"
    for field in _SELECTED
}

# Primary result codes (sqlite.org/rescode.html) after which the same call may succeed later.
_TEMPORARY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_SCHEMA,
}


def store_files(path: Path) -> tuple[Path, ...]:
    """Every file a store at `path` may consist of, in the order in which they are to be removed: a journal that is left
    alone would be taken for that of the next store."""
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm"), path


class Database:
    """The open file. `busy`: seconds to wait for another process's write before Temporary is raised."""

    def __init__(self, path: Path, *, create: bool, busy: float) -> None:
        """Raises Temporary (absent and not to be created, locked, full) and Permanent (no store of this version)."""
        self.path, self.busy = path, busy
        self.epoch = 0
        """Rises with every opening: what was read under another epoch may belong to another file."""
        self._pid = os.getpid()
        self._locks = {"read": threading.Lock(), "write": threading.Lock()}
        self._open_lock = threading.Lock()
        self._file: tuple[int, int] | None = None
        self._closed = False
        if create:
            _make_file(path)
        self._ensure_open()

    def read(self, what: str, body: Callable[[sqlite3.Connection], R]) -> R:
        """`body` within one read transaction: it sees one state of the store. `what`: "verb object", for errors."""
        return self._run("read", what, "BEGIN", body)

    def write(self, what: str, body: Callable[[sqlite3.Connection], R]) -> R:
        """`body` within one write transaction; an exception undoes all of it."""
        return self._run("write", what, "BEGIN IMMEDIATE", body)

    def data_version(self, what: str) -> tuple[int, int]:
        """(epoch, number that changes with every commit of anybody): the price of an idle poll, some 10 us."""
        self._ensure_open()
        with self._connection("read", what) as connection:
            return self.epoch, int(connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        self._closed = True
        if os.getpid() != self._pid:
            return  # a forked child: the parent's locks are not ours to touch
        with self._open_lock, self._locks["read"], self._locks["write"]:
            self._close_connections()

    def _run(self, which: str, what: str, begin: str, body: Callable[[sqlite3.Connection], R]) -> R:
        self._ensure_open()
        with self._connection(which, what) as connection:
            connection.execute(begin)
            try:
                result = body(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

    @contextlib.contextmanager
    def _connection(self, which: str, what: str) -> Iterator[sqlite3.Connection]:
        if not self._locks[which].acquire(timeout=self.busy):
            raise Temporary(f"{what}: another thread held the store for {self.busy:g} s", delay=0.1)
        try:
            with translated(what):
                yield self._reader if which == "read" else self._writer
        finally:
            self._locks[which].release()

    def _ensure_open(self) -> None:
        """Open the file, again where another one took its place; a vanished file is Temporary and never made anew."""
        if self._closed:
            raise Permanent(f"use store {self.path}: it was closed")
        if os.getpid() != self._pid:
            raise Permanent(f"use store {self.path}: process {self._pid} opened it; open it anew after a fork")
        found = _identity(self.path)
        if found is None:
            raise Temporary(f"open store {self.path}: no such file")
        if found == self._file:
            return
        with self._open_lock:
            if found != self._file:
                self._replace(found)

    def _replace(self, found: tuple[int, int]) -> None:
        """New connections, then the old ones away: no other thread ever meets a closed one."""
        with translated(f"open store {self.path}"), contextlib.ExitStack() as on_error:
            writer = on_error.enter_context(contextlib.closing(self._connect()))
            self._prepare(writer)
            reader = on_error.enter_context(contextlib.closing(self._connect()))
            on_error.pop_all()
        with self._locks["read"], self._locks["write"]:
            self._close_connections()
            self._reader, self._writer, self._file = reader, writer, found
            self.epoch += 1

    def _close_connections(self) -> None:
        if self._file is not None:
            self._reader.close()
            self._writer.close()
            self._file = None

    def _connect(self) -> sqlite3.Connection:
        uri = f"file:{urllib.parse.quote(str(self.path))}?mode=rw"  # rw: never creates
        connection = sqlite3.connect(uri, uri=True, timeout=self.busy, isolation_level=None, check_same_thread=False)
        # NORMAL: a commit survives kill -9 of every process; a power failure may take the last ones, never half of one.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise Permanent(f"open store {self.path}: its version is {version}, this program knows {SCHEMA_VERSION}")
        lacking = "" if version else _SCHEMA
        # An index is no other version: who does not know it has the benefit all the same.
        present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
        lacking += "".join(text for name, text in _INDEXES.items() if name not in present)
        if not lacking:
            return
        if not version:
            _wal_mode(connection, self.busy)
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {lacking} COMMIT;")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _make_file(path: Path) -> None:
    """Mode 0600 from its first moment (SQLite gives -wal and -shm the same); a folder made for it gets 0700."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # O_EXCL also means: this process never closes a descriptor of a file that is already a store, see above.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise Temporary(f"create store {path}: {error.strerror}") from error


def _wal_mode(connection: sqlite3.Connection, busy: float) -> None:
    # The switch to WAL does not wait for others that are switching too; it answers "locked" at once.
    deadline = time.monotonic() + busy
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """SQLite's errors as ours: Temporary where repeating may help, Permanent otherwise."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _TEMPORARY:
            raise Temporary(f"{what}: {error}", delay=0.2) from error
        raise Permanent(f"{what}: {error}") from error
