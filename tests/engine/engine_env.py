"""Runs the real Pulumi engine from tests. Used by tests/engine and by every test that brings a stack up for real."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"


def engine_env(project_dir: Path, home: Path) -> dict[str, str]:
    """The environment of `make env`, with state, plugins and passphrase of the test's own under `home`.

    `project_dir` becomes PWD, which some tools trust more than the working directory.
    """
    state = home / "state"
    state.mkdir(parents=True, exist_ok=True)
    mine = {
        "PULUMI_HOME": str(home / "pulumi"),
        "PULUMI_BACKEND_URL": f"file://{state}?metadata=skip",  # as in tools/setup/env.sh
        "PULUMI_CONFIG_PASSPHRASE": "a passphrase of the test's own",
        # A test never downloads a plugin: a missing one must fail, not be fetched.
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        # Backups of a state that lives for one test are only slower.
        "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
        "PULUMI_SKIP_CONFIRMATIONS": "true",
        "NO_COLOR": "1",
    }
    # The passphrase variables of whoever runs the tests would win over ours.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PULUMI_")}
    script = 'settings=$("$1"/tools/setup/env.sh) || exit; eval "$settings"; exec env -0'
    told = subprocess.run(
        ["bash", "-c", script, "bash", str(ROOT)], env={**clean, **mine}, capture_output=True, check=False
    )
    if told.returncode != 0:
        raise RuntimeError(told.stderr.decode().strip())
    settings = dict(each.split("=", 1) for each in told.stdout.decode().split("\0") if each)
    return {**settings, "PWD": str(project_dir)}


def run_pulumi(
    args: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float, prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run `pulumi ARGS` and return it finished, output and errors together in stdout.

    `prefix` is a command to run it under. After `timeout` seconds everything it started is killed, and the output so
    far is in the error.
    """
    argv = [*prefix, "pulumi", "--non-interactive", *args]
    with subprocess.Popen(
        argv, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    ) as child:  # fmt: skip
        try:
            out, _ = child.communicate(timeout=timeout)
        except BaseException as error:
            # The engine, not its helpers: they end with it (tools/langhost/orphan.py).
            os.killpg(child.pid, signal.SIGKILL)
            out, _ = child.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError(f"{' '.join(argv)} took over {timeout} s:\n{out}") from None
            raise
    return subprocess.CompletedProcess(argv, child.returncode, out, None)
