"""The health gate: choose pairs, probe them for real, judge. Called by the Pulumi provider, the CLI and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from node_agent.health import assess, pairs, probes
from node_agent.health.answers import Request, Wire
from node_agent.health.assess import Health, Outcome
from node_agent.health.pairs import Endpoint, Pair

ECHOES = 3
SILENCE = 1.0  # seconds without an answer that count as none, across VPCs
# Whether traffic from source to target goes straight from host to host by now: None if so, else the reason.
Direct = Callable[[Endpoint, Endpoint], str | None]


def examine(
    endpoints: Sequence[Endpoint],
    *,
    hosts: Iterable[str] = (),
    timeout: float = 3.0,
    direct: Direct | None = None,
    host_problems: Iterable[tuple[str, str]] = (),
) -> Health:
    """Probe between the endpoints with ICMP, TCP and UDP, and across VPCs for silence; at most about `timeout` seconds
    and a second. `direct` is asked afterwards, for every pair between hosts whose probes were answered."""
    chosen = pairs.choose(endpoints)
    outcomes = _probe(chosen, ("icmp", "tcp", "udp"), timeout)
    # No echo across VPCs: the target's address may be a gateway's in the source's VPC, which answers it rightly.
    outcomes += _probe(pairs.isolation(endpoints), ("tcp", "udp"), min(SILENCE, timeout))
    if direct:
        failed = {outcome.pair for outcome in outcomes if outcome.reason}
        outcomes += [
            Outcome(pair=pair, protocol="direct", reason=direct(pair.source, pair.target) or "")
            for pair in chosen
            if pair not in failed and pair.source.host != pair.target.host
        ]
    return assess.assess(outcomes, hosts, host_problems)


def _probe(chosen: Sequence[Pair], protocols: Sequence[Wire], timeout: float) -> list[Outcome]:
    asked = [(pair, protocol) for pair in chosen for protocol in protocols]
    answers = probes.run(
        [
            Request(
                protocol=protocol,
                source=Path(pair.source.netns),
                timeout=timeout,
                address=pair.target.address,
                count=ECHOES if protocol == "icmp" else 1,
            )
            for pair, protocol in asked
        ]
    )
    return [assess.judge(pair, protocol, answer) for (pair, protocol), answer in zip(asked, answers, strict=True)]
