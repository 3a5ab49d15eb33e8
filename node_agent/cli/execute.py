"""Commands inside an endpoint's network namespace, as its own program would run. Called by `mizar exec`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from node_agent.kernel import netns

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as a shell has them


def replace(path: Path, argv: Sequence[str]) -> int:
    """Become that command, inside the namespace. Returns a code only when the command cannot be started."""
    with netns.enter(path):
        try:
            os.execvp(argv[0], list(argv))
        except OSError as error:
            print(f"mizar: run {argv[0]}: {error.strerror}", file=sys.stderr)
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def capture(path: Path, argv: Sequence[str]) -> dict[str, Any]:
    """Run it to its end: {"code", "stdout", "stderr"}."""
    with netns.enter(path):
        try:
            done = subprocess.run(list(argv), capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            return {"code": code, "stdout": "", "stderr": f"{argv[0]}: {error.strerror}\n"}
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
