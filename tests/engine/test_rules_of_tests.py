"""The rules of tests/conftest.py, on a throw-away folder of tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("reason", "ci", "passes"),
    [
        ("no time", "true", False),
        ("no time", "", True),
        ("needs a cloud account: gce", "true", True),
    ],
)
def test_a_skip_is_not_a_pass_in_ci(tmp_path: Path, reason: str, ci: str, passes: bool) -> None:
    text = f"import pytest\ndef test_runs(): pass\ndef test_it(): pytest.skip({reason!r})\n"
    code, out = run(tmp_path, "lab", text, ci)
    assert (code == 0) == passes, out
    module = f"import pytest\npytest.skip({reason!r}, allow_module_level=True)\n"
    (tmp_path / "lab" / "test_passes.py").write_text("def test_runs(): pass\n")
    code, out = run(tmp_path, "lab", module, ci)
    assert (code == 0) == passes, out
