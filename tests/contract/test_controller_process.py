"""The controller as its supervisor runs it: a process, a config file, a store that may not be there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node_agent.model.config import ControllerConfig, dump
from node_agent.model.objects import NetworkHost, NetworkHostSpec, NetworkHostStatus, Vpc, VpcSpec
from node_agent.store.sqlite import SqliteStore
from node_agent.store.sqlite_file import store_files
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0  # seconds; a bound for a loaded machine, nothing is measured by it


@contextlib.contextmanager
def controller(path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The process and the file of its log."""
    config, log = path.with_name("controller.json"), path.with_name("controller.log")
    config.parent.mkdir(exist_ok=True)
    config.write_text(dump(ControllerConfig(stack_id="test-000000", store=f"sqlite:{path}")))
    command = [sys.executable, "-m", "node_agent.controller", "--config", str(config)]
    with log.open("ab") as stderr, subprocess.Popen(command, cwd=ROOT, stderr=stderr) as process:
        try:
            yield process, log
        finally:
            process.kill()


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]


def wait_for_trouble(log: Path, after: int = 0) -> None:
    """Until it said, behind so many lines, that something is not as it should be."""
    until(lambda: any(line["event"] == "trouble" for line in lines(log)[after:]), PATIENCE, "its complaint")


def fill(store: SqliteStore) -> None:
    for n in (1, 2, 3):
        store.create(
            NetworkHost(
                name=f"host-{n}",
                spec=NetworkHostSpec(address=f"198.18.0.{10 + n}"),
                status=NetworkHostStatus(heartbeat=time.time(), ready=True),
            )
        )
    store.create(Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16")))


def test_it_waits_for_its_store_and_survives_its_loss(path: Path) -> None:
    with controller(path) as (process, log):
        until(
            lambda: any(line["event"] == "trouble" for line in lines(log)),
            PATIENCE,
            "the controller's word that it has no store",
        )
        assert not path.exists(), "the controller makes no store"
        for _ in range(2):
            store = SqliteStore(path)
            fill(store)
            until(lambda store=store: len(store.get(Vpc, "blue").status.members) == 3, PATIENCE, "three members")  # type: ignore[misc]
            assert store.get(Vpc, "blue").status.vni == 1000
            store.close()
            for file in store_files(path):
                file.unlink(missing_ok=True)
            said = len(lines(log))
            until(
                lambda said=said: any(e["event"] == "trouble" for e in lines(log)[said:]),
                PATIENCE,
                "the controller's word that its store is gone",
            )  # type: ignore[misc]
        assert not path.exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert lines(log)[-1]["event"] == "stopped"


def test_killed_at_any_moment_the_next_one_goes_on(path: Path) -> None:
    store = SqliteStore(path)
    fill(store)
    vnis: set[int] = set()
    for turn in range(4):
        with controller(path) as (process, _):
            for n in range(6):
                store.create(Vpc(name=f"vpc-{turn}-{n}", spec=VpcSpec(cidr="10.0.0.0/16")))
            until(lambda turn=turn: store.get(Vpc, f"vpc-{turn}-0").status.vni > 0, PATIENCE, "a VNI")  # type: ignore[misc]
            os.kill(process.pid, signal.SIGKILL)
    with controller(path):
        until(lambda: all(vpc.status.vni for vpc in store.list(Vpc)), PATIENCE, "VNIs for all")
    vnis = {vpc.status.vni for vpc in store.list(Vpc)}
    assert len(vnis) == 25, "every VPC has a number of its own"
    store.close()


def test_a_useless_config_is_refused_with_every_mistake(path: Path) -> None:
    path.parent.mkdir()
    config = path.with_name("controller.json")
    config.write_text('{"stack": "x"}')
    for file, expected in ((config, "stack_id: missing"), (path.with_name("none.json"), "No such file")):
        command = [sys.executable, "-m", "node_agent.controller", "--config", str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
        assert done.returncode == 1
        assert expected in json.loads(done.stderr.splitlines()[-1])["cause"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_also_while_it_waits_for_a_store(path: Path, number: int) -> None:
    with controller(path) as (process, log):
        until(
            lambda: any(line["event"] == "trouble" for line in lines(log)),
            PATIENCE,
            "the controller's word that it has no store",
        )
        process.send_signal(number)
        assert process.wait(10) == 0
