"""`python -m tools.conformance.run --stack STACK`: Kubernetes' own network specs against a stack that is up.

Called by `make conformance`. Prints each chosen spec with its verdict and seconds, and ends with 0 when all of them
passed. `--list` prints which are chosen and which are left out, with the reasons, and asks no cluster.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.plan import CONTROL
from infra.providers.host_port import HostPortProps, HostPortProvider
from infra.targets.local_k8s import SERVICES
from node_agent.model.errors import MizarError
from node_agent.model.places import StackPlaces
from tools.conformance import images, specs
from tools.conformance.specs import Group

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent
PROVIDED = "skeleton"
SPEC_SECONDS, SUITE_SECONDS = 900, 7200
WIDTH = 118


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What is tested. `kubeconfig`: a file that works here. `hosts`: nodes that pods may come to. `ports`: what gives
    every host a way to pods, for the time of the run."""

    kubeconfig: Path
    stack_id: str
    hosts: tuple[str, ...]
    ports: tuple[HostPortProps, ...] = ()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make conformance", description="Kubernetes' own network specs.")
    parser.add_argument("--stack", default="local-k8s", help="a stack that is up (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="only say what would be run, and what not, and why")
    parser.add_argument("--only", metavar="REGEX", default="", help="of the chosen specs, those whose name has it")
    parser.add_argument("--logs", type=Path, help="folder for the whole output (default: a new one in /tmp)")
    given = parser.parse_args(arguments)
    try:
        built = Path(_run([str(ROOT / "tools/setup/conformance.sh")]).strip())
        names = known(built)
        chosen = choose(names, specs.groups((FOLDER / "specs.toml").read_text()), given.only, print_all=given.list)
        if given.list:
            return 0
        logs = given.logs or Path(tempfile.mkdtemp(prefix="conformance-"))
        return judge(built, cluster_of(given.stack), chosen, logs)
    except (MizarError, OSError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2


def known(built: Path) -> tuple[str, ...]:
    """Names of all network specs that the program has."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        everything = ["--ginkgo.focus=\\[sig-network\\]", "--ginkgo.dry-run", f"--ginkgo.json-report={report}"]
        _run([str(built / "e2e.test"), *everything, "--kubeconfig=/nonexistent"], quiet=True)
        found = specs.all_names(json.loads(report.read_text()))
    return tuple(name for name in found if name.startswith("[sig-network] "))


def choose(names: Sequence[str], groups: Sequence[Group], only: str, *, print_all: bool) -> tuple[str, ...]:
    """The specs to run; says how many there are of each group. Raises MizarError for a list that does not fit."""
    sorted_in, nowhere = specs.sort(names, groups)
    wrong = [f"in no group: {name}" for name in nowhere]
    wrong += [f"no spec has it: {pattern}" for pattern in specs.unused(names, groups)]
    if wrong:
        raise MizarError("read specs.toml: " + "; ".join(wrong))
    for group in groups:
        mine = sorted_in[group.name]
        conformance = sum("[Conformance]" in name for name in mine)
        print(f"{'run' if group.run else 'left out':8} {len(mine):4} ({conformance} Conformance)  {group.name}")
        if print_all:
            print(textwrap.fill(group.why, WIDTH, initial_indent=" " * 14, subsequent_indent=" " * 14))
            if group.run or conformance:
                print("".join(f"{'':16}{name}\n" for name in mine), end="")
    total = sum("[Conformance]" in name for name in names)
    chosen = tuple(name for group in groups if group.run for name in sorted_in[group.name] if re.search(only, name))
    print(f"chosen: {len(chosen)} of {total} Conformance specs of sig-network, {len(names)} in all", flush=True)
    return chosen


def cluster_of(stack: str) -> Cluster:
    """The stack's cluster. Raises MizarError when there is none; Pulumi says why."""
    environment = [str(ROOT / "tools/setup/run"), "pulumi", "stack", "output", "--json", "--stack", stack]
    outputs: Mapping[str, Any] = json.loads(_run(environment))
    path = _run([str(ROOT / "tools/setup/stack.sh"), "kubeconfig", stack]).strip()
    stack_id = str(outputs["stackId"])
    hosts = tuple(str(host["name"]) for host in outputs["hosts"])
    # The subnet of pods that ask for none is the first.
    vpc, subnet = outputs["vpcs"][0], outputs["subnets"][0]
    ports = tuple(
        HostPortProps(
            stack=stack_id, host=host, vpc=vpc["name"], subnet=subnet["name"], prefixes=(vpc["cidr"], SERVICES)
        )
        for host in (CONTROL, *hosts)
    )
    return Cluster(kubeconfig=Path(path), stack_id=stack_id, hosts=hosts, ports=ports)


@contextlib.contextmanager
def plugged(ports: Sequence[HostPortProps]) -> Iterator[None]:
    """Hosts have these ports; those that had none have none again afterwards."""
    provider = HostPortProvider()
    added = [port for port in ports if provider.observe(port) is None]
    try:
        for port in added:
            provider.ensure(port, None)
        yield
    finally:
        for port in added:
            provider.remove(port)


def judge(built: Path, cluster: Cluster, chosen: Sequence[str], logs: Path) -> int:
    """Run the specs and say what became of each; the exit code."""
    image = images.build(built)
    for host in cluster.hosts:
        images.load(image, StackPlaces(cluster.stack_id), host)
    logs.mkdir(parents=True, exist_ok=True)
    print(f"output: {logs}/log", flush=True)
    began = time.monotonic()
    with plugged(cluster.ports):
        report = _report(built, cluster, chosen, logs)
    found = {result.name: result for result in specs.results(report)}
    missing = [specs.Result(name=name, seconds=0, failure="it was not run") for name in chosen if name not in found]
    wrong = [result for result in (*found.values(), *missing) if result.failure]
    for result in (*(one for one in found.values() if not one.failure), *wrong):
        print(f"{'FAILED' if result.failure else 'passed'} {result.seconds:6.1f} s  {result.name}")
        if result.failure:
            print(textwrap.indent(textwrap.shorten(result.failure, WIDTH), " " * 17))
    passed = len(found) + len(missing) - len(wrong)
    print(f"{passed} passed, {len(wrong)} failed, in {time.monotonic() - began:.0f} s")
    return 1 if wrong or not passed else 0


def _report(built: Path, cluster: Cluster, chosen: Sequence[str], logs: Path) -> list[dict[str, Any]]:
    report, repositories = logs / "report.json", logs / "repositories.yaml"
    report.unlink(missing_ok=True)
    repositories.write_text("".join(f"{key}: {value}\n" for key, value in images.REPOSITORIES.items()))
    kubectl = _kubectl()
    command = [
        str(built / "e2e.test"),
        f"--ginkgo.focus={specs.focus(chosen)}",
        f"--ginkgo.json-report={report}",
        f"--ginkgo.timeout={SUITE_SECONDS}s",
        f"--ginkgo.poll-progress-after={SPEC_SECONDS}s",
        "--ginkgo.no-color",
        "--ginkgo.v",
        f"--kubeconfig={cluster.kubeconfig}",
        f"--kubectl-path={kubectl}",
        f"--provider={PROVIDED}",
        "--disable-log-dump=true",
    ]
    env = {**os.environ, "KUBE_TEST_REPO_LIST": str(repositories)}
    with (logs / "log").open("w") as log:
        # Its exit code says less than its report.
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env, check=False)
    if not report.exists():
        raise MizarError(f"run specs: the program ended without a report; see {logs}/log")
    found: list[dict[str, Any]] = json.loads(report.read_text())
    return found


def _kubectl() -> Path:
    told = _run([str(ROOT / "tools/setup/kubernetes.sh"), "--where"])
    return Path(dict(line.split("=", 1) for line in told.splitlines())["kubernetes"]) / "kubectl"


def _run(command: Sequence[str], *, quiet: bool = False) -> str:
    """What it printed. `quiet`: what it says beside that is shown only when it fails. Raises MizarError."""
    errors = subprocess.PIPE if quiet else None
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise MizarError(f"run {Path(command[0]).name}: it ended with {done.returncode}: {(done.stderr or '')[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
