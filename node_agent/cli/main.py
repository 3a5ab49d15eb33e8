"""Entry of the command `mizar`: parses the arguments, calls one module per command, prints.

    mizar status                     hosts, roles, programs, health
    mizar exec ENDPOINT -- CMD ...   run a command in an endpoint's network namespace
    mizar logs HOST|controller       what an agent or the controller has written
    mizar stacks                     the stacks on this machine

Exit codes: of the command for `exec`; else 0, 1 for a failure with its reason on stderr, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from node_agent.cli import execute, logs, stacks, status
from node_agent.model.errors import MizarError


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What follows "--" is the command of `exec`, whatever it looks like.
    own, tail = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    parser = _parser()
    options = parser.parse_args(own)
    if tail and options.run is not _exec:
        parser.error(f"unexpected: -- {' '.join(tail)}")
    options.argv = [*getattr(options, "argv", ()), *tail]
    try:
        code: int = options.run(options)
    except MizarError as error:
        print(f"mizar: {error}", file=sys.stderr)
        code = 1
    except PermissionError as error:
        print(f"mizar: open {error.filename}: {error.strerror}: run it as root", file=sys.stderr)
        code = 1
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    return code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--stack-id", default="", metavar="ID", help="which stack, when several are on this machine")
    common.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(prog="mizar", description="Ask a stack on this machine.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Any, told: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=told, description=told[0].upper() + told[1:] + ".")
        added.set_defaults(run=run)
        return added

    command("status", _status, "show hosts with their roles, programs, modes and health")
    inside = command("exec", _exec, "run a command in an endpoint's network namespace")
    inside.add_argument("endpoint", metavar="ENDPOINT", help="its name or address")
    inside.add_argument("argv", metavar="-- CMD", nargs="*", help="the command and its arguments")
    log = command("logs", _logs, "print what a host's agent, or the controller, has written")
    log.add_argument("whose", metavar="HOST", help="a host's name, or controller")
    log.add_argument("--follow", "-f", action="store_true", help="go on printing what it writes")
    command("stacks", _stacks, "list the stacks on this machine")
    return parser


def _status(options: argparse.Namespace) -> int:
    told = status.collect(stacks.choose(options.stack_id))
    print(json.dumps(told, indent=2) if options.json else status.text(told))
    return 0


def _exec(options: argparse.Namespace) -> int:
    argv = options.argv
    if not argv:
        print("mizar: exec: no command: mizar exec ENDPOINT -- CMD ...", file=sys.stderr)
        return 2
    path = execute.namespace(stacks.choose(options.stack_id), options.endpoint)
    if not options.json:
        sys.stdout.flush()
        return execute.replace(path, argv)
    told = execute.capture(path, argv)
    print(json.dumps(told))
    return int(told["code"])


def _logs(options: argparse.Namespace) -> int:
    path = logs.file_of(stacks.choose(options.stack_id), options.whose)
    with contextlib.suppress(KeyboardInterrupt):
        for line in logs.lines(path, follow=options.follow):
            print(json.dumps({"line": line}) if options.json else line, flush=options.follow)
    return 0


def _stacks(options: argparse.Namespace) -> int:
    known = stacks.found()
    if options.json:
        print(json.dumps([dataclasses.asdict(stack) for stack in known]))
        return 0
    for stack in known:
        print(f"{stack.id}  {stack.folder}  {len(stack.pids)} processes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
