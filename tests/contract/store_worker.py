"""A process that uses a store, started by test_store_sqlite: `store_worker.py <verb> <path> <argument>`.

It tells on stdout what it has done, one line each, after the store said that it is done.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path

from node_agent.model.errors import AlreadyExists, Conflict
from node_agent.model.objects import SetMember, Vpc, VpcSpec, VpcStatus, Watermark, WatermarkStatus
from node_agent.store.sqlite import SqliteStore


def say(text: object) -> None:
    print(text, flush=True)


def claim(path: Path, who: str) -> None:
    """Claim 60 names, and tell which were won."""
    store = SqliteStore(path, busy=30)
    for number in range(60):
        try:
            store.create(
                Vpc(
                    name=f"name-{number}",
                    spec=VpcSpec(cidr="10.0.0.0/16"),
                    status=VpcStatus(members=(SetMember(place=0, host=who, address="198.18.0.11"),)),
                )
            )
        except AlreadyExists:
            continue
        say(f"name-{number}")


def count(path: Path, times: str) -> None:
    """Raise a counter by 1 that many times, by reading and writing with a precondition."""
    store, done = SqliteStore(path, busy=30), 0
    while done < int(times):
        mark = store.get(Watermark, "vni")
        try:
            store.put_status(
                Watermark,
                "vni",
                WatermarkStatus(value=mark.status.value + 1),
                resource_version=mark.meta.resource_version,
            )
        except Conflict:
            continue
        done += 1
        say(done)


def churn(path: Path, seed: str) -> None:
    """Create, change and delete 10 names, over and over, 40 rounds."""
    store = SqliteStore(path, busy=30)
    for number in range(400):
        name = f"name-{(number * 7 + int(seed)) % 10}"
        try:
            store.create(Vpc(name=name, spec=VpcSpec(cidr="10.0.0.0/16")))
            store.put_status(Vpc, name, VpcStatus(vni=1 + number))
        except AlreadyExists:
            store.delete(Vpc, name)
        except Exception as error:
            if type(error).__name__ != "NotFound":  # another process deleted it first
                raise


def endless(path: Path, _: str) -> None:
    """Write for ever; both parts of the status carry the number that is told."""
    store, number = SqliteStore(path, busy=30), 0
    while True:
        number += 1
        member = SetMember(place=number, host="h" * 3000, address="198.18.0.11")
        store.put_status(Vpc, "blue", VpcStatus(vni=number, members=(member,)))
        store.create(Vpc(name=f"extra-{time.monotonic_ns()}", spec=VpcSpec(cidr="10.0.0.0/16")))
        say(number)


def hold(path: Path, _: str) -> None:
    """Begin a write and never end it."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    database.execute("UPDATE objects SET status = '{\"vni\":4711}'")
    say("holding")
    time.sleep(600)


if __name__ == "__main__":
    {f.__name__: f for f in (claim, count, churn, endless, hold)}[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
