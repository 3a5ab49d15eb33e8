"""The health gate: choose pairs, probe them for real, judge. Called by the Pulumi providers, the CLI and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from node_agent.health import assess, pairs, probes
from node_agent.health.answers import Answer, Request, Wire
from node_agent.health.assess import Health, Outcome
from node_agent.health.pairs import Common, Endpoint, Pair, Service

ECHOES = 3
SILENCE = 1.0  # seconds without an answer that count as none, across VPCs


@dataclass(frozen=True, kw_only=True)
class Probed:
    """One probe that was sent, and what came of it. `port`: of the target, 0 for an echo."""

    pair: Pair
    protocol: Wire
    port: int
    answer: Answer


# Who sends: one answer per request, in their order. A request's source is the `place` of an endpoint.
Ask = Callable[[Sequence[Request]], Sequence[Answer]]
# Whether these very probes' flows go straight from host to host by now: of each None if so, else the reason.
Direct = Callable[[Sequence[Probed]], Sequence[str | None]]


def examine(
    endpoints: Sequence[Endpoint],
    *,
    services: Sequence[Service] = (),
    common: Sequence[Common] = (),
    hosts: Iterable[str] = (),
    timeout: float = 3.0,
    mtu: int = 0,
    ask: Ask = probes.run,
    direct: Direct | None = None,
    host_problems: Iterable[tuple[str, str]] = (),
) -> Health:
    """Probe between the endpoints, and from them to the services and to what is common, and across VPCs for silence, or
    for an answer of one's own VPC where both use the address; at most about `timeout` seconds.

    `mtu`: also one echo of so many bytes, unfragmented, between every two endpoints. `direct` is asked afterwards:
    about every probe of a pair of endpoints on two hosts and of a service, where all the pair's probes were answered.
    """
    chosen = pairs.choose(endpoints)
    wanted = [*chosen, *pairs.equal_addresses(endpoints), *pairs.of_services(endpoints, services)]
    asked = [_asked(pair, "icmp", 0, timeout) for pair in wanted]
    asked += [_asked(pair, "icmp", 0, timeout, size=mtu) for pair in chosen if mtu]
    wanted += pairs.of_common(endpoints, common)
    asked += [_asked(pair, protocol, port, timeout) for pair in wanted for protocol, port in pair.ports()]
    # No echo across VPCs: the target's address may be a gateway's in the source's VPC, which answers it rightly.
    silent = pairs.isolation(endpoints, services)
    asked += [_asked(pair, protocol, port, min(SILENCE, timeout)) for pair in silent for protocol, port in pair.ports()]
    probed, outcomes = _probe(asked, ask)
    if direct:
        failed = {outcome.pair for outcome in outcomes if outcome.reason}
        outcomes += _direct([one for one in probed if one.pair not in failed and _has_path(one)], direct)
    return assess.assess(outcomes, hosts, host_problems)


def _asked(pair: Pair, protocol: Wire, port: int, timeout: float, size: int = 0) -> tuple[Pair, Request]:
    return pair, Request(
        protocol=protocol,
        source=pair.source.place,
        timeout=timeout,
        address=pair.target.address,
        port=port,
        count=1 if size or protocol != "icmp" else ECHOES,
        size=size,
        question=pair.target.question if isinstance(pair.target, Common) else "",
    )


def _probe(asked: Sequence[tuple[Pair, Request]], ask: Ask) -> tuple[list[Probed], list[Outcome]]:
    answers = ask([request for _, request in asked])
    probed, outcomes = [], []
    for (pair, request), answer in zip(asked, answers, strict=True):
        probed.append(Probed(pair=pair, protocol=request.protocol, port=request.port, answer=answer))
        outcomes.append(assess.judge(pair, _label(pair, request), answer))
    return probed, outcomes


def _has_path(one: Probed) -> bool:
    """Whether it went from host to host. A VIP itself answers echoes, so these leave no flow."""
    match one.pair.target:
        case Endpoint(host=host):
            return one.pair.relation != "other vpc" and one.pair.source.host != host
        case Service():
            return one.pair.relation != "other vpc" and one.port > 0
        case Common():
            return False


def _direct(probed: Sequence[Probed], direct: Direct) -> list[Outcome]:
    """One outcome a pair: the first reason of its probes."""
    reasons: dict[Pair, list[str]] = {}
    for one, reason in zip(probed, direct(probed) if probed else (), strict=True):
        reasons.setdefault(one.pair, []).extend([reason] if reason else [])
    return [Outcome(pair=pair, protocol="direct", reason=found[0] if found else "") for pair, found in reasons.items()]


def _label(pair: Pair, request: Request) -> str:
    if request.size:
        return f"{request.protocol} of {request.size} bytes"
    return (
        f"{request.protocol} {request.port}" if isinstance(pair.target, Service) and request.port else request.protocol
    )
