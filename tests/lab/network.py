"""A whole network for tests, without Pulumi: fabric, hosts, store, controller, agents, endpoints, all of them real.

Made with the functions that the Pulumi providers use. Every name carries the test run's own stack id, so it may run
beside a live stack and beside another run; `made` removes everything, however the test ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from infra.providers import daemons, objects
from node_agent.cni import client
from node_agent.cni.protocol import Reply, Request
from node_agent.datapath.layout import BackendKey
from node_agent.emulation import cleanup, endpoints, fabric, hosts, processes, stack
from node_agent.model import config
from node_agent.model.config import AgentConfig, ControllerConfig, Listed, Timers, UplinkMode
from node_agent.model.errors import MizarError
from node_agent.model.objects import (
    NetworkEndpoint,
    NetworkHost,
    NetworkHostSpec,
    NetworkService,
    NetworkServiceSpec,
    ServiceBackend,
    ServicePort,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
)
from node_agent.model.places import StackPlaces, veth_name
from node_agent.rows.image import MapImage, number
from node_agent.rows.services import service_rows
from node_agent.store.open import open_store
from tests.lab import traffic
from tests.lab.held import Held
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
UNDERLAY = "198.18.0.0/24"
READY = 30.0  # seconds; a bound for a loaded machine, nothing is measured by it


@dataclass(frozen=True)
class Pod:
    """An endpoint that was added. `object`: its object's name; `netns`: path of its namespace."""

    name: str
    host: str
    vpc: str
    subnet: str
    netns: Path
    object: str
    address: str
    gateway: str
    mac: str
    mtu: int

    @property
    def veth(self) -> str:
        return veth_name(self.name, endpoints.INTERFACE)


