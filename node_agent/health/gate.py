"""The health gate: choose pairs, probe them for real, judge. Called by the Pulumi provider, the CLI and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.health import assess, pairs, probes
from node_agent.health.answers import Answer, Request, Wire
from node_agent.health.assess import Health, Outcome
from node_agent.health.pairs import Endpoint, Pair, Service

ECHOES = 3
SILENCE = 1.0  # seconds without an answer that count as none, across VPCs


@dataclass(frozen=True, kw_only=True)
class Probed:
    """One probe that was sent, and what came of it. `port`: of the target, 0 for an echo."""

    pair: Pair
    protocol: Wire
    port: int
    answer: Answer


# Whether this very probe's flow goes straight from host to host by now: None if so, else the reason.
Direct = Callable[[Probed], str | None]


def examine(
    endpoints: Sequence[Endpoint],
    *,
    services: Sequence[Service] = (),
    hosts: Iterable[str] = (),
    timeout: float = 3.0,
    mtu: int = 0,
    direct: Direct | None = None,
    host_problems: Iterable[tuple[str, str]] = (),
) -> Health:
    """Probe between the endpoints, and from them to the services, with ICMP, TCP and UDP, and across VPCs for silence,
    or for an answer of one's own VPC where both use the address; at most about `timeout` seconds and a second. `mtu`:
    also one echo of so many bytes, unfragmented, between every two endpoints. `direct` is asked afterwards: about every
    probe of a pair of endpoints on two hosts and of a service, where all the pair's probes were answered."""
    chosen = pairs.choose(endpoints)
    wanted = [*chosen, *pairs.equal_addresses(endpoints), *pairs.of_services(endpoints, services)]
    asked = [_asked(pair, "icmp", 0, timeout) for pair in wanted]
    asked += [_asked(pair, "icmp", 0, timeout, size=mtu) for pair in chosen if mtu]
    asked += [_asked(pair, protocol, port, timeout) for pair in wanted for protocol, port in pair.ports()]
    probed, outcomes = _probe(asked)
    # No echo across VPCs: the target's address may be a gateway's in the source's VPC, which answers it rightly.
    silent = pairs.isolation(endpoints, services)
    outcomes += _probe(
        [_asked(pair, protocol, port, min(SILENCE, timeout)) for pair in silent for protocol, port in pair.ports()]
    )[1]
    if direct:
        failed = {outcome.pair for outcome in outcomes if outcome.reason}
        outcomes += _direct([one for one in probed if one.pair not in failed], direct)
    return assess.assess(outcomes, hosts, host_problems)


def _asked(pair: Pair, protocol: Wire, port: int, timeout: float, size: int = 0) -> tuple[Pair, Request]:
    return pair, Request(
        protocol=protocol,
        source=Path(pair.source.netns),
        timeout=timeout,
        address=pair.target.address,
        port=port,
        count=1 if size or protocol != "icmp" else ECHOES,
        size=size,
    )


def _probe(asked: Sequence[tuple[Pair, Request]]) -> tuple[list[Probed], list[Outcome]]:
    answers = probes.run([request for _, request in asked])
    probed, outcomes = [], []
    for (pair, request), answer in zip(asked, answers, strict=True):
        probed.append(Probed(pair=pair, protocol=request.protocol, port=request.port, answer=answer))
        outcomes.append(assess.judge(pair, _label(pair, request), answer))
    return probed, outcomes


def _direct(probed: Iterable[Probed], direct: Direct) -> list[Outcome]:
    """One outcome a pair: the first reason of its probes. A VIP itself answers echoes, so these leave no flow."""
    reasons: dict[Pair, list[str]] = {}
    for one in probed:
        if one.pair.source.host == one.pair.target.host or (isinstance(one.pair.target, Service) and not one.port):
            continue
        reason = direct(one)
        reasons.setdefault(one.pair, []).extend([reason] if reason else [])
    return [Outcome(pair=pair, protocol="direct", reason=found[0] if found else "") for pair, found in reasons.items()]


def _label(pair: Pair, request: Request) -> str:
    if request.size:
        return f"{request.protocol} of {request.size} bytes"
    return (
        f"{request.protocol} {request.port}" if isinstance(pair.target, Service) and request.port else request.protocol
    )
