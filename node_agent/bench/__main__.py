"""`python -m node_agent.bench`, which `make bench` runs: measures, then prints tables (or JSON) on stdout.

Exit codes: 0; 1 for a failure, with its reason on stderr; 2 for wrong arguments. A missed goal is told, not failed:
this is no test.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from node_agent.bench import report, traffic
from node_agent.bench.run import run
from node_agent.bench.scenarios import BOUNCER_GOAL, FIGURES, GOALS, SCENARIOS, Scenario
from node_agent.model.errors import MizarError

TOOLS = {"ip": "iproute2", "bridge": "iproute2", "make": "make", traffic.COMPILER: "clang"}


class Teller:
    """Says how it goes, and ends the run there once that is asked for: between two steps, where nothing is half done.
    An exception out of a signal handler may strike anywhere, in the midst of removing things too."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._ending = quiet, False

    def end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True

    def say(self, line: str) -> None:
        if not self._quiet:
            print(line, file=sys.stderr, flush=True)
        if self._ending:
            raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(given)
    if options.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:<22} {scenario.told}")
        return 0
    mistakes = _mistakes(options)
    if mistakes:
        parser.error("; ".join(mistakes))
    if missing := _missing():
        print(f"bench: {missing}", file=sys.stderr)
        return 1
    teller = Teller(quiet=options.quiet)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, teller.end)
    try:
        result = run(_chosen(options.only), options.rounds, options.seconds, options.mode, teller.say)
    except MizarError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; what it had made is removed", file=sys.stderr)
        return 1
    command = " ".join(["python -m node_agent.bench", *given])
    told = report.text(result, FIGURES, GOALS, BOUNCER_GOAL, command)
    if options.into:
        options.into.write_text(report.pasted(options.into.read_text(), told))
    print(report.as_json(result, FIGURES, command) if options.json else told.rstrip("\n"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m node_agent.bench",
        description="Measure the local stack beside kernel VXLAN, a TC overlay and the bare underlay, in namespaces of "
        "its own. An idle machine is yours to provide: what others took of it is printed with the figures.",
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each measurement (default 2)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these scenarios, as --list names them")
    parser.add_argument(
        "--mode",
        choices=("generic", "native", "tc"),
        default="generic",
        help="hook of Mizar's uplinks (default generic)",
    )
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="write the tables into this document too, between its two markers"
    )
    parser.add_argument("--json", action="store_true", help="print every sample as JSON")
    parser.add_argument("--quiet", action="store_true", help="say nothing on stderr while measuring")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    return parser


def _mistakes(options: argparse.Namespace) -> list[str]:
    """Every wrong argument, one sentence each."""
    found = []
    if options.rounds < 1:
        found.append(f"--rounds: {options.rounds} is less than 1")
    if not 0.05 <= options.seconds <= 60:
        found.append(f"--seconds: {options.seconds:g} is not within 0.05 and 60")
    names = {scenario.name for scenario in SCENARIOS}
    found += [f"--only: {name!r} is no scenario (--list names them)" for name in options.only if name not in names]
    if options.into:
        try:
            report.pasted(options.into.read_text(), "")
        except (OSError, MizarError) as error:
            found.append(f"--into: {options.into}: {getattr(error, 'strerror', None) or error}")
    return found


def _missing() -> str:
    """What this machine or user lacks, in one sentence; "" for nothing."""
    if os.geteuid() != 0:
        return "make network namespaces: needs root"
    absent = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    return (
        f"measure: missing on this machine: {', '.join(absent)} (Debian packages; `make setup` installs them)"
        if absent
        else ""
    )


def _chosen(names: Sequence[str]) -> list[Scenario]:
    return [scenario for scenario in SCENARIOS if not names or scenario.name in names]


if __name__ == "__main__":
    sys.exit(main())
