"""Entry of the command `mizar`: parses the arguments, calls one module per command, prints.

    mizar status                     hosts, roles, programs, health
    mizar exec ENDPOINT -- CMD ...   run a command in an endpoint's network namespace, or in a pod
    mizar logs HOST|controller|ENDPOINT   what an agent, the controller or an endpoint's program has written
    mizar flows HOST                 what a host's programs remember of flows
    mizar drops [HOST]               packets that were dropped, and why
    mizar trace SRC DST              a packet's way through the real programs, without sending it
    mizar metrics HOST|controller    figures for Prometheus
    mizar rebalance                  have VPC sets chosen anew
    mizar bench                      measure; its arguments are those of `python -m node_agent.bench`
    mizar stacks                     the stacks on this machine

Exit codes: of the command for `exec`; else 0, 1 for a failure with its reason on stderr, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from node_agent.cli import drops, flows, kinds, logs, names, rebalance, stacks, status, trace
from node_agent.model.errors import Invalid, MizarError
from node_agent.model.places import StackPlaces


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["bench"]:
        return _bench(given[1:])
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
    which = common.add_mutually_exclusive_group()
    which.add_argument("--stack", default="", metavar="NAME", help=f"of this project's; {stacks.LOCAL} unless given")
    which.add_argument(
        "--stack-id", default="", metavar="ID", help="any on this machine; else what MIZAR_STACK_ID says"
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(prog="mizar", description="Ask a stack on this machine.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Any, told: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[common], help=told, description=told[0].upper() + told[1:] + ".")
        added.set_defaults(run=run)
        return added

    command("status", _status, "show hosts with their roles, programs, modes and health")
    inside = command("exec", _exec, "run a command in an endpoint's network namespace, or in a pod")
    inside.add_argument("endpoint", metavar="ENDPOINT", help="its name or address")
    inside.add_argument("argv", metavar="-- CMD", nargs="*", help="the command and its arguments")
    log = command("logs", _logs, "print what a host's agent, the controller, or an endpoint's program has written")
    log.add_argument("whose", metavar="HOST", help="a host's name, controller, or an endpoint's name or address")
    log.add_argument("--follow", "-f", action="store_true", help="go on printing what it writes")
    _add_packet_commands(command)
    figures = command("metrics", _metrics, "print the figures of a host's agent, or of the controller, for Prometheus")
    figures.add_argument("whose", metavar="HOST", help="a host's name, or controller")
    again = command("rebalance", _rebalance, "have the controller choose VPC sets anew, make before break")
    again.add_argument("--vpc", default="", metavar="V", help="only this VPC")
    again.add_argument("--dry-run", action="store_true", help="only say what would change")
    command("stacks", _stacks, "list the stacks on this machine")
    # Never parsed here: for the list of commands only.
    commands.add_parser("bench", add_help=False, help="measure Mizar beside kernel VXLAN, in namespaces of its own")
    return parser


def _add_packet_commands(command: Callable[[str, Any, str], argparse.ArgumentParser]) -> None:
    kept = command("flows", _flows, "show what a host's programs remember: flows, NAT pairs, open questions")
    kept.add_argument("host", metavar="HOST")
    kept.add_argument("--vpc", default="", metavar="V", help="only this VPC")
    kept.add_argument("--endpoint", default="", metavar="E", help="only from or to this endpoint: its name or address")
    kept.add_argument("--all", action="store_true", help="also entries that no packet uses any more")
    lost = command("drops", _drops, "show packets that the programs dropped, by reason, VPC and host")
    lost.add_argument("host", metavar="HOST", nargs="?", default="", help="only this host")
    way = command("trace", _trace, "explain a packet's way through the real programs, without sending it")
    way.add_argument("source", metavar="SRC", help="the sending endpoint: its name or address")
    way.add_argument("destination", metavar="DST", help="an endpoint's or a service's name, or an address")
    way.add_argument("--proto", default="icmp", choices=sorted(trace.NUMBERS), help="icmp unless given")
    way.add_argument("--port", type=int, default=0, metavar="N", help="the destination's, for tcp and udp")
    way.add_argument(
        "--source-port", type=int, default=0, metavar="N", help="of a flow there is; else one of a new flow (icmp: id)"
    )


def _chosen(options: argparse.Namespace) -> StackPlaces:
    # A name on the command line says more than the environment.
    id_ = options.stack_id or ("" if options.stack else os.environ.get("MIZAR_STACK_ID", ""))
    return stacks.choose(id_, options.stack)


def _status(options: argparse.Namespace) -> int:
    told = status.collect(_chosen(options))
    print(json.dumps(told, indent=2) if options.json else status.text(told))
    return 0


def _exec(options: argparse.Namespace) -> int:
    argv = options.argv
    if not argv:
        print("mizar: exec: no command: mizar exec ENDPOINT -- CMD ...", file=sys.stderr)
        return 2
    places = _chosen(options)
    kind, endpoint = kinds.of(places), names.endpoint(names.endpoints(places), options.endpoint)
    if not options.json:
        sys.stdout.flush()
        return kind.execute(endpoint, argv)
    told = kind.captured(endpoint, argv)
    print(json.dumps(told))
    return int(told["code"])


def _logs(options: argparse.Namespace) -> int:
    with contextlib.suppress(KeyboardInterrupt):
        for line in logs.lines(_chosen(options), options.whose, follow=options.follow):
            print(json.dumps({"line": line}) if options.json else line, flush=options.follow)
    return 0


def _flows(options: argparse.Namespace) -> int:
    told = flows.collect(_chosen(options), options.host, vpc=options.vpc, endpoint=options.endpoint, every=options.all)
    print(json.dumps(told, indent=2) if options.json else flows.text(told))
    return 0


def _drops(options: argparse.Namespace) -> int:
    told = drops.collect(_chosen(options), options.host)
    print(json.dumps(told, indent=2) if options.json else drops.text(told))
    return 0


def _trace(options: argparse.Namespace) -> int:
    asked = trace.Question(
        source=options.source,
        destination=options.destination,
        protocol=options.proto,
        port=options.port,
        source_port=options.source_port,
    )
    if mistakes := asked.mistakes():
        print(f"mizar: {Invalid(mistakes)}", file=sys.stderr)
        return 2
    # What it put up is taken down on the way out, also when it is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    told = trace.collect(_chosen(options), asked)
    print(json.dumps(told, indent=2) if options.json else trace.text(told))
    return 0


def _metrics(options: argparse.Namespace) -> int:
    from node_agent.cli import metrics  # its library is slow to load, and no other command needs it

    text = metrics.fetch(_chosen(options), options.whose)
    print(json.dumps(metrics.samples(text)) if options.json else text, end="\n" if options.json else "")
    return 0


def _rebalance(options: argparse.Namespace) -> int:
    told = rebalance.collect(_chosen(options), options.vpc, dry=options.dry_run)
    print(json.dumps(told, indent=2) if options.json else rebalance.text(told))
    return 0


def _bench(arguments: Sequence[str]) -> int:
    from node_agent.bench.__main__ import main as bench  # much to load, and no other command needs it

    return bench(arguments)


def _stacks(options: argparse.Namespace) -> int:
    known = stacks.found()
    if options.json:
        print(json.dumps([dataclasses.asdict(stack) for stack in known]))
        return 0
    print(stacks.text(known))
    return 0


if __name__ == "__main__":
    sys.exit(main())
