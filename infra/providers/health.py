"""Dynamic resource: the health gate. Made means that packets flow between the endpoints of every pair of hosts.

    up        `diff` probes once everything else is in place; failures are an update, which probes until all is well or
              its patience ends, and then fails with one line per host, pair and reason
    refresh   `read` probes and records the failures it saw, so that a broken network shows as a change
    preview   sends nothing: `preview` among the inputs says so, and counts as no difference

The choice of this way, and its proof, is docs/adr/0004-health-gate.md. `Gate` is what the gates of all targets share;
the one here is that of hosts and endpoints on this machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import pulumi

from infra.providers import objects
from infra.providers.base import Made, Outputs, Provider
from node_agent.datapath.direct import StackFlows
from node_agent.health import assess, gate, pairs, paths
from node_agent.health.answers import WORKLOAD_PORT
from node_agent.health.assess import Health
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkHost, Vpc
from node_agent.model.places import StackPlaces

PROBE_SECONDS = 3.0
PAUSE = 0.5
OUTPUTS = ("healthy", "pairs", "probes", "failures")


class GateProps(Protocol):
    """`seconds`: patience before the gate fails. `preview`: nothing may be sent."""

    @property
    def seconds(self) -> int: ...

    @property
    def preview(self) -> bool: ...


P = TypeVar("P", bound=GateProps)


class Gate(Provider[P]):
    """`look`: seconds of patience when a difference is only looked for."""

    identity = ("stack",)
    silent = ("seconds",)
    hidden = ("preview",)
    look: ClassVar[float] = 0.0

    def examine(self, props: P, patience: float) -> Health:
        """Probe until all is well, for about `patience` seconds, and at least once."""
        raise NotImplementedError

    def observe(self, props: P) -> Outputs | None:
        return _outputs(self.examine(props, self.look))

    def drift(self, props: P, news: P, outputs: Outputs) -> bool:
        if news.preview:
            return not outputs.get("healthy")
        return not outputs.get("healthy") or not self.examine(news, self.look).ok

    def ensure(self, props: P, had: P | None) -> Outputs:
        health = self.examine(props, props.seconds)
        if not health.ok:
            raise Permanent(assess.summary(health))
        return _outputs(health)

    def remove(self, props: P) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class HealthGateProps:
    """`endpoints`: mappings with vpc, subnet, name, address, host; `services`: with vpc, name, vip, ports (protocol,
    port, target_port) and names of backends. `mtu`: the endpoints', in bytes."""

    stack: str
    hosts: tuple[str, ...]
    endpoints: tuple[Mapping[str, str], ...]
    seconds: int
    services: tuple[Mapping[str, Any], ...] = ()
    mtu: int = 0
    preview: bool = False


class HealthGateProvider(Gate[HealthGateProps]):
    props = HealthGateProps

    def examine(self, props: HealthGateProps, patience: float) -> Health:
        until = time.monotonic() + patience
        while not (health := _examine(props)).ok and time.monotonic() < until:
            time.sleep(PAUSE)
        return health


class HealthGate(Made, module="local", name="HealthGate"):
    healthy: pulumi.Output[bool]
    pairs: pulumi.Output[int]
    probes: pulumi.Output[int]
    failures: pulumi.Output[list[str]]

    def __init__(self, name: str, props: HealthGateProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(HealthGateProvider(), name, props, OUTPUTS, opts)


def _examine(props: HealthGateProps) -> Health:
    places = StackPlaces(props.stack)
    endpoints = [
        pairs.Endpoint(
            vpc=one["vpc"],
            subnet=one["subnet"],
            name=one["name"],
            address=one["address"],
            host=one["host"],
            place=str(places.netns_path(one["name"])),
        )
        for one in props.endpoints
    ]
    with StackFlows(places) as flows:
        return gate.examine(
            endpoints,
            services=[_service(one) for one in props.services],
            hosts=props.hosts,
            timeout=PROBE_SECONDS,
            mtu=props.mtu,
            direct=_direct(flows, endpoints, places.id),
            host_problems=_host_problems(props),
        )


def _service(raw: Mapping[str, Any]) -> pairs.Service:
    """Behind other ports than the workload's nobody is known to answer: these are not probed."""
    ports = ((port["protocol"], port["port"]) for port in raw["ports"] if port["target_port"] == WORKLOAD_PORT)
    return pairs.Service(
        vpc=raw["vpc"], name=raw["name"], address=raw["vip"], ports=tuple(ports), backends=tuple(raw["backends"])
    )


def _host_problems(props: HealthGateProps) -> list[tuple[str, str]]:
    """What the agents themselves complain of. Their praise counts for nothing: packets decide."""
    listed = {host.name: host.status for host in objects.listed(props.stack, NetworkHost)}
    found = [(host, "has no object in the store") for host in props.hosts if host not in listed]
    found += [
        (host, f"its agent says: {problem}")
        for host in props.hosts
        if host in listed
        for problem in listed[host].problems
    ]
    return found


def _direct(flows: StackFlows, endpoints: Iterable[pairs.Endpoint], stack: str) -> gate.Direct:
    """The question whether probes' own flows go straight, asked of the pinned tables of the hosts they began on."""
    wanted = paths.Wanted(
        hosts={host.name: host.spec.address for host in objects.listed(stack, NetworkHost)},
        vnis={vpc.name: vpc.status.vni for vpc in objects.listed(stack, Vpc)},
        endpoints=endpoints,
    )

    def answered(probed: gate.Probed) -> str | None:
        question = wanted.question(probed)
        return question if isinstance(question, str) else flows.answer(probed.pair.source.host, question)

    def asked(probed: Sequence[gate.Probed]) -> list[str | None]:
        return [answered(one) for one in probed]

    return asked


def _outputs(health: Health) -> Outputs:
    return {
        "healthy": health.ok,
        "pairs": len(health.pairs),
        "probes": health.probes,
        "failures": list(health.problems),
    }
