"""A small network for the controller's tests: a store in memory, hosts that beat, a clock that is moved by hand."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

from node_agent.controller.log import Log
from node_agent.controller.loop import Controller
from node_agent.model.config import ControllerConfig
from node_agent.model.objects import (
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkHost,
    NetworkHostSpec,
    NetworkHostStatus,
    SetMember,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
)
from node_agent.model.users import guarded
from node_agent.testing.clock import FakeClock
from node_agent.testing.store import FakeStore

BEAT = 2.0
CONFIG = ControllerConfig(stack_id="test-000000", store="fake")


class World:
    """`silent`: hosts that do not beat. `deaf`: hosts that do not load rows. print(world) shows the store."""

    def __init__(self, hosts: int = 0, zones: int = 0) -> None:
        self.store, self.clock, self.output = FakeStore(), FakeClock(), io.StringIO()
        self.silent: set[str] = set()
        self.deaf: set[str] = set()
        self.start()
        for _ in range(hosts):
            self.add_host(zones)
        self.step(0)

    def start(self) -> None:
        """A fresh controller: what the one before it remembered is lost."""
        self.controller = Controller(CONFIG, self.store, self.clock, Log(self.output))

    def add_host(self, zones: int = 0) -> str:
        number = len(self.store.list(NetworkHost)) + 1
        spec = NetworkHostSpec(address=f"198.18.0.{10 + number}", zone=f"zone-{number % zones}" if zones else "")
        self.store.create(NetworkHost(name=f"host-{number}", spec=spec))
        return f"host-{number}"

    def add_vpc(self, name: str = "blue", size: int = 3, bouncers: int = 2, subnets: int = 1) -> None:
        spec = VpcSpec(cidr="10.0.0.0/16", set_size=size, bouncers=bouncers)
        self.store.create(guarded(Vpc(name=name, spec=spec)))
        for number in range(subnets):
            spec_of = SubnetSpec(vpc=name, cidr=f"10.0.{number}.0/24")
            self.store.create(guarded(Subnet(name=f"{name}-{number}", spec=spec_of)))

    def add_endpoint(self, address: str, host: str, vpc: str = "blue") -> str:
        made = self.store.create(
            guarded(
                NetworkEndpoint(
                    name=f"{self.vpc(vpc).status.vni}-{address}",
                    status=NetworkEndpointStatus(host=host),
                    spec=NetworkEndpointSpec(
                        vpc=vpc, subnet=f"{vpc}-0", address=address, host=host, container_id=address
                    ),
                )
            )
        )
        return made.name

    def beat(self) -> None:
        """Every host's agent writes its status: time, and the VPCs whose rows it holds."""
        generations = {vpc.name: vpc.meta.resource_version for vpc in self.store.list(Vpc)}
        for host in self.store.list(NetworkHost):
            if host.name not in self.silent:
                loaded = host.status.generations if host.name in self.deaf else generations
                status = NetworkHostStatus(heartbeat=self.clock(), ready=True, generations=loaded)
                self.store.put_status(NetworkHost, host.name, status)

    def step(self, seconds: float = BEAT) -> None:
        """Time passes in steps of one heartbeat, with a round of the controller each, and one more."""
        end = self.clock() + seconds
        while True:
            self.beat()
            self.controller.turn()
            if self.clock() >= end:
                break
            self.clock.advance(min(BEAT, end - self.clock()))
        self.controller.turn()

    def vpc(self, name: str = "blue") -> Vpc:
        return self.store.get(Vpc, name)

    def members(self, name: str = "blue") -> dict[int, SetMember]:
        return {member.place: member for member in self.vpc(name).status.members}

    def set_of(self, name: str = "blue") -> dict[int, str]:
        """Place -> host and state of each member that is not plainly active."""
        return {
            place: m.host if m.state == "active" else f"{m.host} {m.state}" for place, m in self.members(name).items()
        }

    def bouncers(self, name: str = "blue-0") -> tuple[int, ...]:
        return self.store.get(Subnet, name).status.bouncers

    def respec(self, cls: type[Any], name: str, **changes: Any) -> None:
        self.store.put_spec(cls, name, dataclasses.replace(self.store.get(cls, name).spec, **changes))

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.getvalue().splitlines()]

    def __str__(self) -> str:
        return f"{self.store}\n{self.output.getvalue()}"
