"""How long container runtimes wait for the agent: ADD and DEL alone, and many at once, stage by stage.

    python -m node_agent.bench.cni --agent /run/mizar/<stack>/hosts/worker-1/agent.json
    python -m node_agent.bench.cni --agent A.json B.json --pods 100 --image IMAGE

The first form runs the plugin itself, in network namespaces that it makes and removes. The second makes pods, so many
on each of the agents' nodes at once, waits until all are Ready, removes them, and waits until every address is free
again. Stages are read from the agents' logs. The agents, and the cluster they are of, are yours to provide, and so is a
machine with nothing else to do: what others took of it is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from node_agent.bench import machine, pods
from node_agent.bench.figures import quantile
from node_agent.bench.runtime import Runtime, addresses
from node_agent.kernel import netns
from node_agent.model import config as configs
from node_agent.model.config import AgentConfig
from node_agent.model.errors import MizarError, Permanent

PLUGIN = Path(__file__).parents[1] / "cni" / "build" / "mizar"
GOALS = {"alone": 30.0, "burst": 100.0}  # ms, 99th percentile of ADD


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if len(options.log) not in (0, len(options.agent)):
            raise Permanent("--log: one for each --agent, or none")
        logs = options.log or [_log_of(path) for path in options.agent]
        agents = [Agent(_config(path), log) for path, log in zip(options.agent, logs, strict=True)]
        print(_facts(), flush=True)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}")
            if options.pods:
                _with_pods(agents, options)
            else:
                _by_hand(agents[0], options)
    except (MizarError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m node_agent.bench.cni", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--agent", type=Path, nargs="+", required=True, metavar="FILE", help="AgentConfig of each agent"
    )
    parser.add_argument(
        "--log",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="(default: agent.log beside it, or its pod's)",
    )
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="for pods (default: the first agent's)")
    parser.add_argument("--plugin", type=Path, default=PLUGIN, metavar="FILE", help="compiled (default: `make cni`'s)")
    parser.add_argument("--alone", type=int, default=100, metavar="N", help="one after the other (default 100)")
    parser.add_argument("--burst", type=int, default=50, metavar="N", help="at once (default 50)")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="(default 1)")
    parser.add_argument("--pods", type=int, default=0, metavar="N", help="on each node at once, instead of the plugin")
    parser.add_argument("--image", default="", help="that the nodes have, for the pods")
    return parser


def _config(path: Path) -> AgentConfig:
    """What the agent was told. Where it runs in a pod, its socket has another path there: beside the file it is too."""
    told = configs.load_agent(path.read_text())
    return told if Path(told.socket).exists() else replace(told, socket=str(path.with_name("agent.sock")))


def _log_of(config: Path) -> Path:
    """Where the agent with this configuration writes, or what the runtime of its emulated node keeps of its pod."""
    beside = config.with_name("agent.log")
    pods = config.parent.glob("node/disk/var/log/pods/mizar-system_mizar-agent-*/agent/*.log")
    kept = sorted(pods, key=lambda path: path.stat().st_mtime)
    return beside if beside.exists() or not kept else kept[-1]


@dataclass(frozen=True)
class Agent:
    """A running agent: its configuration, and its log, as it writes it or as a container runtime keeps it."""

    config: AgentConfig
    log: Path

    def mark(self) -> int:
        """Where the log ends now."""
        return self.log.stat().st_size

    def stages(self, mark: int) -> list[dict[str, float]]:
        """Stage -> ms of each ADD of a runtime that the log tells of since the mark."""
        found: list[dict[str, float]] = []
        inner: dict[str, dict[str, float]] = {}
        with self.log.open("rb") as file:
            file.seek(mark)
            for line in file:
                with contextlib.suppress(ValueError, KeyError):  # a line of another kind, or of an older agent
                    said = json.loads(line[line.index(b"{") :])
                    if said.get("event") == "endpoint added":
                        inner[said["container"]] = said["ms"]
                    elif said.get("event") == "container added":
                        # Its stage "endpoint" is all of the inner ones.
                        found.append(_spread(said["ms"], inner.pop(said["container"], {})))
        return found


def _spread(outer: dict[str, float], inner: dict[str, float]) -> dict[str, float]:
    """The stages in their order, with the inner ones in place of "endpoint", and what these do not explain."""
    rest = outer["endpoint"] - sum(inner.values())
    return {**{name: ms for name, ms in outer.items() if name != "endpoint"}, **inner, "else": round(rest, 2)}


def _by_hand(agent: Agent, options: argparse.Namespace) -> None:
    network = {"vpc": agent.config.cni.vpc, "subnet": agent.config.cni.subnet}
    said: dict[str, dict[str, str]] = {
        "io.kubernetes.cri.pod-annotations": {}
    }  # as a runtime does of a pod without annotations
    runtime = Runtime(options.plugin, Path(agent.config.socket), {**network, "runtimeConfig": said})
    with _namespaces(max(options.burst, 1)) as spaces:
        name, space = next(iter(spaces.items()))
        # The first endpoint of a VPC on a host makes its flow table, and is measured apart.
        once = Measured(agent)
        once.note("add", [run.took for run in runtime.run("ADD", {name: space})])
        once.show("first of its VPC")
        runtime.run("DEL", {name: space})
        _alone(agent, runtime, {name: space}, options.alone)
        if options.burst:
            measured = Measured(agent)
            added = runtime.run("ADD", spaces)
            measured.note("add", [run.took for run in added])
            if len(set(addresses(added))) != len(spaces):
                raise Permanent(f"ADD {len(spaces)} containers: they got {len(set(addresses(added)))} addresses")
            measured.note("del", [run.took for run in runtime.run("DEL", spaces)])
            measured.show(f"{len(spaces)} at once", goal=GOALS["burst"])


def _alone(agent: Agent, runtime: Runtime, container: Mapping[str, Path], times: int) -> None:
    """Beside one that stays, so that the VPC keeps its flow table."""
    with _namespaces(1, "stays") as stays:
        runtime.run("ADD", stays)
        try:
            measured = Measured(agent)
            for _ in range(times):
                measured.note("add", [run.took for run in runtime.run("ADD", container)])
                measured.note("del", [run.took for run in runtime.run("DEL", container)])
            measured.show("alone", goal=GOALS["alone"])
        finally:
            runtime.run("DEL", stays)


def _with_pods(agents: Sequence[Agent], options: argparse.Namespace) -> None:
    measured = Measured(*agents)
    store = f"kubernetes:{options.kubeconfig.resolve()}" if options.kubeconfig else agents[0].config.store
    told = pods.measure(store, [agent.config.host for agent in agents], options.pods, options.image)
    totals = [sum(stages.values()) / 1e3 for stages in measured.stages()]
    measured.note("add", totals)
    measured.show(f"{options.pods} pods per node at once", goal=GOALS["burst"])
    print(f"  {told}", flush=True)


class Measured:
    """Between its making and `show`."""

    def __init__(self, *agents: Agent) -> None:
        self._agents = [(agent, agent.mark()) for agent in agents]
        self._took: dict[str, list[float]] = {}
        self._others = machine.Others(pid for agent in agents for pid in _pids(agent))
        self._cpu = {agent.config.host: _cpu(agent) for agent in agents}
        self._began = time.monotonic()

    def note(self, verb: str, seconds: Sequence[float]) -> None:
        self._took.setdefault(verb, []).extend(seconds)

    def stages(self) -> list[dict[str, float]]:
        return [stages for agent, mark in self._agents for stages in agent.stages(mark)]

    def show(self, title: str, goal: float = 0.0) -> None:
        cpu = {agent.config.host: _cpu(agent) - self._cpu[agent.config.host] for agent, _ in self._agents}
        others = self._others.share()
        print(f"  {title} ({time.monotonic() - self._began:.1f} s, others took {100 * others:.0f} % of the CPUs)")
        print(_head())
        for verb, seconds in self._took.items():
            if seconds:
                print(_row(verb.upper(), [1e3 * each for each in seconds]))
        stages: dict[str, list[float]] = {}
        for each in self.stages():
            for name, ms in each.items():
                stages.setdefault(name, []).append(ms)
        for name, values in stages.items():
            print(_row(f"  {name}", values))
        number = max(1, len(self._took.get("add", ())))
        told = ", ".join(f"{host} {1e3 * seconds / number:.1f}" for host, seconds in cpu.items())
        print(f"    CPU of the agents, ms per ADD (with its DEL): {told}")
        if goal and (added := self._took.get("add")):
            reached = 1e3 * quantile(added, 0.99)
            print(f"    goal: ADD p99 <= {goal:g} ms: {'met' if reached <= goal else 'missed'}")
        sys.stdout.flush()


def _head() -> str:
    return f"    {'ms':<14}" + "".join(f"{head:>9}" for head in ("n", "p50", "p99", "max", "mean"))


def _row(name: str, values: Sequence[float]) -> str:
    numbers = (quantile(values, 0.5), quantile(values, 0.99), max(values), sum(values) / len(values))
    return f"    {name:<14}{len(values):>9}" + "".join(f"{number:>9.1f}" for number in numbers)


@contextlib.contextmanager
def _namespaces(number: int, word: str = "pod") -> Iterator[dict[str, Path]]:
    """Name -> network namespace of so many new containers."""
    names = [f"bench-{os.getpid()}-{word}-{n}" for n in range(number)]
    spaces = {name: Path("/run/netns") / f"mizar-{name}" for name in names}
    try:
        for path in spaces.values():
            netns.create(path)
        yield spaces
    finally:
        for path in spaces.values():
            netns.delete(path)


def _pids(agent: Agent) -> list[int]:
    with contextlib.suppress(OSError, ValueError):
        return [int(agent.log.with_name("agent.pid").read_text().split()[0])]
    return []


def _cpu(agent: Agent) -> float:
    """Seconds of CPU that the agent has used, user and system."""
    total = 0
    for pid in _pids(agent):
        with contextlib.suppress(OSError):
            fields: list[Any] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _facts() -> str:
    here = machine.describe()
    load = Path("/proc/loadavg").read_text().split()[0]
    return f"{here.processor}, {here.cpus} CPUs, Linux {here.kernel}; load {load}"


if __name__ == "__main__":
    sys.exit(main())
