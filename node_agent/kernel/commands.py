"""Runs a program to its end: the one place of the project that starts a subprocess and waits for it.

Called by `kernel.netns.run_in`, the build of providers and tests; long-lived processes are `emulation.supervisor`'s.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence

from node_agent.model.errors import Permanent

SHOWN = 2000  # characters of each output stream that an error message repeats


class CommandError(Permanent):
    """A program ended with a code other than 0, could not be started (code 127) or took too long (code -9)."""

    def __init__(self, argv: Sequence[str], code: int, stdout: str, stderr: str) -> None:
        self.argv, self.code, self.stdout, self.stderr = tuple(argv), code, stdout, stderr
        said = (stderr.strip() or stdout.strip())[-SHOWN:] or "no output"
        super().__init__(f"run {shlex.join(argv)}: code {code}: {said}")


def run(
    argv: Sequence[str],
    timeout: float,
    *,
    check: bool = True,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program, no shell; at most `timeout` seconds, after which it is killed.

    The child lives in the network namespace of the calling thread. Raises CommandError (any code but 0 if `check`).
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=env,
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = f"still running after {timeout:g} s\n{_text(error.stderr)}"
        raise CommandError(argv, -9, _text(error.stdout), said) from error
    except OSError as error:
        raise CommandError(argv, 127, "", f"{error.strerror}: {error.filename}") from error
    if check and done.returncode:
        raise CommandError(argv, done.returncode, done.stdout, done.stderr)
    return done


def _text(raw: str | bytes | None) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""
