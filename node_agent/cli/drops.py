"""`mizar drops`: packets that the programs dropped, by reason, VPC and host.

`collect` reads, `assemble` and `text` are pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from node_agent.cli import names, table
from node_agent.cli.names import Names
from node_agent.datapath.layout import DropReason
from node_agent.datapath.maps import HostMaps
from node_agent.datapath.reasons import phrase
from node_agent.model.places import StackPlaces

Drops = Mapping[tuple[int, DropReason], int]


def collect(places: StackPlaces, host: str = "") -> list[dict[str, Any]]:
    """Of one host, or with "" of all. Raises MizarError."""
    with names.opened(places) as store:
        known = names.read(store)
    if host:
        known.host_address(host)  # raises for a host that is not there
    counted = {}
    for name in [host] if host else sorted(known.hosts.values()):
        with HostMaps(places.host(name).maps) as maps:
            counted[name] = maps.drops()
    return assemble(counted, known)


def assemble(counted: Mapping[str, Drops], known: Names) -> list[dict[str, Any]]:
    """`counted`: by host. The most frequent first; equal ones by reason, VPC and host."""
    told = [
        {
            "reason": reason.name.lower(),
            "vpc": known.vpc(vni) if vni else "",
            "vni": vni,
            "host": host,
            "packets": packets,
            "why": phrase(reason),
        }
        for host, drops in counted.items()
        for (vni, reason), packets in drops.items()
        if packets
    ]
    return sorted(told, key=lambda one: (-one["packets"], one["reason"], one["vpc"], one["host"]))


def text(told: Sequence[Mapping[str, Any]]) -> str:
    if not told:
        return "no packet was dropped"
    rows = [("REASON", "VPC", "HOST", "PACKETS", "WHY")]
    rows += [(one["reason"], one["vpc"] or "-", one["host"], str(one["packets"]), one["why"]) for one in told]
    return "\n".join(table.lines(rows))
