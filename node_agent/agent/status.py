"""What the agent says of itself, as the record the store keeps. Pure; called by `host`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from node_agent.model.objects import NetworkHostStatus, ProgramStatus
from node_agent.rows.host import World
from node_agent.rows.vpcs import member


def generations(world: World, incomplete: Collection[str]) -> dict[str, int]:
    """VPC -> resource version whose rows are in the maps, for the VPCs that this host serves or has an endpoint of.

    Those in `incomplete` are left out: a joining member is to be asked once it can answer."""
    return {
        name: vpc.meta.resource_version
        for name, vpc in sorted(world.vpcs.items())
        if (member(vpc, world.host) or vpc.status.vni in world.slots) and name not in incomplete
    }


def status(
    *,
    now: float,
    pid: int,
    mode: str,
    synced: bool,
    problems: Iterable[str],
    programs: Iterable[ProgramStatus],
    rows: dict[str, int],
) -> NetworkHostStatus:
    """`now`: seconds since the epoch. Ready: the rows are the store's, and nothing is wrong."""
    said = tuple(problems)
    return NetworkHostStatus(
        heartbeat=round(now, 3),
        pid=pid,
        ready=synced and not said,
        mode=mode,
        programs=tuple(programs),
        problems=said,
        generations=rows,
    )


def differs(new: NetworkHostStatus, old: NetworkHostStatus | None) -> bool:
    """Whether more than the heartbeat changed."""
    return old is None or replace(new, heartbeat=0.0) != replace(old, heartbeat=0.0)
