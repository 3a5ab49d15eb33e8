"""The network that is measured: a stack of its own with fabric, hosts, store, controller, agents and two endpoints.

Made with the functions that `make up` uses, without the engine. Everything carries the id `bench-<pid>`, so a run lives
beside stacks and other runs; `made` removes all of it, and what killed runs left. Called by `run`.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from node_agent.bench import traffic
from node_agent.bench.figures import MIZAR, PLAIN
from node_agent.bench.pairs import End, Pair
from node_agent.cni import client
from node_agent.cni.protocol import Reply, Request
from node_agent.emulation import cleanup, endpoints, fabric, hosts, processes, stack, supervisor
from node_agent.kernel import commands, links
from node_agent.model import config
from node_agent.model.config import AgentConfig, ControllerConfig, UplinkMode
from node_agent.model.errors import MizarError, Permanent
from node_agent.model.objects import NetworkHost, NetworkHostSpec, Subnet, SubnetSpec, Vpc, VpcSpec
from node_agent.model.places import StackPlaces, veth_name
from node_agent.model.users import guarded
from node_agent.store.open import open_store

UNDERLAY = "198.18.0.0/24"
HOSTS = ("host-1", "host-2", "host-3")
PLAIN_HOSTS = ("host-4", "host-5")  # no XDP program and no role: they come when the VPC has its members
VPC, VPC_CIDR = "bench", "10.10.0.0/16"
SUBNET, SUBNET_CIDR = "bench-a", "10.10.1.0/24"
READY = 60.0  # seconds; a bound for a loaded machine, nothing is measured by it
_OWN_ID = re.compile(r"bench-(\d+)")


def wait(look: Callable[[], object], what: str) -> None:
    """Returns once `look` is true. Raises Permanent after READY seconds."""
    until = time.monotonic() + READY
    while not look():
        if time.monotonic() > until:
            raise Permanent(f"wait for {what}: not within {READY:g} s")
        time.sleep(0.02)


class Bed:
    """`programs`: folder of the compiled objects; `tools`: folder of what is run. Not for several threads at once."""

    def __init__(self, places: StackPlaces, tools: Path, mode: UplinkMode) -> None:
        self.places, self.tools, self.mode = places, tools, mode
        self.programs = places.root / "programs"
        stack.make(places)
        fabric.make(places)
        build = ["make", "-s", "-C", str(processes.ROOT / "bpf"), f"BUILD={self.programs}"]
        commands.run([*build, "all", f"{self.programs}/bench.bpf.o"], 120.0)
        self.traffic = traffic.Traffic(traffic.compiled(tools), places.root, cpus())
        self._addresses = {name: f"198.18.0.{11 + n}" for n, name in enumerate((*HOSTS, *PLAIN_HOSTS))}
        self._store_url = f"sqlite:{places.store}"
        self._store = open_store(self._store_url, create=True)

    def close(self) -> None:
        self._store.close()

    def start(self) -> dict[str, Pair]:
        """Hosts with agents, a VPC whose set is the first three, and an endpoint on two hosts of either kind."""
        self._daemon(self.places.controller, "controller", self._controller_config(), None)
        self._hosts(HOSTS, self.mode)
        self._store.create(guarded(Vpc(name=VPC, spec=VpcSpec(cidr=VPC_CIDR))))
        self._store.create(guarded(Subnet(name=SUBNET, spec=SubnetSpec(vpc=VPC, cidr=SUBNET_CIDR))))
        wait(self._placed, f"placement of {VPC}")
        self._hosts(PLAIN_HOSTS, "tc")
        told = "TC only" if self.mode == "tc" else f"{self.mode} XDP + TC"
        return {
            MIZAR: self._pair(MIZAR, f"Mizar, {told}", "", *HOSTS[:2]),
            PLAIN: self._pair(PLAIN, "Mizar, TC only", "plain-", *PLAIN_HOSTS),
        }

    def add(self, name: str, host: str) -> Reply:
        """ADD for an endpoint whose namespace is there."""
        request = Request(
            verb="ADD", container_id=name, netns=str(self.places.netns_path(name)), vpc=VPC, subnet=SUBNET,
            workload=name,
        )  # fmt: skip
        return client.persist(self.places.host(host).socket, request, READY)

    def delete(self, name: str, host: str) -> None:
        client.persist(self.places.host(host).socket, Request(verb="DEL", container_id=name), READY)

    def agent_pids(self) -> dict[str, tuple[int, int]]:
        """Host -> pids of its agent and of the agent's supervisor."""
        found = {name: processes.inspect(self.places.host(name).root, "agent") for name in HOSTS}
        return {name: (seen.pid, seen.supervisor_pid) for name, seen in found.items() if seen}

    # --- inside ---

    def _hosts(self, names: Sequence[str], mode: UplinkMode) -> None:
        for name in names:
            address = self._addresses[name]
            hosts.make(self.places, hosts.Spec(name=name, address=f"{address}/24", native=mode == "native"))
            self._store.create(guarded(NetworkHost(name=name, spec=NetworkHostSpec(address=address))))
            folder, netns = self.places.host(name).root, self.places.netns_path(name)
            self._daemon(folder, "agent", self._agent_config(name, mode), netns)
        for name in names:
            wait(lambda name=name: self._ready(name), f"agent of {name}")  # type: ignore[misc]

    def _pair(self, subject: str, title: str, prefix: str, near: str, far: str) -> Pair:
        sender, receiver = self._end(f"{prefix}sender", near), self._end(f"{prefix}receiver", far)
        with links.opened(self.places.netns_path(near)) as net:
            # What frames are addressed to: any address will do, the host takes all of them.
            mac = net.need(veth_name(f"{prefix}sender", endpoints.INTERFACE)).mac
        return Pair(subject, title, sender, receiver, mac)

    def _end(self, name: str, host: str) -> End:
        endpoints.make(self.places, name)
        reply = self.add(name, host)
        return End(self.places.netns_path(name), endpoints.INTERFACE, reply.address, reply.mac)

    def _controller_config(self) -> str:
        return config.dump(ControllerConfig(stack_id=self.places.id, store=self._store_url))

    def _agent_config(self, host: str, mode: UplinkMode) -> str:
        places = self.places.host(host)
        return config.dump(
            AgentConfig(
                host=host,
                stack_id=self.places.id,
                address=self._addresses[host],
                uplink=hosts.UPLINK,
                underlay_prefixes=(UNDERLAY,),
                store=self._store_url,
                pins=str(places.pins),
                socket=str(places.socket),
                bpf_objects=str(self.programs),
                mode=mode,
            )
        )

    def _daemon(self, folder: Path, name: str, text: str, netns: Path | None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{name}.json"
        supervisor.write(str(path), text)
        processes.start(processes.module(folder, name, f"node_agent.{name}", "--config", str(path), netns=netns))

    def _ready(self, host: str) -> bool:
        try:
            client.call(self.places.host(host).socket, Request(verb="STATUS"), 5.0)
        except MizarError:
            return False
        return self._store.get(NetworkHost, host).status.ready

    def _placed(self) -> bool:
        vpc = self._store.get(Vpc, VPC)
        active = [m for m in vpc.status.members if m.state == "active"]
        return len(active) == vpc.spec.set_size and bool(self._store.get(Subnet, SUBNET).status.bouncers)


def cpus() -> tuple[int, int]:
    """The CPUs that placed ends run on: two different ones, if there are two."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]


@contextlib.contextmanager
def made(mode: UplinkMode) -> Iterator[Bed]:
    """A bed, removed afterwards with everything that was put into it."""
    _remove_leftovers()
    places = StackPlaces(f"bench-{os.getpid()}")
    try:
        # Not below /run, which may forbid to execute.
        with (
            tempfile.TemporaryDirectory(prefix="mizar-bench-") as tools,
            contextlib.closing(Bed(places, Path(tools), mode)) as bed,
        ):
            yield bed
    finally:
        cleanup.remove(places.id)


def _remove_leftovers() -> None:
    """A run that was killed could not clean up; its id carries the pid of a process that is gone."""
    for id in cleanup.ids():
        match = _OWN_ID.fullmatch(id)
        if match and not Path(f"/proc/{match.group(1)}").exists():
            cleanup.remove(id)
