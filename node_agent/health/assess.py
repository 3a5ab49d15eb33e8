"""What the probes' answers mean: pure. Called by `health.gate` and the CLI; `summary` is what a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node_agent.health.answers import Answer
from node_agent.health.pairs import Common, Pair, Service


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One probe of one pair. `protocol`: what was sent, or "direct"; of a service "tcp 80" and the like.
    `reason`: "" when all is well.

    `lost`: packets that had to be repeated before the answer came; not a failure by itself.
    """

    pair: Pair
    protocol: str
    reason: str
    lost: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.pair}: {self.protocol}: {self.reason or 'ok'}"


@dataclass(frozen=True, kw_only=True)
class PairHealth:
    """One pair with all its probes. `reasons`: one line per failed protocol. `target_host`: "" if on none."""

    source: str
    target: str
    source_host: str
    target_host: str
    relation: str
    reasons: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.reasons


@dataclass(frozen=True, kw_only=True)
class HostHealth:
    """`probed`: probes that begin or end on this host; `failed`: how many of them failed; `reasons`: one line each."""

    name: str
    probed: int
    failed: int
    reasons: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.reasons


@dataclass(frozen=True, kw_only=True)
class Health:
    """`problems`: every failure once, one line each, naming hosts, endpoints, protocol and reason."""

    hosts: tuple[HostHealth, ...]
    pairs: tuple[PairHealth, ...]
    problems: tuple[str, ...]
    probes: int
    lost: int

    @property
    def ok(self) -> bool:
        return not self.problems


def judge(pair: Pair, protocol: str, answer: Answer) -> Outcome:
    """What one answer says about a pair: the right endpoint must have answered, or, across VPCs, none."""
    lost = max(answer.sent - answer.received, 0) if answer.answered else 0
    reason = _foreign(pair, answer) if pair.relation == "other vpc" else _own(pair, answer)
    return Outcome(pair=pair, protocol=protocol, reason=reason, lost=lost, seconds=answer.seconds)


def assess(
    outcomes: Iterable[Outcome], hosts: Iterable[str] = (), host_problems: Iterable[tuple[str, str]] = ()
) -> Health:
    """The verdict on all of them. `hosts`: names that must be covered; one that no probe touched is no failure when it
    has no endpoint, and shows `probed` 0. `host_problems`: (host, reason) known from elsewhere, e.g. its agent."""
    everything = list(outcomes)
    told = list(host_problems)
    names = sorted({*hosts, *(host for host, _ in told), *(h for o in everything for h in _ends(o))})
    host_health = []
    for name in names:
        touching = [o for o in everything if name in _ends(o)]
        failed = [o for o in touching if o.reason]
        reasons = [f"{name}: {reason}" for host, reason in told if host == name] + [str(o) for o in failed]
        host_health.append(HostHealth(name=name, probed=len(touching), failed=len(failed), reasons=tuple(reasons)))
    problems = [f"{host}: {reason}" for host, reason in told] + [str(o) for o in everything if o.reason]
    return Health(
        hosts=tuple(host_health),
        pairs=_by_pair(everything),
        problems=tuple(problems),
        probes=len(everything),
        lost=sum(o.lost for o in everything),
    )


def summary(health: Health, most: int = 20) -> str:
    """One line when all is well; else what failed, per host how much, and up to `most` failures."""
    between = (
        f"{_number(health.probes, 'probe')} over {_number(len(health.pairs), 'pair')}"
        f" of {_number(len(health.hosts), 'host')}"
    )
    repeated = f", {health.lost} repeated" if health.lost else ""
    if health.ok:
        return f"healthy: {between}{repeated}" if health.probes else "healthy: no two endpoints to probe between"
    lines = [f"unhealthy: {_number(len(health.problems), 'failure')} in {between}{repeated}"]
    lines += [
        f"  {host.name}: {host.failed} of {_number(host.probed, 'probe')} failed"
        for host in health.hosts
        if not host.ok
    ]
    lines += [f"  {problem}" for problem in health.problems[:most]]
    if len(health.problems) > most:
        lines.append(f"  and {len(health.problems) - most} more")
    return "\n".join(lines)


def _number(number: int, of: str) -> str:
    return f"{number} {of}" if number == 1 else f"{number} {of}s"


def _own(pair: Pair, answer: Answer) -> str:
    if not answer.answered:
        return answer.reason
    if answer.identity is None:
        return ""  # an echo does not say who sent it
    target = pair.target
    if isinstance(target, Common):
        found = answer.identity.get("address", "")
        return "" if found == target.answer else f"answered {found} instead of {target.answer}"
    vpc, name = answer.identity.get("vpc", ""), answer.identity.get("name", "")
    names = target.backends if isinstance(target, Service) else (target.name,)
    if vpc == target.vpc and name in names:
        return ""
    wanted = f"a backend of {target}" if isinstance(target, Service) else f"{target.vpc}/{target.name}"
    return f"answered by {vpc}/{name} instead of {wanted}"


def _foreign(pair: Pair, answer: Answer) -> str:
    if not answer.sent:
        return answer.reason  # nothing was sent, so its silence proves nothing
    if not answer.answered:
        return ""
    if answer.identity and answer.identity.get("vpc") == pair.source.vpc:
        return ""
    who = "/".join(answer.identity.get(key, "?") for key in ("vpc", "name")) if answer.identity else "an echo"
    return f"answered by {who}, though {pair.source.vpc} and {pair.target.vpc} must not reach each other"


def _by_pair(outcomes: Sequence[Outcome]) -> tuple[PairHealth, ...]:
    grouped: dict[Pair, list[Outcome]] = {}
    for outcome in outcomes:
        grouped.setdefault(outcome.pair, []).append(outcome)
    return tuple(
        PairHealth(
            source=str(pair.source),
            target=str(pair.target),
            source_host=pair.source.host,
            target_host=pair.target.host,
            relation=pair.relation,
            reasons=tuple(f"{o.protocol}: {o.reason}" for o in group if o.reason),
        )
        for pair, group in grouped.items()
    )


def _ends(outcome: Outcome) -> set[str]:
    return {outcome.pair.source.host, outcome.pair.target.host} - {""}
