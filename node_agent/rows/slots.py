"""Which flow table belongs to which VPC: a number that outlives the agent, because it stands in pinned rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from node_agent.datapath.layout import MAPS, VpcKey, VpcRow
from node_agent.model.errors import Permanent

SLOTS = MAPS["flows"].max_entries  # slot 0 is none


def read(vpcs: Mapping[bytes, bytes]) -> dict[int, int]:
    """VNI -> slot, from the rows of map `vpcs`: what a restarted agent goes on with."""
    found = {VpcKey.unpack(key).vni: VpcRow.unpack(value).slot for key, value in vpcs.items()}
    return {vni: slot for vni, slot in found.items() if slot}


def assign(have: Mapping[int, int], vnis: Iterable[int]) -> dict[int, int]:
    """A slot for every VNI, those of `have` unchanged. Raises Permanent when there are none left."""
    wanted = sorted(set(vnis))
    kept = {vni: have[vni] for vni in wanted if vni in have}
    free = (slot for slot in range(1, SLOTS) if slot not in set(kept.values()))
    for vni in wanted:
        if vni not in kept:
            slot = next(free, 0)
            if not slot:
                raise Permanent(f"give VNI {vni} a flow table: all {SLOTS - 1} are taken")
            kept[vni] = slot
    return dict(sorted(kept.items()))
