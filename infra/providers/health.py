"""Dynamic resource: the health gate. Made means that packets flow between the endpoints of every pair of hosts.

    up        `diff` probes once everything else is in place; failures are an update, which probes until all is well or
              its patience ends, and then fails with one line per host, pair and reason
    refresh   `read` probes and records the failures it saw, so that a broken network shows as a change
    preview   sends nothing: `preview` among the inputs says so, and counts as no difference

The choice of this way, and its proof, is docs/adr/0004-health-gate.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from infra.providers import objects
from infra.providers.base import Made, Outputs, Provider
from node_agent.datapath import direct
from node_agent.datapath.direct import Flow, StackFlows
from node_agent.health import assess, gate, pairs
from node_agent.health.answers import WORKLOAD_PORT, Wire
from node_agent.health.assess import Health
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkHost, Vpc
from node_agent.model.places import StackPlaces

PROBE_SECONDS = 3.0
PAUSE = 0.5
PROTOCOLS: Mapping[Wire, int] = {"icmp": direct.ICMP, "tcp": direct.TCP, "udp": direct.UDP}


@dataclass(frozen=True, kw_only=True)
class HealthGateProps:
    """`endpoints`: mappings with vpc, subnet, name, address, host; `services`: with vpc, name, vip, ports (protocol,
    port, target_port) and names of backends. `mtu`: the endpoints', in bytes. `seconds`: patience before the gate
    fails."""

    stack: str
    hosts: tuple[str, ...]
    endpoints: tuple[Mapping[str, str], ...]
    seconds: int
    services: tuple[Mapping[str, Any], ...] = ()
    mtu: int = 0
    preview: bool = False


class HealthGateProvider(Provider[HealthGateProps]):
    props = HealthGateProps
    identity = ("stack",)
    silent = ("seconds",)
    hidden = ("preview",)

    def observe(self, props: HealthGateProps) -> Outputs | None:
        return _outputs(_examine(props))

    def drift(self, props: HealthGateProps, news: HealthGateProps, outputs: Outputs) -> bool:
        if news.preview:
            return not outputs.get("healthy")
        return not outputs.get("healthy") or not _examine(news).ok

    def ensure(self, props: HealthGateProps, had: HealthGateProps | None) -> Outputs:
        until = time.monotonic() + props.seconds
        while not (health := _examine(props)).ok:
            if time.monotonic() > until:
                raise Permanent(assess.summary(health))
            time.sleep(PAUSE)
        return _outputs(health)

    def remove(self, props: HealthGateProps) -> None:
        pass


class HealthGate(Made, module="local", name="HealthGate"):
    healthy: pulumi.Output[bool]
    pairs: pulumi.Output[int]
    probes: pulumi.Output[int]
    failures: pulumi.Output[list[str]]

    def __init__(self, name: str, props: HealthGateProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(HealthGateProvider(), name, props, ("healthy", "pairs", "probes", "failures"), opts)


def _examine(props: HealthGateProps) -> Health:
    places = StackPlaces(props.stack)
    endpoints = [
        pairs.Endpoint(
            vpc=one["vpc"],
            subnet=one["subnet"],
            name=one["name"],
            address=one["address"],
            host=one["host"],
            netns=str(places.netns_path(one["name"])),
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
    """The question whether a probe's own flow goes straight from host to host, asked of the pinned tables of the host
    that it began on. Where it should go is the plan's word, and no agent's."""
    hosts = {host.name: host.spec.address for host in objects.listed(stack, NetworkHost)}
    vnis = {vpc.name: vpc.status.vni for vpc in objects.listed(stack, Vpc)}
    named = {(one.vpc, one.name): one for one in endpoints}

    def asked(probed: gate.Probed) -> str | None:
        source, target = probed.pair.source, probed.pair.target
        echo = probed.protocol == "icmp"
        flow = Flow(
            vni=vnis.get(source.vpc, 0),
            proto=PROTOCOLS[probed.protocol],
            src=source.address,
            dst=target.address,
            sport=probed.answer.port,
            dport=probed.answer.port if echo else probed.port,
        )
        if isinstance(target, pairs.Endpoint):
            return flows.direct(source.host, flow, hosts.get(target.host, ""))
        backend = named.get((target.vpc, (probed.answer.identity or {}).get("name", "")))
        if backend is None:
            return "its backend did not say who it is"
        return flows.translated(source.host, flow, backend.address, hosts.get(backend.host, ""))

    return asked


def _outputs(health: Health) -> Outputs:
    return {
        "healthy": health.ok,
        "pairs": len(health.pairs),
        "probes": health.probes,
        "failures": list(health.problems),
    }
