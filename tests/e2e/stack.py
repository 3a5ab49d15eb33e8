"""A stack of its own for a test: a copy of the project in a temporary folder, brought up by the real engine.

Used by the tests of this folder. Everything that a stack makes on the machine carries its id, so that any number of
these may run beside each other and beside a stack of the user's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from node_agent.emulation import cleanup
from node_agent.health.answers import WORKLOAD_PORT
from node_agent.kernel import netns
from node_agent.model import codec
from node_agent.model.objects import NetworkEndpoint, NetworkHost, Subnet, Vpc
from node_agent.model.places import StackPlaces, stack_id
from node_agent.store.open import open_store
from tests import probing
from tests.engine.engine_env import ROOT, engine_env, run_pulumi
from tests.waiting import until

NAME = f"e2e-{os.getpid()}"  # told from those of runs that were killed (tests/conftest.py)
COPIED = ("__main__.py", "Pulumi.yaml", "pyproject.toml", "infra", "node_agent", "bpf/build")
TIMEOUT_S = 600.0
BLUE = {
    "name": "blue",
    "cidr": "10.10.0.0/16",
    "subnets": [{"name": "blue-a", "cidr": "10.10.1.0/24"}, {"name": "blue-b", "cidr": "10.10.2.0/24"}],
}


@dataclass
class Stack:
    """`settings`: what its stack file holds; the project's name before a key may be left out."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def id(self) -> str:
        return stack_id(NAME, self.project)

    @property
    def places(self) -> StackPlaces:
        return StackPlaces(self.id)

    def pulumi(self, *args: str, ok: bool = True) -> str:
        """Run the engine; its whole output. `ok`: whether it must succeed or must fail."""
        self._write_settings()
        done = run_pulumi([*args, "--stack", NAME], self.project, self.env, TIMEOUT_S)
        assert (done.returncode == 0) is ok, f"pulumi {' '.join(args)}: code {done.returncode}:\n{done.stdout}"
        return done.stdout

    def up(self, *, ok: bool = True, preview: bool = False) -> str:
        return self.pulumi("up", "--yes", *([] if preview else ["--skip-preview"]), ok=ok)

    def destroy(self) -> str:
        return self.pulumi("destroy", "--yes", "--skip-preview")

    def kill_up_once(self, reached: Callable[[], bool]) -> None:
        """Begin an `up` and kill the engine with all its helpers as soon as `reached` says so."""
        self._write_settings()
        argv = ["pulumi", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", NAME]
        with subprocess.Popen(
            argv, cwd=self.project, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as run:  # fmt: skip
            try:
                until(lambda: run.poll() is not None or reached(), TIMEOUT_S, "the moment to kill `up`")
                assert run.poll() is None, run.communicate()[0]
            finally:
                if run.poll() is None:
                    os.killpg(run.pid, signal.SIGKILL)
                run.communicate()

    def outputs(self) -> dict[str, Any]:
        told = json.loads(self.pulumi("stack", "output", "--json"))
        assert isinstance(told, dict)
        return told

    def mizar(self, *args: str) -> subprocess.CompletedProcess[str]:
        """The project's own command, about this stack."""
        command, *rest = args
        argv = [sys.executable, "-m", "node_agent.cli.main", command, "--stack-id", self.id, *rest]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    def namespace(self, name: str) -> Path:
        return self.places.netns_path(name)

    def left(self) -> cleanup.Leftovers:
        return cleanup.leftovers(self.id)

    def close(self) -> None:
        """Remove what a failed test left, so that the next one starts clean."""
        cleanup.remove(self.id)

    def _write_settings(self) -> None:
        file = self.project / "stacks" / f"Pulumi.{NAME}.yaml"
        kept = yaml.safe_load(file.read_text()) if file.exists() else {}
        kept["config"] = {key if ":" in key else f"mizar:{key}": value for key, value in self.settings.items()}
        file.write_text(yaml.safe_dump(kept))


def committed() -> dict[str, Any]:
    """The settings of the committed stack `local`."""
    return dict(yaml.safe_load((ROOT / "stacks" / "Pulumi.local.yaml").read_text())["config"])


def make(folder: Path, **settings: Any) -> Stack:
    """A project copy with its own state, home and stack file; nothing is up yet."""
    made = Stack(folder, {"vpcs": [BLUE], **settings})
    made.project.mkdir(parents=True)
    for name in COPIED:
        source, target = ROOT / name, made.project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    (made.project / ".venv").symlink_to(ROOT / ".venv")
    (made.project / "stacks").mkdir()
    made.env = engine_env(made.project, folder / "home")
    run = run_pulumi(["stack", "init", NAME], made.project, made.env, 60)
    assert run.returncode == 0, run.stdout
    return made


def changes(output: str) -> list[str]:
    """The lines under "Resources:" of a run's output, without times."""
    lines = output.rpartition("Resources:")[2].partition("Duration")[0].splitlines()
    return [line.strip() for line in lines if line.strip()]


def world(stack: Stack) -> Mapping[str, Any]:
    """Everything of the stack that a preview must leave as it is. Heartbeats go on by themselves and are left out."""
    left = stack.left()
    names = [path.name for path in netns.listed(f"mizar-{stack.id}-", StackPlaces("x").netns_path("x").parent)]
    files = {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in stack.places.root.rglob("*")
        if path.is_file() and stack.places.bpffs not in path.parents and not path.name.startswith("store.db")
        and path.suffix != ".log"
    }  # fmt: skip
    return {
        "namespaces": {name: netns.identity(Path("/run/netns") / name) for name in names},
        "processes": left.processes,
        "mounts": left.mounts,
        "pins": sorted(str(path) for path in stack.places.bpffs.rglob("*")),
        "files": files,
        "objects": objects(stack),
        "packets": seen(stack),
    }


def objects(stack: Stack) -> dict[str, Any]:
    """The store's objects, without what changes by itself."""
    store = open_store(f"sqlite:{stack.places.store}", create=False)
    try:
        listed = [one for kind in (Vpc, Subnet, NetworkHost, NetworkEndpoint) for one in store.list(kind)]
    finally:
        store.close()
    told = {}
    for one in listed:
        plain = codec.encode(one)
        plain["status"].pop("heartbeat", None)
        plain["meta"].pop("resource_version", None)
        told[f"{one.kind} {one.name}"] = plain
    return told


def seen(stack: Stack) -> dict[str, str]:
    """Endpoint name -> what its workload has been asked and by whom."""
    script = (
        "import sys, urllib.request as r; sys.stdout.write(r.urlopen('http://127.0.0.1:8080/seen').read().decode())"
    )
    told = {}
    for folder in sorted((stack.places.root / "endpoints").iterdir()):
        run = netns.run_in(stack.namespace(folder.name), [sys.executable, "-c", script], 10)
        told[folder.name] = run.stdout
    return told


def reachable(stack: Stack, source: str, address: str, port: int = WORKLOAD_PORT) -> bool:
    return probing.tcp(stack.namespace(source), address, port=port).answered