class Network(Held):
    """Hosts are named host-1, host-2, ... and have 198.18.0.11, .12, ... Not for several threads at once."""

    def __init__(
        self,
        places: StackPlaces,
        mode: UplinkMode = "generic",
        timers: Timers | None = None,
        leaving: float = ControllerConfig.leaving,
        listed: tuple[Listed, ...] = (),
    ) -> None:
        """`leaving`: seconds that a member which leaves a VPC set goes on answering. `listed`: as in AgentConfig."""
        self.mode, self.timers, self._leaving, self._listed = mode, timers or Timers(), leaving, listed
        self.pods: dict[str, Pod] = {}
        stack.make(places)
        fabric.make(places)
        self._objects = places.root / "programs"  # a copy: somebody may compile while an agent restarts
        self._objects.mkdir()
        for path in (ROOT / "bpf" / "build").glob("*.bpf.o"):
            shutil.copyfile(path, self._objects / path.name)
        super().__init__(places, open_store(_store_url(places), create=True))
        self.start_controller()

    @property
    def store_url(self) -> str:
        return _store_url(self.places)

    # --- hosts and their agents ---

    def start_controller(self) -> processes.Observed:
        text = config.dump(ControllerConfig(stack_id=self.places.id, store=self.store_url, leaving=self._leaving))
        return daemons.start(self.places.controller, "controller", text)

    def add_hosts(self, number: int) -> list[str]:
        """So many more hosts, with agents that are ready; returns their names."""
        first = len(self.hosts) + 1
        names = [f"host-{n}" for n in range(first, first + number)]
        for n, name in enumerate(names, first):
            self.hosts[name] = f"198.18.0.{10 + n}"
            hosts.make(
                self.places, hosts.Spec(name=name, address=f"{self.hosts[name]}/24", native=self.mode == "native")
            )
            objects.put(self.store, NetworkHost, name, NetworkHostSpec(address=self.hosts[name]))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.start_agent, names))
        for name in names:
            until(
                lambda name=name: self.ready(name) and self.host(name).status.ready, READY, f"{name}: {self.log(name)}"
            )
        return names

    def start_agent(self, host: str) -> processes.Observed:
        """As `up` does: a whole one is left alone, an orphan is replaced."""
        places = self.places.host(host)
        text = config.dump(
            AgentConfig(
                host=host,
                stack_id=self.places.id,
                address=self.hosts[host],
                uplink=hosts.UPLINK,
                underlay_prefixes=(UNDERLAY,),
                store=self.store_url,
                pins=str(places.pins),
                socket=str(places.socket),
                bpf_objects=str(self._objects),
                mode=self.mode,
                timers=self.timers,
                listed=self._listed,
            )
        )
        return daemons.start(places.root, "agent", text, netns=self.places.netns_path(host))

    def agent(self, host: str) -> processes.Observed:
        """The agent's process as it is."""
        found = processes.inspect(self.places.host(host).root, "agent")
        assert found, f"{host} has neither agent nor supervisor"
        return found

    def call(self, host: str, request: Request, seconds: float = READY) -> Reply:
        return client.persist(self.places.host(host).socket, request, seconds)

    def ready(self, host: str) -> bool:
        """Whether the agent answers with no complaint; REPAIR first puts right what it finds amiss."""
        try:
            client.call(self.places.host(host).socket, Request(verb="REPAIR"), 2.0)
        except MizarError:
            return False
        return True

    def host(self, name: str) -> NetworkHost:
        return self.store.get(NetworkHost, name)

    def log(self, host: str) -> str:
        """The whole log of the host's agent."""
        with contextlib.suppress(FileNotFoundError):
            return self.places.host(host).log.read_text()
        return "no log"

    def turned(self) -> None:
        """Every agent has looked at the store since the call began, and written what it found."""
        before = {name: self.host(name).status.heartbeat for name in self.hosts}
        for name, beat in before.items():
            until(lambda name=name, beat=beat: self.host(name).status.heartbeat > beat, READY, f"heartbeat of {name}")

    # --- VPCs ---

    def vpc(self, name: str, cidr: str, subnets: Mapping[str, str], *, set_size: int = 3, bouncers: int = 2) -> Vpc:
        """A VPC with these subnets (name -> prefix), once the controller has placed all of it."""
        objects.put(self.store, Vpc, name, VpcSpec(cidr=cidr, set_size=set_size, bouncers=bouncers))
        for subnet, prefix in subnets.items():
            objects.put(self.store, Subnet, subnet, SubnetSpec(vpc=name, cidr=prefix))
        until(lambda: self._placed(name, subnets, set_size), READY, f"placement of {name}")
        return self.store.get(Vpc, name)

    def _placed(self, name: str, subnets: Mapping[str, str], set_size: int) -> bool:
        vpc = self.store.get(Vpc, name)
        active = [m for m in vpc.status.members if m.state == "active"]
        return len(active) == set_size and all(self.store.get(Subnet, subnet).status.bouncers for subnet in subnets)

    def vni(self, vpc: str) -> int:
        return self.store.get(Vpc, vpc).status.vni

    def members(self, vpc: str) -> list[str]:
        """Names of the hosts in the VPC set, by place."""
        return [m.host for m in sorted(self.store.get(Vpc, vpc).status.members, key=lambda m: m.place)]

    def outside(self, vpc: str) -> list[str]:
        """Names of the hosts that are not in the VPC set."""
        members = self.members(vpc)
        return [name for name in self.hosts if name not in members]

    def bouncers(self, subnet: str) -> list[str]:
        found = self.store.get(Subnet, subnet)
        by_place = {m.place: m.host for m in self.store.get(Vpc, found.spec.vpc).status.members}
        return [by_place[place] for place in found.status.bouncers]

    def service(
        self, name: str, vpc: str, vip: str, ports: Sequence[ServicePort], backends: Sequence[ServiceBackend]
    ) -> NetworkService:
        """The service, made or changed, once every member of its VPC's set acts by it."""
        spec = NetworkServiceSpec(vpc=vpc, vip=vip, ports=tuple(ports), backends=tuple(backends))
        made = objects.put(self.store, NetworkService, name, spec)
        shared = self.store.get(Vpc, vpc)
        for host in self.members(vpc):
            wanted = service_rows(made, shared, host)
            until(lambda host=host, wanted=wanted: self._acts_by(host, made, wanted), READY, f"{name} on {host}")
        return made

    def _acts_by(self, host: str, service: NetworkService, wanted: MapImage) -> bool:
        """Whether the host has these rows, and no other backend of that VIP."""
        mine = self.vni(service.spec.vpc), number(service.spec.vip)
        with self.maps(host) as maps:
            have = {name: maps.read(name) for name in ("services", "maglev", "backends")}
        keys = ((raw, BackendKey.unpack(raw)) for raw in have["backends"])
        found = {raw for raw, key in keys if (key.vni, key.vip) == mine}
        others = found - wanted["backends"].keys() if "backends" in wanted else found
        return not others and all(have[name].items() >= rows.items() for name, rows in wanted.items())

    # --- endpoints ---

    def request(self, name: str, subnet: str, address: str = "") -> Request:
        """An ADD for the endpoint."""
        return Request(
            verb="ADD",
            container_id=name,
            interface=endpoints.INTERFACE,
            netns=str(self.places.netns_path(name)),
            vpc=self.store.get(Subnet, subnet).spec.vpc,
            subnet=subnet,
            address=address,
            workload=name,
        )

    def add(self, name: str, subnet: str, host: str, address: str = "", *, workload: bool = True) -> Pod:
        """An endpoint on that host: its namespace, ADD, and a workload that answers."""
        endpoints.make(self.places, name)
        request = self.request(name, subnet, address)
        reply = self.call(host, request)
        pod = Pod(
            name,
            host,
            request.vpc,
            subnet,
            self.places.netns_path(name),
            reply.endpoint,
            reply.address,
            reply.gateway,
            reply.mac,
            reply.mtu,
        )
        self.pods[name] = pod
        if workload:
            endpoints.start_workload(self.places, name, vpc=pod.vpc, address=pod.address)
            until(lambda: traffic.listens(pod.netns), READY, f"workload of {name}")
        return pod

    def move(self, pod: Pod, host: str) -> Pod:
        """The endpoint lives on that host, and nothing of it is left on its old one but the word where it went."""
        held = self.store.get(NetworkEndpoint, pod.object)
        self.store.put_spec(NetworkEndpoint, pod.object, replace(held.spec, host=host))
        self.call(host, self.request(pod.name, pod.subnet, pod.address))
        moved = self.pods[pod.name] = replace(pod, host=host)
        until(lambda: pod.veth not in self.links(pod.host), READY, f"{pod.host} lets go of {pod.name}")
        return moved

    def detach(self, pod: Pod) -> None:
        """DEL; its namespace and workload stay."""
        self.call(pod.host, Request(verb="DEL", container_id=pod.name, interface=endpoints.INTERFACE))

    def remove(self, pod: Pod) -> None:
        self.detach(pod)
        endpoints.remove(self.places, pod.name)
        self.pods.pop(pod.name, None)

    def close(self) -> None:
        self.store.close()


def _store_url(places: StackPlaces) -> str:
    return f"sqlite:{places.store}"


@contextlib.contextmanager
def made(request: pytest.FixtureRequest, number: int, **how: Any) -> Iterator[Network]:
    """A network of so many hosts for the fixture's scope, removed afterwards."""
    subprocess.run(["make", "-s", "-C", str(ROOT / "bpf")], check=True)
    mark = hashlib.sha256(f"{request.node.nodeid}/{request.fixturename}/{how}".encode()).hexdigest()[:6]
    places = StackPlaces(f"test-{os.getpid()}-{mark}")
    try:
        with contextlib.closing(Network(places, **how)) as network:
            network.add_hosts(number)
            yield network
    finally:
        cleanup.remove(places.id)
