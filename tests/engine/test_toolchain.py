"""The engine and the language host that `make setup` prepares, on a throw-away project with one dynamic resource."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.engine.engine_env import ROOT, VENV, engine_env, run_pulumi
from tests.waiting import until

pytestmark = pytest.mark.engine

TIMEOUT_S = 90
PATIENCE = 30.0  # seconds; a bound for a loaded machine, nothing is measured by it

PROJECT = f"""
name: toolchain
runtime: {{name: python, options: {{virtualenv: "{VENV}"}}}}
config:
  content: {{type: string, default: one}}
"""

PROGRAM = """
import pulumi
from kept_file import KeptFile
config = pulumi.Config()
if config.get_bool("fail"):
    raise ValueError("the program says no")
if config.get_bool("refuse"):
    raise pulumi.RunError("refused: content: too short")
file = KeptFile("file", path="{path}", content=config.require("content"), secret=config.get_secret("key"))
pulumi.export("path", file.path)
pulumi.export("size", file.size)
pulumi.export("key", config.get_secret("key"))
"""

PROVIDER = """
import os, time
from pathlib import Path
import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, ResourceProvider, UpdateResult

class Provider(ResourceProvider):
    serialize_as_secret_always = False
    def _write(self, props):
        Path(props["path"]).write_text(props["content"])
        return {**props, "size": len(props["content"])}
    def create(self, props):
        Path(props["path"] + ".began").touch()
        time.sleep(float(os.environ.get("SLOW_CREATE_S", "0")))
        if os.environ.get("FAIL_CREATE"):
            raise RuntimeError("the provider says no")
        return CreateResult("file", self._write(props))
    def read(self, id, props):
        return ReadResult(id, props) if Path(props["path"]).exists() else ReadResult("", {})
    def diff(self, id, old, new):
        return DiffResult(changes=old["content"] != new["content"])
    def update(self, id, old, new):
        return UpdateResult(self._write(new))
    def delete(self, id, props):
        Path(props["path"]).unlink(missing_ok=True)

class KeptFile(Resource):
    path: pulumi.Output[str]
    size: pulumi.Output[int]
    def __init__(self, name, path, content, secret):
        super().__init__(Provider(), name, {"path": path, "content": content, "secret": secret, "size": None})
"""


class Project:
    """A throw-away project and its one stack."""

    def __init__(self, where: Path) -> None:
        self.directory = where / "a project"  # with a space, as a clone's path may have
        self.kept = where / "kept"
        self.directory.mkdir()
        (self.directory / "Pulumi.yaml").write_text(PROJECT)
        (self.directory / "__main__.py").write_text(PROGRAM.replace("{path}", str(self.kept)))
        (self.directory / "kept_file.py").write_text(PROVIDER)
        self.env: dict[str, str] = engine_env(self.directory, where / "home of the test")
        self.ok("stack", "init", "test")

    def run(
        self,
        *args: str,
        env: Mapping[str, str] = {},
        prefix: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        return run_pulumi(args, self.directory, {**self.env, **env}, TIMEOUT_S, prefix)

    def ok(self, *args: str, prefix: tuple[str, ...] = ()) -> str:
        done = self.run(*args, prefix=prefix)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def fails(self, *args: str, env: Mapping[str, str] = {}) -> str:
        done = self.run(*args, env=env)
        assert done.returncode != 0, done.stdout
        return done.stdout

    def helpers(self) -> list[str]:
        """Command lines of language hosts, programs and providers that run with this project's state."""
        mine = f"PULUMI_HOME={self.env['PULUMI_HOME']}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mine in (process / "environ").read_bytes().split(b"\0"):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # ended while we looked
        return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_life_of_a_stack(project: Project) -> None:
    """up, up, refresh after damage, update, destroy; secrets stay secret."""
    project.ok("config", "set", "--secret", "key", "not for everyone")
    assert "+ 2 created" in project.ok("up", "--yes")
    assert project.kept.read_text() == "one"
    assert json.loads(project.ok("stack", "output", "--json")) == {
        "path": str(project.kept), "size": 3, "key": "[secret]",
    }  # fmt: skip
    assert "not for everyone" not in project.ok("stack", "export")

    assert "2 unchanged" in project.ok("up", "--yes")
    project.ok("preview", "--expect-no-changes")

    project.kept.unlink()
    assert "- 1 deleted" in project.ok("refresh", "--yes")
    assert "+ 1 created" in project.ok("up", "--yes")
    assert project.kept.exists()

    assert "~ 1 updated" in project.ok("up", "--yes", "--config", "content=three")
    assert project.kept.read_text() == "three"

    project.ok("destroy", "--yes")
    assert not project.kept.exists()
    assert project.helpers() == []


def test_a_failing_program_says_why_and_fails(project: Project) -> None:
    out = project.fails("up", "--yes", "--config", "fail=true")
    assert "ValueError: the program says no" in out
    assert f'File "{project.directory}/__main__.py", line 6' in out
    assert "run_program.py" not in out, "frames of the language host are not the user's"


