"""Ports that the host's own programs leave alone, since flows of endpoints have them (EGRESS).

The kernel picks ports for programs from a range that by default ends below; where somebody has made it wider, ours are
reserved, which concerns nothing but that choice. Called by the agent.
"""

from __future__ import annotations

from pathlib import Path

from node_agent.kernel import netns

RANGE, RESERVED = "net/ipv4/ip_local_port_range", "net/ipv4/ip_local_reserved_ports"
Span = tuple[int, int]


def ensure(path: Path | None, first: int, last: int) -> list[str]:
    """The kernel picks none of `first` to `last` in that namespace; a sentence when it could have. Raises Permanent
    where it may not be told."""
    said = problems(path, first, last)
    if said:
        present = netns.sysctl(path, RESERVED) or ""
        netns.set_sysctl(path, RESERVED, ",".join(filter(None, (present, f"{first}-{last}"))))
    return said


def problems(path: Path | None, first: int, last: int) -> list[str]:
    """A sentence when the kernel could pick one of these ports."""
    low, high = (int(word) for word in (netns.sysctl(path, RANGE) or "1 0").split())
    low, high = max(low, first), min(high, last)
    if low > high or any(start <= low and high <= end for start, end in _spans(netns.sysctl(path, RESERVED) or "")):
        return []
    return [f"ports {low} to {high} were the kernel's to pick, and flows of endpoints have them: reserve them"]


def _spans(text: str) -> list[Span]:
    """What "80,1000-2000" names; the kernel itself joins neighbours and sorts."""
    pairs = (part.partition("-") for part in text.split(",") if part)
    return [(int(start), int(end or start)) for start, _, end in pairs]
