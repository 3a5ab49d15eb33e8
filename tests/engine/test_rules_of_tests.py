"""The rules of tests/conftest.py, on a throw-away folder of tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node_agent.model.places import StackPlaces
from tests.engine.engine_env import ROOT

SEALED = """
import asyncio, os, socket, subprocess
import pytest

@pytest.mark.parametrize("reach", [
    lambda: socket.socket(),
    lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    lambda: socket.create_connection(("127.0.0.1", 1)),
    lambda: subprocess.run(["true"]),
    lambda: os.system("true"),
    lambda: os.fork() or os._exit(0),
    lambda: os.posix_spawn("/bin/true", ["true"], {}),
])
def test_reaches_outside(reach):
    with pytest.raises(AssertionError, match="may not"):
        reach()

def test_event_loops_are_allowed():
    asyncio.run(asyncio.sleep(0))
"""


def run(folder: Path, name: str, text: str, ci: str) -> tuple[int, str]:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "test_it.py").write_text(text)
    shutil.copy(ROOT / "tests/conftest.py", folder)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = root: needs root\n")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    done = subprocess.run(argv, cwd=folder, env={**os.environ, "CI": ci}, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_pure_tests_cannot_reach_outside(tmp_path: Path) -> None:
    code, out = run(tmp_path, "unit", SEALED, ci="true")
    assert code == 0, out


def test_other_tests_can(tmp_path: Path) -> None:
    code, out = run(
        tmp_path, "lab", "import subprocess\ndef test_it(): subprocess.run(['true'], check=True)\n", ci="true"
    )
    assert code == 0, out


@pytest.mark.root
def test_stacks_of_killed_runs_are_removed_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead = [StackPlaces(f"{word}-{gone.pid}-abcdef").root for word in ("test", "e2e")]
    kept = [StackPlaces(f"e2e-{os.getpid()}-abcdef").root, StackPlaces("mine-abcdef").root]
    text = "import pytest\n@pytest.mark.root\ndef test_it(): pass\n"
    try:
        for folder in (*dead, *kept):
            folder.mkdir(parents=True)
        code, out = run(tmp_path, "lab", text.replace("@pytest.mark.root\n", ""), ci="true")
        assert code == 0 and all(folder.exists() for folder in dead), out
        code, out = run(tmp_path, "lab", text, ci="true")
        assert code == 0, out
        assert not any(folder.exists() for folder in dead) and all(folder.exists() for folder in kept)
    finally:
        for folder in (*dead, *kept):
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(("ci", "passes"), [("true", False), ("", True)])
def test_a_skip_is_not_a_pass_in_ci(tmp_path: Path, ci: str, passes: bool) -> None:
    text = "import pytest\ndef test_runs(): pass\ndef test_it(): pytest.skip('no time')\n"
    code, out = run(tmp_path, "lab", text, ci)
    assert (code == 0) == passes, out
    module = "import pytest\npytest.skip('no time', allow_module_level=True)\n"
    (tmp_path / "lab" / "test_passes.py").write_text("def test_runs(): pass\n")
    code, out = run(tmp_path, "lab", module, ci)
    assert (code == 0) == passes, out
