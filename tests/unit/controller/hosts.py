"""Hosts to place roles on. Used by the tests of placement and of balance."""

from __future__ import annotations

from node_agent.controller.liveness import Host


def hosts(number: int, zones: int = 0) -> dict[str, Host]:
    """host-1, host-2, ...; with `zones`, in zones z0, z1, ... in turn."""
    return {
        f"host-{n}": Host(name=f"host-{n}", address=f"198.18.0.{10 + n}", zone=f"z{n % zones}" if zones else "")
        for n in range(1, number + 1)
    }
