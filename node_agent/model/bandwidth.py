"""How much an endpoint may receive and send. Pure data, of requests and devices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """`bits` a second, 0 for no bound; `burst`: bits that may come at once beyond that, 0 for what suits the rate."""

    bits: int = 0
    burst: int = 0


@dataclass(frozen=True, kw_only=True)
class Bandwidth:
    """As seen by the endpoint: `ingress` is what it receives, `egress` what it sends."""

    ingress: Rate = Rate()
    egress: Rate = Rate()


UNBOUNDED = Bandwidth()
