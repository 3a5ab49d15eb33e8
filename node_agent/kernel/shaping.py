"""A bound on what leaves by an interface: the token bucket of tc-tbf(8), as the interface's only queue.

Called by the agent for endpoints: on the host side of a veth it bounds what the endpoint receives, on the other one
what it sends.
"""

from __future__ import annotations

from node_agent.kernel.links import Links, saying
from node_agent.model.bandwidth import Rate

HANDLE = 1 << 16  # "1:"
LEAST_BYTES = 80 << 10
"""A whole super-packet with the headers of all its segments, so that it need not be cut in pieces."""
LEAST_RATE, MOST_RATE = 1 << 9, (1 << 32) - 1
"""Bytes a second. Slower ones, with such a bucket, are beyond the kernel's numbers; faster ones no bound."""
LEAST_SECONDS, MOST_SECONDS = 0.02, 0.1
"""Of the rate, in the bucket. Less than what comes between two ticks of the slowest kernels would cost rate; and
runtimes say "no bound on bursts" by a number of which nobody would see the end."""
WAIT_SECONDS = 0.05
"""What may wait, of the rate: enough for TCP, and a probe behind it is not late."""


def bounds(rate: Rate) -> bool:
    """Whether it is a bound at all. Pure."""
    return 0 < rate.bits <= 8 * MOST_RATE


def bound(net: Links, name: str, rate: Rate) -> None:
    """Bound what leaves by the interface, or change the bound that is there. No bound does nothing."""
    if not bounds(rate):
        return
    index, (second, burst, limit) = net.need(name).index, bucket(rate)
    with saying(f"bound {name} to {rate.bits} bit/s"):
        net.route.tc("replace", "tbf", index, handle=HANDLE, rate=second, burst=burst, limit=limit)


def bucket(rate: Rate) -> tuple[int, int, int]:
    """Bytes a second, bytes of the bucket, and bytes that may wait for it. Pure."""
    second = max(rate.bits // 8, LEAST_RATE)
    least = max(LEAST_BYTES, int(second * LEAST_SECONDS))
    most = max(least, int(second * MOST_SECONDS))
    burst = min(max(rate.burst // 8, least), most)
    return second, burst, max(2 * LEAST_BYTES, int(second * WAIT_SECONDS))
