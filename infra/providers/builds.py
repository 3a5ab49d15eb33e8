"""What the programs of a local cluster were built from. Called by the target, so that a new build is a difference."""

from __future__ import annotations

from pathlib import Path

from node_agent.emulation.cluster import programs
from node_agent.model.errors import MizarError


def build_id() -> str:
    """Names the builds in use; "" when one is missing (`missing` says which)."""
    try:
        found = programs.where()
    except MizarError:
        return ""
    return " ".join(path.name for path in (found.kubernetes, found.coredns, found.containerd))


def coredns() -> Path:
    """The program, which `missing` has not complained of."""
    return programs.where().coredns / "coredns"


def missing() -> list[str]:
    """One sentence when a program is not built."""
    try:
        programs.where()
    except MizarError as error:
        return [str(error)]
    return []
