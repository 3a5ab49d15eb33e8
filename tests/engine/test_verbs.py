"""The verbs of the Makefile that bring a stack up and down, on a copy of the tools with a program of two lines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.engine.engine_env import ROOT, VENV
from tests.waiting import until

pytestmark = pytest.mark.engine
PATIENCE = 30.0  # seconds; a bound for a loaded machine, nothing is measured by it

PROJECT = "name: verbs\nruntime: {name: python, options: {virtualenv: .venv}}\nstackConfigDir: stacks\n"
PROGRAM = """
import os, time
import pulumi
if not pulumi.runtime.is_dry_run():
    open("began", "w").close()
    time.sleep(float(os.environ.get("SLOW_S", "0")))
pulumi.export("answer", 42)
"""


class Clone:
    """A directory that looks like a clone of the project after `make setup`."""

    def __init__(self, where: Path) -> None:
        self.root = where / "a clone"
        shutil.copytree(ROOT / "tools" / "setup", self.root / "tools" / "setup")
        for part in ("engine", "langhost"):  # they name the engine in the cache
            shutil.copytree(ROOT / "tools" / part, self.root / "tools" / part)
        shutil.copy(ROOT / "Makefile", self.root)
        # Set-up would make the environment anew for this path; what it makes is tested by having run these tests.
        (self.root / "tools/setup/setup.sh").write_text("#!/bin/sh\n")
        (self.root / ".venv").symlink_to(VENV)
        (self.root / "stacks").mkdir()
        (self.root / "Pulumi.yaml").write_text(PROJECT)
        (self.root / "__main__.py").write_text(PROGRAM)
        local = (ROOT / "stacks/Pulumi.local.yaml").read_text()
        salt = next(line for line in local.splitlines() if line.startswith("encryptionsalt:"))
        self.settings = self.root / "stacks/Pulumi.local.yaml"
        self.settings.write_text(f"# kept as written\n{salt}\n")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "MAKE"))}
        # The environment of the project under test may be that of this shell.
        self.env.pop("MIZAR_ENV_OF", None)

    def make(self, *args: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["make", *args], cwd=self.root, env={**self.env, **env}, capture_output=True, text=True, timeout=90,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_up_outputs_down_down(clone: Clone) -> None:
    before = clone.settings.read_bytes()
    clone.make("up")
    assert json.loads(clone.make("-s", "outputs").stdout) == {"answer": 42}
    assert "1 unchanged" in clone.make("up").stdout
    clone.make("refresh")
    clone.make("down")
    assert clone.settings.read_bytes() == before, "no verb may write into a committed file"
    assert not list((clone.root / ".pulumi-state").rglob("local.json"))
    assert "nothing to destroy" in clone.make("down").stderr


def test_down_before_any_up_is_no_error(clone: Clone) -> None:
    assert "nothing to destroy" in clone.make("down").stderr
    assert not (clone.root / ".pulumi-state").exists()


def test_preview_needs_no_stack_and_makes_nothing(clone: Clone) -> None:
    assert "1 to create" in clone.make("preview").stdout
    assert clone.make("-s", "outputs").stdout.strip() == "{}"


def test_up_repairs_a_killed_up(clone: Clone) -> None:
    victim = subprocess.Popen(
        ["tools/setup/stack.sh", "up", "local"], cwd=clone.root, env={**clone.env, "SLOW_S": "60"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until((clone.root / "began").exists, PATIENCE, "the program has begun")
    finally:
        os.kill(victim.pid, signal.SIGKILL)  # stack.sh became pulumi by exec
        victim.wait()
    assert list((clone.root / ".pulumi-state").rglob("locks/**/*.json"))
    # Sidecars are not written whole or not at all, as states are.
    assert not list((clone.root / ".pulumi-state").rglob("*.attrs"))
    assert "its lock is dropped" in clone.make("up").stderr
    assert json.loads(clone.make("-s", "outputs").stdout) == {"answer": 42}


def test_own_settings_win_and_plain_pulumi_works(clone: Clone, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    clone.make("up", "STACK=own", PULUMI_BACKEND_URL=f"file://{mine}", PULUMI_CONFIG_PASSPHRASE="x")
    assert (mine / ".pulumi").exists()
    assert not (clone.root / ".pulumi-state").exists()
    shell = 'eval "$(make -s env)" && pulumi stack init local && pulumi up --stack local --yes && pulumi stack output'
    done = subprocess.run(["bash", "-c", shell], cwd=clone.root, env=clone.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "42" in done.stdout


def test_environment_of_another_clone_is_not_taken_over(clone: Clone) -> None:
    other = "/somewhere/else"
    left = {"MIZAR_ENV_OF": other, "PULUMI_BACKEND_URL": f"file://{other}/.pulumi-state?metadata=skip"}
    script = 'eval "$(make -s env)"; echo "$PULUMI_BACKEND_URL"'
    done = subprocess.run(
        ["bash", "-c", script], cwd=clone.root, env={**clone.env, **left}, capture_output=True, text=True
    )
    assert done.stdout.strip() == f"file://{clone.root}/.pulumi-state?metadata=skip"


def test_the_environment_has_the_kubectl_that_was_built_behind_any_of_the_users_own(
    clone: Clone, tmp_path: Path
) -> None:
    for part in ("kubernetes", "containerd"):
        shutil.copytree(ROOT / "tools" / part, clone.root / "tools" / part)
    cache = tmp_path / "cache"
    cache.mkdir()
    for engine in Path(os.environ.get("MIZAR_CACHE", Path.home() / ".cache/mizar")).glob("engine-*"):
        (cache / engine.name).symlink_to(engine)
    env = {**clone.env, "MIZAR_CACHE": str(cache), "PATH": ":".join(_without_built_tools(clone.env["PATH"]))}

    def told(*argv: str) -> list[str]:
        done = subprocess.run(argv, cwd=clone.root, env=env, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    shell = 'eval "$(make -s env)" && eval "$(make -s env)" && type -aP kubectl || true'
    before = told("bash", "-c", shell)
    [built] = [line.partition("=")[2] for line in told("tools/setup/kubernetes.sh", "--where") if "kubernetes-" in line]
    tool = Path(built) / "kubectl"
    tool.parent.mkdir()
    tool.touch(0o755)
    assert told("bash", "-c", shell) == [*before, str(tool)]


def _without_built_tools(path: str) -> list[str]:
    return [folder for folder in path.split(":") if "/kubernetes-" not in folder]


def test_nobody_else_reads_the_state_which_holds_a_clusters_keys(clone: Clone) -> None:
    state = clone.root / ".pulumi-state"
    for _ in ("made", "opened to all by an earlier version"):
        clone.make("-s", "env")
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        state.chmod(0o755)
