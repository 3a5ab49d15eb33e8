"""Several agents over one store, without kernel, threads or time: what sleeps lets the others take their turns."""

from __future__ import annotations

import io
import ipaddress
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node_agent.agent.beside import at_once
from node_agent.agent.host import Clock, HostAgent
from node_agent.agent.log import Log
from node_agent.cni.protocol import Reply, Request
from node_agent.datapath.layout import EndpointKey, EndpointRow, FlowEntry, FlowFlag, SubnetKey
from node_agent.datapath.query import asked_flow
from node_agent.model.bandwidth import UNBOUNDED, Bandwidth
from node_agent.model.config import AgentConfig
from node_agent.model.objects import (
    MemberState,
    NetworkHost,
    NetworkHostSpec,
    SetMember,
    Subnet,
    SubnetSpec,
    SubnetStatus,
    Vpc,
    VpcSpec,
    VpcStatus,
)
from node_agent.rows.image import MapImage, mapped
from node_agent.testing.clock import FakeClock
from node_agent.testing.kernel import FakeKernel
from node_agent.testing.maps import FakeMaps
from node_agent.testing.store import FakeStore

VNI = 7


@dataclass
class Host:
    """What survives the agent (maps, kernel) and the agent that runs now."""

    config: AgentConfig
    maps: FakeMaps
    kernel: FakeKernel
    agent: HostAgent
    log: io.StringIO = field(default_factory=io.StringIO)
    alive: bool = True


class Agents:
    """The hosts of a small stack: h0, h1, ... with addresses 198.18.0.10, .11, ..."""

    def __init__(self, count: int, store: FakeStore | None = None) -> None:
        self.store = store or FakeStore()
        # Watches of the fake store are stamped with the real clock: the agents' begins there.
        self.clock = FakeClock(time.monotonic())
        self.hosts: dict[str, Host] = {}
        for _ in range(count):
            self.join()

    def join(self) -> str:
        """One more host, with a running agent; its name."""
        name = f"h{len(self.hosts)}"
        address = self.address(name)
        self.store.create(NetworkHost(name=name, spec=NetworkHostSpec(address=address)))
        config = AgentConfig(
            host=name,
            stack_id="s",
            address=address,
            uplink="uplink0",
            flow_entries=1024,
            underlay_prefixes=("198.18.0.0/24",),
            store="sqlite:/none",
            pins="/none",
            socket="/none",
            bpf_objects="/none",
        )
        host = Host(config, FakeMaps(), FakeKernel(), agent=None)  # type: ignore[arg-type]
        host.kernel.answer = lambda to, payload: self._answer(host, to, payload)
        self.hosts[name] = host
        self.start(name)
        return name

    def start(self, name: str, store: Any = None) -> HostAgent:
        """A new agent on the host, as after a kill; it has taken its first turn."""
        host = self.hosts[name]
        clock = Clock(self.clock, self.clock, lambda seconds: self._sleep(name, seconds), at_once)
        host.agent = HostAgent(
            host.config, store or self.store, host.maps, host.kernel, Log(name, host.log, self.clock), clock
        )
        host.alive = True
        host.agent.start()
        host.agent.turn()
        return host.agent

    def address(self, name: str) -> str:
        return f"198.18.0.{10 + int(name[1:])}"

    def vpc(self, members: dict[str, MemberState], name: str = "blue", vni: int = VNI) -> None:
        """The VPC exists with this set; places by order."""
        if not self.store.list(Vpc, {"name": name}):
            self.store.create(Vpc(name=name, spec=VpcSpec(cidr="10.0.0.0/16")))
        self.store.put_status(
            Vpc,
            name,
            VpcStatus(
                vni=vni,
                members=tuple(
                    SetMember(place=place, host=host, address=self.address(host), state=state)
                    for place, (host, state) in enumerate(members.items())
                ),
            ),
        )

    def subnet(self, bouncers: tuple[int, ...], name: str = "s1", cidr: str = "10.0.1.0/28", vpc: str = "blue") -> None:
        if not self.store.list(Subnet, {"name": name}):
            self.store.create(Subnet(name=name, spec=SubnetSpec(vpc=vpc, cidr=cidr)))
        self.store.put_status(Subnet, name, SubnetStatus(bouncers=bouncers))

    def settle(self) -> None:
        """Everybody has seen everything."""
        for _ in range(3):
            for host in self.hosts.values():
                if host.alive:
                    host.agent.turn()

    def add(
        self,
        host: str,
        container: str,
        *,
        subnet: str = "s1",
        address: str = "",
        vpc: str = "blue",
        bandwidth: Bandwidth = UNBOUNDED,
    ) -> Reply:
        return self.ask(
            host,
            Request(
                verb="ADD",
                container_id=container,
                netns=self.netns(host, container),
                vpc=vpc,
                subnet=subnet,
                address=address,
                workload=container,
            ).within(bandwidth),
        )

    def netns(self, host: str, container: str) -> str:
        """Path of a namespace that exists."""
        path = f"/run/netns/{container}"
        self.hosts[host].kernel.namespaces.add(Path(path))
        return path

    def delete(self, host: str, container: str) -> Reply:
        return self.ask(host, Request(verb="DEL", container_id=container))

    def ask(self, host: str, request: Request) -> Reply:
        return self.hosts[host].agent.handle(request)

    def images(self) -> dict[str, MapImage]:
        """Everything the agents wrote, by host."""
        return {name: host.maps.image() for name, host in self.hosts.items()}

    def _sleep(self, sleeper: str, seconds: float) -> None:
        self.clock.advance(max(seconds, 0.05))
        for name, host in self.hosts.items():
            if name != sleeper and host.alive:
                host.agent.turn()

    def _answer(self, asker: Host, to: str, payload: bytes) -> None:
        """What the programs of a bouncer and of the asking host make of an ASK-ONLY question."""
        vni = int.from_bytes(payload[4:7], "big")
        address = str(ipaddress.IPv4Address(payload[22 + 12 : 22 + 16]))
        mark = struct.unpack(">H", payload[42:44])[0]
        bouncer = next(host for host in self.hosts.values() if host.config.address == to)
        raw = bouncer.maps.rows["endpoints"].get(EndpointKey(vni=vni, addr=mapped(address)).pack())
        if raw is None:
            return
        row = EndpointRow.unpack(raw)
        serving = SubnetKey(vni=vni, subnet=row.subnet).pack() in bouncer.maps.rows["serving"]
        if serving and int(ipaddress.IPv4Address(asker.config.address)) in (row.host, row.next):
            for slot in asker.maps.sizes:
                asker.maps.learn(slot, asked_flow(vni, address, mark), FlowEntry(host=row.host, flags=FlowFlag.ASKED))


class Killed(BaseException):
    """The agent died here."""


class Fuse:
    """Lets `steps` steps happen and kills at the next."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, _: str = "") -> None:
        if self.left == 0:
            self.left = -1
            raise Killed
        if self.left > 0:
            self.left -= 1


class KillingStore:
    """A store whose every write is two steps of the fuse: one may die before it and after it."""

    def __init__(self, under: FakeStore, fuse: Fuse) -> None:
        self._under, self._fuse = under, fuse

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._under, name)
        if name not in ("create", "put_status", "delete", "drop_finalizer"):
            return verb

        def write(*args: Any, **kwargs: Any) -> Any:
            self._fuse.step()
            result = verb(*args, **kwargs)
            self._fuse.step()
            return result

        return write
