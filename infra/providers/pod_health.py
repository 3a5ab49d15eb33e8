"""Dynamic resource: the health gate of a cluster. Made means that pods' packets flow, on every node and in every VPC.

As the gate of hosts (`health.Gate`), but with pods of its own, which are there for the length of a probing only, and
with the API server as the one way to them and to the agents. Why: docs/adr/0012-health-of-pods.md.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import pulumi
from pulumi.dynamic import ReadResult

from infra.providers import objects
from infra.providers.base import Made
from infra.providers.health import OUTPUTS, PAUSE, PROBE_SECONDS, Gate
from infra.providers.probe_pods import FREE_SECONDS, Cluster, State
from infra.render import probe_pods
from infra.render.probe_pods import Network
from node_agent.datapath.direct import Question
from node_agent.health import assess, gate, pairs, paths, pod_states
from node_agent.health.assess import Health
from node_agent.model.errors import MizarError, Temporary
from node_agent.model.objects import NetworkHost, Vpc


@dataclass(frozen=True, kw_only=True)
class PodHealthProps:
    """`kubeconfig`: text that leads to the cluster. `image`: Mizar's, by digest, as nodes must run it. `nodes`: names
    of all that take pods. `networks`: mappings with vpc and subnet. `mtu`: pods', in bytes. `services`: cluster IPs are
    to be probed, `dns`: names of services under `domain`, `api`: the way to the API server."""

    stack: str
    kubeconfig: Any
    image: Any
    nodes: tuple[str, ...]
    networks: tuple[Mapping[str, str], ...]
    seconds: int
    mtu: int = 0
    services: bool = True
    dns: bool = True
    api: bool = True
    domain: str = "cluster.local"
    preview: bool = False


class PodHealthProvider(Gate[PodHealthProps]):
    props = PodHealthProps
    # What was just made has to get around.
    look: ClassVar[float] = 5.0

    def examine(self, props: PodHealthProps, patience: float) -> Health:
        """Pods that do not start within `props.seconds` are failures, and so is a cluster that cannot be reached or
        refuses them."""
        try:
            return _examine(props, patience)
        except MizarError as error:
            return assess.assess((), props.nodes, [("cluster", str(error))])

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """How many pairs there are depends on the addresses that pods happen to get, which is no change."""
        found: ReadResult = super().read(id_, props)
        return ReadResult(id_, props) if props.get("healthy") and (found.outs or {}).get("healthy") else found

    def remove(self, props: PodHealthProps) -> None:
        # With a cluster that cannot be reached any more, its pods are gone or end by themselves.
        with contextlib.suppress(Temporary), Cluster(props.kubeconfig) as cluster:
            cluster.sweep(FREE_SECONDS)


class PodHealth(Made, module="local", name="PodHealth"):
    healthy: pulumi.Output[bool]
    pairs: pulumi.Output[int]
    probes: pulumi.Output[int]
    failures: pulumi.Output[list[str]]

    def __init__(self, name: str, props: PodHealthProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(PodHealthProvider(), name, props, OUTPUTS, opts)


def _examine(props: PodHealthProps, patience: float) -> Health:
    networks = [Network(vpc=one["vpc"], subnet=one["subnet"]) for one in props.networks]
    pods = probe_pods.choose(props.nodes, networks)
    with (
        Cluster(props.kubeconfig) as cluster,
        cluster.made(pods, props.image, props.seconds + patience, services=props.services or props.dns) as made,
    ):
        namespace, services = made
        state = cluster.state(namespace, pods, props.seconds)
        until = time.monotonic() + patience
        while True:
            health = _probe(props, cluster, namespace, state, services)
            if health.ok or state.problems or time.monotonic() > until:
                return health
            time.sleep(PAUSE)
            state = cluster.state(namespace, pods, 0.0)


def _probe(
    props: PodHealthProps, cluster: Cluster, namespace: str, state: State, services: Sequence[pairs.Service]
) -> Health:
    """One round, with the pods that are ready."""
    agents = cluster.agents()
    with objects.opened(props.stack, props.kubeconfig) as store:
        hosts, vpcs = store.list(NetworkHost), store.list(Vpc)
    wanted = paths.Wanted(
        hosts={host.name: host.spec.address for host in hosts},
        vnis={vpc.name: vpc.status.vni for vpc in vpcs},
        endpoints=state.ready,
    )
    told = [*pod_states.agent_problems(agents, props.nodes, props.image), *state.problems]
    told += [
        (host.name, f"its agent says: {problem}")
        for host in hosts
        if host.name in props.nodes
        for problem in host.status.problems
    ]
    return gate.examine(
        state.ready,
        services=services if props.services else (),
        common=_common(props, namespace, services),
        hosts=props.nodes,
        timeout=PROBE_SECONDS,
        mtu=props.mtu,
        ask=partial(cluster.probe, namespace),
        direct=_direct(cluster, agents, wanted),
        host_problems=told,
    )


def _common(props: PodHealthProps, namespace: str, services: Sequence[pairs.Service]) -> list[pairs.Common]:
    found = [pairs.Common(name="API server", protocol="connect")] if props.api else []
    if props.dns:
        found += [
            pairs.Common(
                name="name server",
                protocol="dns",
                vpc=service.vpc,
                question=f"{service.name}.{namespace}.svc.{props.domain}",
                answer=service.address,
            )
            for service in services
        ]
    return found


def _direct(cluster: Cluster, agents: Sequence[dict[str, Any]], wanted: paths.Wanted) -> gate.Direct:
    """The question whether probes' own flows go straight, asked in the container of each host's agent, once a host."""

    def asked(probed: Sequence[gate.Probed]) -> list[str | None]:
        questions = [wanted.question(one) for one in probed]
        by_host: dict[str, list[Question]] = {}
        for one, question in zip(probed, questions, strict=True):
            if isinstance(question, Question):
                by_host.setdefault(one.pair.source.host, []).append(question)
        found = {host: iter(answered) for host, answered in cluster.flows(agents, by_host).items()}
        return [
            question if isinstance(question, str) else next(found[one.pair.source.host])
            for one, question in zip(probed, questions, strict=True)
        ]

    return asked
