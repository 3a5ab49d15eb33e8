"""How long a tick of bpf_jiffies64 is: the programs count time in ticks. Called by the agent when it writes `config`.

The length is the resolution of the kernel's coarse clock, which is exact and needs no waiting; `verified` then lets the
programs' own clock (clock.bpf.o) tick for a moment, so that a kernel where the two differ is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from node_agent.datapath import libbpf
from node_agent.model.errors import Permanent

CLOCK_MONOTONIC_COARSE = 6
_MASK = 0x7FFFFFFF  # what clock.bpf.o leaves of the tick
_WAIT = 0.03
_FRAME = bytes(64)


@dataclass(frozen=True)
class Ticks:
    """`hz`: ticks in a second."""

    hz: int

    def of(self, seconds: float) -> int:
        """Seconds as ticks, at least 1: a time of 0 would mean "never" to the programs."""
        return max(1, round(seconds * self.hz))


def coarse_hz() -> int:
    """Ticks in a second as the kernel's coarse clock has them."""
    return round(1 / time.clock_getres(CLOCK_MONOTONIC_COARSE))


def verified(clock: Path) -> Ticks:
    """The length of a tick, held against the compiled clock program. Raises BpfError, Permanent."""
    with libbpf.load(clock) as loaded:
        program = loaded.program("clock")
        return check(coarse_hz(), lambda: libbpf.test_run(program, _FRAME).code)


def check(
    hz: int,
    read: Callable[[], int],
    *,
    now: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Ticks:
    """`hz`, unless the ticks that pass during a wait contradict it. Raises Permanent."""
    before, first, after = now(), read(), now()
    wait(_WAIT)
    begun, last, ended = now(), read(), now()
    passed = last - first & _MASK
    # The readings lie somewhere inside the two calls, each up to one tick late: bounds, however busy the machine is.
    slowest, fastest = (passed - 1) / (ended - before), (passed + 1) / (begun - after)
    if not slowest * 0.98 <= hz <= fastest * 1.02:
        raise Permanent(
            f"find length of a tick: the coarse clock says {hz} a second, "
            f"the programs' clock {slowest:.0f} to {fastest:.0f}"
        )
    return Ticks(hz)
