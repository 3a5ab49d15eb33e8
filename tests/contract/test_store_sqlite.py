"""The SQLite store as many processes share it: claims, kills, lost files."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.model.errors import Invalid, NotFound, Permanent, Temporary
from node_agent.model.objects import NetworkEndpoint, Object, Vpc, VpcSpec, VpcStatus, Watermark, WatermarkStatus
from node_agent.model.resources import RESOURCES
from node_agent.store.base import Watch
from node_agent.store.open import open_store
from node_agent.store.sqlite import SqliteStore
from node_agent.store.sqlite_file import Database, store_files

ROOT = Path(__file__).parents[2]
SPEC = VpcSpec(cidr="10.0.0.0/16")


def start(verb: str, path: Path, argument: object = "") -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("store_worker.py")), verb, str(path), str(argument)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@contextlib.contextmanager
def worker(verb: str, path: Path, argument: object = "") -> Iterator[subprocess.Popen[str]]:
    with start(verb, path, argument) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    """The lines of each, all of which ended well."""
    lines = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return lines


def apply(view: dict[str, Object], watch: Watch) -> None:
    for event in watch.poll():
        if event.type == "put":
            view[event.object.name] = event.object
        else:
            del view[event.object.name]


@contextlib.contextmanager
def opened(path: Path, **options: object) -> Iterator[SqliteStore]:
    store = SqliteStore(path, **options)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        store.close()


def test_modes_of_folder_and_files(path: Path) -> None:
    with opened(path) as store:
        store.create(Vpc(name="blue", spec=SPEC))
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert {f.name: stat.S_IMODE(f.stat().st_mode) for f in path.parent.iterdir()} == {
            f.name: 0o600 for f in store_files(path)
        }


def test_an_absent_store_is_made_only_when_asked_for(path: Path) -> None:
    with pytest.raises(Temporary, match="no such file"):
        open_store(f"sqlite:{path}", create=False)
    assert not path.parent.exists()
    open_store(f"sqlite:{path}").close()
    open_store(f"sqlite:{path}", create=False).close()


@pytest.mark.parametrize("url", ["", "sqlite:", "sqlite:store.db", "etcd:/store.db", "/store.db"])
def test_urls_without_meaning(url: str) -> None:
    with pytest.raises(Invalid, match="store:"):
        open_store(url)


def test_foreign_files_are_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but longer than a header of one hundred bytes" * 9)
    with pytest.raises(Permanent, match="open store"):
        SqliteStore(path)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(Permanent, match="version is 99"):
        SqliteStore(path)


def test_processes_claim_the_same_names_and_one_wins_each(path: Path) -> None:
    # All of them also make the store, at the same moment.
    won = finished([start("claim", path, f"who-{n}") for n in range(5)])
    names = Counter(name for lines in won for name in lines)
    assert names == Counter({f"name-{n}": 1 for n in range(60)})
    with opened(path) as store:
        for number, lines in enumerate(won):
            assert all(store.get(Vpc, name).status.members[0].host == f"who-{number}" for name in lines)


def test_no_update_of_processes_is_lost(path: Path) -> None:
    with opened(path) as store:
        store.create(Watermark(name="vni"))
        finished([start("count", path, 50) for _ in range(4)])
        assert store.get(Watermark, "vni").status.value == 200


def test_a_view_kept_by_a_watch_equals_the_store(path: Path) -> None:
    # A short history as well: the watch must not notice when it has to compare instead.
    for history in (1024, 3):
        with opened(path, history=history) as store:
            watch, view = store.watch(Vpc), dict[str, Object]()
            processes = [start("churn", path, n) for n in range(3)]
            while any(process.poll() is None for process in processes):
                apply(view, watch)
                time.sleep(0.002)
            finished(processes)
            apply(view, watch)
            assert view == {obj.name: obj for obj in store.list(Vpc)}


def test_a_watch_that_slept_longer_than_history_misses_nothing(path: Path) -> None:
    with opened(path, history=4) as store:
        for number in range(20):
            store.create(Vpc(name=f"name-{number:02}", spec=SPEC))
        watch = store.watch(Vpc)
        watch.poll()
        for number in range(15):
            store.delete(Vpc, f"name-{number:02}")
        store.create(Vpc(name="name-03", spec=SPEC))
        events = [(event.type, event.object.name) for event in watch.poll()]
        assert sorted(events) == sorted([("gone", f"name-{n:02}") for n in range(15) if n != 3] + [("put", "name-03")])
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM gone").fetchone() == (4,)


def test_killed_writers_leave_whole_objects(path: Path) -> None:
    with opened(path) as store:
        store.create(Vpc(name="blue", spec=SPEC))
        for turn in range(8):
            with worker("endless", path) as process:
                assert process.stdout
                told = [int(process.stdout.readline()) for _ in range(3 + 5 * turn)]
                process.kill()
                told += [int(line) for line in process.stdout.read().split()]
            begin = time.monotonic()
            status = store.get(Vpc, "blue").status
            assert status.vni >= told[-1], "a write that was told is lost"
            assert status.members[0].place == status.vni
            store.put_status(Vpc, "blue", VpcStatus())
            print(f"\nread and written {time.monotonic() - begin:.2f} s after the writer's death")
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_writer_that_hangs_is_temporary_and_its_death_frees_the_store(path: Path) -> None:
    with opened(path, busy=0.2) as store:
        before = store.create(Vpc(name="blue", spec=SPEC))
        with worker("hold", path) as process:
            assert process.stdout
            assert process.stdout.readline() == "holding\n"
            with pytest.raises(Temporary, match=r"put status of Vpc blue: .*locked"):
                store.put_status(Vpc, "blue", VpcStatus(vni=1))
            assert store.get(Vpc, "blue") == before  # readers never wait
        assert store.get(Vpc, "blue") == before
        assert store.put_status(Vpc, "blue", VpcStatus(vni=1)).status.vni == 1


def test_a_watch_hears_of_another_process(path: Path) -> None:
    with opened(path) as store:
        watch = store.watch(Vpc, {"name": "name-59"})
        assert not watch.poll()
        with worker("claim", path, "other"):
            [event] = watch.poll(timeout=20)
        assert event.object.name == "name-59"


def test_a_vanished_file_is_temporary_and_not_made_again(path: Path) -> None:
    with opened(path) as store:
        store.create(Vpc(name="blue", spec=SPEC))
        watch = store.watch(Vpc)
        watch.poll()
        for file in store_files(path):
            file.unlink(missing_ok=True)
        for verb in (lambda: store.get(Vpc, "blue"), lambda: store.delete(Vpc, "blue"), watch.poll):
            with pytest.raises(Temporary, match="no such file"):
                verb()
        assert list(path.parent.iterdir()) == []


def test_another_file_in_its_place_is_taken_up(path: Path) -> None:
    with opened(path) as store:
        for name in ("blue", "green"):
            store.create(Vpc(name=name, spec=SPEC))
        watch = store.watch(Vpc)
        watch.poll()
        for file in store_files(path):
            file.unlink(missing_ok=True)
        with opened(path) as other:
            other.create(Vpc(name="green", spec=SPEC))  # lower revisions than those that the watch has seen
            assert [event.object.name for event in watch.poll()] == ["blue", "green"]
            with pytest.raises(NotFound):
                store.get(Vpc, "blue")
            store.create(Vpc(name="red", spec=SPEC))
            assert [obj.name for obj in other.list(Vpc)] == ["green", "red"]
    with opened(path, create=False) as again:  # closing the old connections took nothing from the new file
        assert [obj.name for obj in again.list(Vpc)] == ["green", "red"]


def test_a_failed_poll_loses_nothing(path: Path) -> None:
    aside = path.with_name("aside.db")
    with opened(path) as store, opened(path) as other:
        watch = store.watch(Vpc)
        watch.poll()
        other.create(Vpc(name="blue", spec=SPEC))
        path.rename(aside)
        with pytest.raises(Temporary):
            watch.poll()
        fresh_at = watch.fresh_at
        aside.rename(path)
        assert [event.object.name for event in watch.poll()] == ["blue"]
        assert watch.fresh_at > fresh_at


def test_a_store_does_not_cross_a_fork(path: Path) -> None:
    with opened(path) as store:
        child = os.fork()
        if child == 0:
            try:
                store.create(Vpc(name="blue", spec=SPEC))
            except Permanent:
                store.close()
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        store.create(Vpc(name="blue", spec=SPEC))


def test_a_closed_store_says_so(path: Path) -> None:
    with opened(path) as store:
        watch = store.watch(Vpc)
    with pytest.raises(Permanent, match="closed"):
        store.get(Vpc, "blue")
    with pytest.raises(Permanent, match="closed"):
        watch.poll()
    store.close()


def test_an_idle_poll_asks_the_file_one_thing_and_reads_no_table(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as store:
        watches = [store.watch(Vpc) for _ in range(4)]
        for number in range(50):
            store.put_status(Watermark, store.create(Watermark(name=f"m-{number}")).name, WatermarkStatus(value=1))
        for watch in watches:
            watch.poll()
        monkeypatch.setattr(Database, "read", lambda *_: pytest.fail("an idle poll reads no table"))
        statements: list[str] = []
        store._db._reader.set_trace_callback(statements.append)
        for watch in watches:
            watch.poll()
        assert statements == ["PRAGMA data_version"] * len(watches)


def test_a_selected_list_does_not_walk_its_whole_kind(path: Path) -> None:
    with opened(path) as store, contextlib.closing(sqlite3.connect(path)) as database:
        store.create(Vpc(name="blue", spec=SPEC))
        statements: list[str] = []
        store._db._reader.set_trace_callback(statements.append)
        for field in RESOURCES[NetworkEndpoint.kind].selectable:
            store.list(NetworkEndpoint, {field: "x"})
            store.watch(NetworkEndpoint, {field: "x"}).poll()
        store._db._reader.set_trace_callback(None)
        lists = [statement for statement in statements if "FROM objects" in statement]
        assert len(lists) == 8
        for statement in lists:
            plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}"))
            assert "USING INDEX by_" in plan, f"{statement}: {plan}"


def test_a_store_of_an_earlier_program_gets_the_indexes_that_it_lacks(path: Path) -> None:
    def indexes() -> set[str]:
        with contextlib.closing(sqlite3.connect(path)) as database:
            return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}

    with opened(path) as store:
        made = store.create(Vpc(name="blue", spec=SPEC))
    whole = indexes()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("DROP INDEX by_container_id")
    assert indexes() != whole
    with opened(path, create=False) as store:
        assert store.get(Vpc, "blue") == made
    assert indexes() == whole
