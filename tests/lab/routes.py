"""What a pod's namespace has for routes, in iproute2's words."""

from __future__ import annotations

from pathlib import Path

from node_agent.kernel import netns


def routes(where: Path, interface: str = "eth0") -> list[str]:
    """IPv4 routes of the main table through the interface, sorted."""
    shown = netns.run_in(where, ["ip", "-4", "route", "show", "dev", interface], 5).stdout
    return sorted(" ".join(line.split()) for line in shown.splitlines())
