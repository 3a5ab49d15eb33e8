"""Dynamic resource: the health gate. Made means that packets flow between the endpoints of every pair of hosts.

    up        `diff` probes once everything else is in place; failures are an update, which probes until all is well or
              its patience ends, and then fails with one line per host, pair and reason
    refresh   `read` probes and records the failures it saw, so that a broken network shows as a change
    preview   sends nothing: `preview` among the inputs says so, and counts as no difference

The choice of this way, and its proof, is docs/adr/0004-health-gate.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from infra.providers import objects
from infra.providers.base import Made, Outputs, Provider
from node_agent.datapath import direct
from node_agent.health import assess, gate, pairs
from node_agent.health.assess import Health
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkEndpoint, NetworkHost
from node_agent.model.places import StackPlaces

PROBE_SECONDS = 3.0
PAUSE = 0.5
PROTOCOLS = (direct.ICMP, direct.TCP, direct.UDP)


@dataclass(frozen=True, kw_only=True)
class HealthGateProps:
    """`endpoints`: mappings with vpc, subnet, name, address, host. `seconds`: patience before the gate fails."""

    stack: str
    hosts: tuple[str, ...]
    endpoints: tuple[Mapping[str, str], ...]
    seconds: int
    preview: bool = False


class HealthGateProvider(Provider[HealthGateProps]):
    props = HealthGateProps
    identity = ("stack",)
    silent = ("seconds", "preview")

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
    return gate.examine(
        endpoints, hosts=props.hosts, timeout=PROBE_SECONDS, direct=_direct(places), host_problems=_host_problems(props)
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


def _direct(places: StackPlaces) -> gate.Direct:
    """The question whether two endpoints' traffic goes straight from host to host, asked of the pinned flow tables.

    The probes have just sent all three protocols, so an entry for each must be there and name the target's host.
    """
    known = {(one.spec.vpc, one.spec.address): one for one in objects.listed(places.id, NetworkEndpoint)}

    def asked(source: pairs.Endpoint, target: pairs.Endpoint) -> str | None:
        ends = [known.get((end.vpc, end.address)) for end in (source, target)]
        if ends[0] is None or ends[1] is None:
            return "the store has no object for one of its ends"
        reasons = (direct.direct_path(places, ends[0], ends[1], proto) for proto in PROTOCOLS)
        return next((reason for reason in reasons if reason), None)

    return asked


def _outputs(health: Health) -> Outputs:
    return {
        "healthy": health.ok,
        "pairs": len(health.pairs),
        "probes": health.probes,
        "failures": list(health.problems),
    }
