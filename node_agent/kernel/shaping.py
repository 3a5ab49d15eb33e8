"""A bound on what leaves by an interface: the token bucket of tc-tbf(8), as the interface's only queue.

Called by the agent for endpoints: on the host side of a veth it bounds what the endpoint receives, on the other one
what it sends.
"""

from __future__ import annotations

from node_agent.kernel.links import Links, saying
from node_agent.model.bandwidth import Rate

HANDLE = 1 << 16  # "1:"
LEAST_BYTES = 64 << 10
"""A whole super-packet, so that it need not be cut in pieces."""
LEAST_SECONDS = 0.02
"""Of the rate: less than what comes between two ticks of the slowest kernels would cost rate."""
MOST_SECONDS = 1.0
"""Of the rate. Runtimes say "no bound on bursts" by a number of which nobody would see the end."""
WAIT_SECONDS = 0.05
"""A full queue takes so long to drain: enough for TCP, and no more than a bad connection."""


def bound(net: Links, name: str, rate: Rate) -> None:
    """Bound what leaves by the interface, or change the bound that is there. A rate without bits does nothing."""
    if not rate.bits:
        return
    index, burst, limit = net.need(name).index, *bucket(rate)
    with saying(f"bound {name} to {rate.bits} bit/s"):
        net.route.tc("replace", "tbf", index, handle=HANDLE, rate=max(1, rate.bits // 8), burst=burst, limit=limit)


def bucket(rate: Rate) -> tuple[int, int]:
    """Bytes of the bucket, and bytes that may wait beside it. Pure."""
    second = rate.bits // 8
    least = max(LEAST_BYTES, int(second * LEAST_SECONDS))
    most = max(least, int(second * MOST_SECONDS))
    burst = min(max(rate.burst // 8, least), most)
    return burst, burst + int(second * WAIT_SECONDS)
