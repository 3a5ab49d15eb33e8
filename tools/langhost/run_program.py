"""Runs one Pulumi program to its end. Started by host.py in the project's interpreter, one process per run.

The only argument is a JSON object (`Call` below); the stack's config comes in the two environment variables that the
SDK reads. Exit codes are host.py's contract: 0 done, 32 failed and the user has been told, other: failed untold.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypedDict

import pulumi
import pulumi.runtime
from pulumi.runtime.stack import run_in_stack

TOLD_THE_USER = 32
# The SDK keeps a thread per resource call in flight; fewer would make the engine's --parallel a lie.
_THREADS_PER_PARALLEL = 4


class Call(TypedDict):
    """What host.py passes."""

    monitor: str
    engine: str
    project: str
    stack: str
    organization: str
    root_directory: str
    working_directory: str
    program: str
    args: list[str]
    parallel: int
    dry_run: bool


def _configure(call: Call) -> None:
    pulumi.runtime.set_all_config(pulumi.runtime.get_config_env(), pulumi.runtime.get_config_secret_keys_env())
    pulumi.runtime.configure(
        pulumi.runtime.Settings(
            monitor=call["monitor"],
            engine=call["engine"],
            project=call["project"],
            stack=call["stack"],
            parallel=call["parallel"],
            dry_run=call["dry_run"],
            organization=call["organization"],
            root_directory=call["root_directory"],
        )
    )


def _from_program(error: BaseException, program: str) -> str:
    """The traceback from the program's entry file on: the frames of this file and the SDK above it tell nothing."""
    entry = os.path.abspath(os.path.join(program, "__main__.py") if os.path.isdir(program) else program)
    frame: TracebackType | None = error.__traceback__
    while frame is not None and os.path.abspath(frame.tb_frame.f_code.co_filename) != entry:
        frame = frame.tb_next
    # No such frame: the error comes from a callback (an apply), whose own frames are all there is.
    return "".join(traceback.format_exception(type(error), error, frame or error.__traceback__))


def main(call: Call) -> int:
    """Run the program and return the exit code."""
    sys.path.pop(0)  # this file's own directory: its modules are not the program's
    sys.argv = [call["program"], *call["args"]]
    os.chdir(call["working_directory"])
    _configure(call)
    # A program that fails leaves unresolved futures behind; asyncio's complaints about them hide the one real error.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pool = ThreadPoolExecutor(max_workers=_THREADS_PER_PARALLEL * max(1, call["parallel"]))
    loop.set_default_executor(pool)

    def program() -> None:
        runpy.run_path(call["program"], run_name="__main__")

    code = 0
    try:
        loop.run_until_complete(run_in_stack(program))
    except KeyboardInterrupt:
        code = TOLD_THE_USER  # the engine was asked to stop and says so itself
    except pulumi.RunError as error:  # the program's way to fail with a message and no traceback
        pulumi.log.error(str(error))
        code = TOLD_THE_USER
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            pulumi.log.error(error.code)
            code = TOLD_THE_USER
    except BaseException as error:  # everything else is a mistake in the program: show where
        pulumi.log.error("Program failed with an unhandled exception:\n" + _from_program(error, call["program"]))
        code = TOLD_THE_USER
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        loop.close()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
