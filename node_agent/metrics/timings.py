"""How long requests took: a histogram that any thread may add to. Called by the agent's start and its metrics."""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from node_agent.cni.protocol import Reply, Request

BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the buckets, seconds; one more holds the rest."""


@dataclass
class Timing:
    """`counts`: of each bucket alone, the last for what is above all bounds; `total`: seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0


class Timings:
    """By verb and outcome ("ok" or "failed")."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._lock = monotonic, threading.Lock()
        self._timings: dict[tuple[str, str], Timing] = {}

    def timed(self, handle: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
        """The same function, with its time taken."""

        def measured(request: Request) -> Reply:
            begun, outcome = self._monotonic(), "failed"
            try:
                reply = handle(request)
                outcome = "failed" if reply.code else "ok"
                return reply
            finally:
                self.add(request.verb, outcome, self._monotonic() - begun)

        return measured

    def add(self, verb: str, outcome: str, seconds: float) -> None:
        with self._lock:
            timing = self._timings.setdefault((verb, outcome), Timing())
            timing.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
            timing.total += seconds

    def read(self) -> dict[tuple[str, str], Timing]:
        """A copy."""
        with self._lock:
            return {which: Timing(list(one.counts), one.total) for which, one in self._timings.items()}