def test_a_refusal_is_one_message_without_traceback(project: Project) -> None:
    out = project.fails("preview", "--config", "refuse=true")
    assert "Traceback" not in out
    summary = out[out.index("Diagnostics:") :]  # above it the engine shows each message once as it comes
    assert summary.count("error: ") == summary.count("error: refused: content: too short") == 1


def test_a_failing_provider_says_why_and_the_next_up_recovers(project: Project) -> None:
    out = project.fails("up", "--yes", "--skip-preview", env={"FAIL_CREATE": "1"})
    assert "the provider says no" in out
    assert "created" in project.ok("up", "--yes")


def test_wrong_type_of_a_setting_is_refused_before_the_program(project: Project) -> None:
    (project.directory / "Pulumi.yaml").write_text(PROJECT.replace("type: string, default: one", "type: integer"))
    out = project.fails("preview", "--config", "content=abc", "--config", "fail=true")
    assert "must be of type 'integer'" in out
    assert "the program says no" not in out


def test_missing_environment_is_named(project: Project) -> None:
    (project.directory / "Pulumi.yaml").write_text(PROJECT.replace(str(VENV), "nowhere"))
    out = project.fails("preview")
    assert "virtualenv: no Python at" in out
    assert "nowhere/bin/python" in out


def test_about_knows_the_environment(project: Project) -> None:
    out = project.ok("about", "--transitive")
    assert str(VENV) in out
    assert "pyroute2" in out


def test_killed_engine_leaves_no_process_and_its_lock_is_found_stale(project: Project) -> None:
    began = project.kept.with_name("kept.began")
    argv = ["pulumi", "--non-interactive", "up", "--yes", "--skip-preview"]
    env = {**project.env, "SLOW_CREATE_S": "60"}
    stale = [str(VENV / "bin/python"), str(ROOT / "tools/setup/stale_lock.py"), env["PULUMI_BACKEND_URL"], "test"]
    engine = subprocess.Popen(
        argv, cwd=project.directory, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(began.exists, PATIENCE, "the program has begun")
        assert subprocess.run(stale).returncode == 1, "the engine lives, its lock is good"
    finally:
        os.kill(engine.pid, signal.SIGKILL)
        engine.wait()
    until(lambda: not project.helpers(), PATIENCE, "the end of the helpers")
    assert "locked" in project.fails("up", "--yes")
    assert subprocess.run(stale).returncode == 0
    project.ok("cancel", "--yes")
    project.ok("up", "--yes")
    assert project.kept.exists()


@pytest.mark.root
def test_works_without_any_network(project: Project) -> None:
    """Only the loopback of its own network namespace: nothing is fetched, nobody is called."""
    alone = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    assert "+ 2 created" in project.ok("up", "--yes", prefix=alone)
    assert "2 unchanged" in project.ok("up", "--yes", prefix=alone)
    project.ok("destroy", "--yes", prefix=alone)
    assert not project.kept.exists()


PLUGIN = """
import sys
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import InvokeResponse, Provider
from pulumi.provider.experimental.server import main

class Adder(Provider):
    async def invoke(self, request):
        print("asked for", request.tok, file=sys.stderr)
        return InvokeResponse({"sum": PropertyValue(request.args["a"].value + request.args["b"].value)})

main(sys.argv[1:], "1.0.0", Adder())
"""


def test_plugin_by_path_runs_in_its_own_environment(project: Project) -> None:
    plugin = project.directory / "adder"
    plugin.mkdir()
    runtime = f'runtime: {{name: python, options: {{virtualenv: "{VENV}"}}}}\n'
    (plugin / "PulumiPlugin.yaml").write_text(f"name: adder\nversion: 1.0.0\n{runtime}")
    (plugin / "__main__.py").write_text(PLUGIN)
    with (project.directory / "Pulumi.yaml").open("a") as file:
        file.write("plugins: {providers: [{name: adder, path: ./adder}]}\n")
    with (project.directory / "__main__.py").open("a") as file:
        file.write('answer = pulumi.runtime.invoke("adder:index:add", {"a": 40, "b": 2}).value\n')
        file.write('pulumi.export("sum", answer["sum"])\n')
    project.ok("up", "--yes")
    assert json.loads(project.ok("stack", "output", "--json"))["sum"] == 42
    assert project.helpers() == []


def test_policy_pack_is_started_as_an_analyzer(project: Project, tmp_path: Path) -> None:
    pack, started = tmp_path / "pack", tmp_path / "started"
    pack.mkdir()
    runtime = f'runtime: {{name: python, options: {{virtualenv: "{VENV}"}}}}\n'
    (pack / "PulumiPolicy.yaml").write_text(f"{runtime}version: 1.0.0\n")
    # The policy SDK is no dependency of the project, so the pack cannot answer; that it is asked is ours to prove.
    (pack / "__main__.py").write_text(f"open({str(started)!r}, 'w').close()\nraise SystemExit('no rules here')\n")
    project.fails("preview", "--policy-pack", str(pack))
    assert started.exists()
