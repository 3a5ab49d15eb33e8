"""Every scenario of the benchmark runs once in its shortest form and yields figures; how large is not judged."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node_agent.bench.scenarios import SCENARIOS
from node_agent.emulation import cleanup
from tests.waiting import until

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
BENCH = (sys.executable, "-m", "node_agent.bench", "--rounds", "1", "--seconds", "0.05")
COUNTS = ("retransmits", "lost")  # figures that are best when they are 0


def left(pid: int) -> bool:
    return f"bench-{pid}" in cleanup.ids()


def test_every_scenario_yields_its_figures() -> None:
    with subprocess.Popen([*BENCH, "--json"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as bench:
        out, errors = bench.communicate(timeout=300)
    assert bench.returncode == 0, errors.decode()
    found = {(s["figure"], s["subject"]): s["value"] for s in json.loads(out)["samples"]}
    for scenario in SCENARIOS:
        for figure in scenario.figures:
            for subject in scenario.subjects:
                value = found.pop((figure.name, subject))
                assert value > 0 or figure.name.endswith(COUNTS), f"{figure.name} of {subject}: {value}"
    assert not found
    assert not left(bench.pid)


def test_a_run_that_is_told_to_end_leaves_nothing() -> None:
    with subprocess.Popen([*BENCH, "--only", "memory"], cwd=ROOT, stderr=subprocess.DEVNULL) as bench:
        until(lambda: left(bench.pid), 60, "something to leave", pause=0.05)
        os.kill(bench.pid, signal.SIGTERM)
        assert bench.wait(timeout=60) == 1
    assert not left(bench.pid)
