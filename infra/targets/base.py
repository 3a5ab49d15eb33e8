"""What a place to run on must offer. `infra.targets.local` is one; the rest of the program knows only this protocol.

Called by `infra.program`. A target makes resources and hands back the facts that outputs are made of, in the shapes
below; nobody else asks which target it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pulumi import Output, Resource

from infra.plan import Plan
from infra.providers.subnet import Subnet
from infra.wanted import Settings


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Hosts with their agents. `modes`: host name -> how its uplink's program runs. `ready`: host name -> the resource
    that exists once the host's agent is ready. `control`: who chooses VNIs and places. `ground`: what everything stands
    on; each resource depends on it directly, since a refresh that finds one in between gone would cut the chain, and a
    destroy would then pull the ground away first. `access`: outputs of this place alone, secret ones among them.
    `cluster`: with whose end everything ends that the stack keeps in it; None where there is none."""

    modes: Mapping[str, Output[str]]
    ready: Mapping[str, Resource]
    control: Resource
    ground: tuple[Resource, ...]
    access: Mapping[str, Output[str]] = field(default_factory=dict)
    cluster: Resource | None = None


@dataclass(frozen=True, kw_only=True)
class Networks:
    """VPCs and subnets. `vpcs`, `vnis`, `sets`: by VPC name; `bouncers`, `subnets`: by subnet name."""

    vpcs: Mapping[str, Resource]
    vnis: Mapping[str, Output[int]]
    sets: Mapping[str, Output[list[str]]]
    bouncers: Mapping[str, Output[list[str]]]
    subnets: Mapping[str, Subnet]


@dataclass(frozen=True, kw_only=True)
class Attached:
    """Endpoints by name."""

    endpoints: Mapping[str, Resource]


@dataclass(frozen=True, kw_only=True)
class Served:
    """Services by name."""

    services: Mapping[str, Resource]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the health gate found, once it has let the run pass."""

    healthy: Output[bool]
    pairs: Output[int]
    probes: Output[int]
    failures: Output[list[str]]


class Target(Protocol):
    """Verbs in the order they are called in; each gets what the ones before have made."""

    def problems(self, settings: Settings) -> list[str]:
        """Why the settings cannot be had in this place, one sentence each; asked before anything is made."""
        ...

    def machines(self, plan: Plan) -> Machines:
        """Underlay, control plane, hosts and agents."""
        ...

    def networks(self, plan: Plan, machines: Machines) -> Networks: ...

    def endpoints(self, plan: Plan, machines: Machines, networks: Networks) -> Attached: ...

    def services(self, plan: Plan, machines: Machines, networks: Networks, attached: Attached) -> Served: ...

    def health(
        self,
        plan: Plan,
        machines: Machines,
        networks: Networks,
        attached: Attached,
        served: Served,
        *,
        preview: bool,
    ) -> Verdict: ...
