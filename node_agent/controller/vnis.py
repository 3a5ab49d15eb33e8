"""Numbers for VPCs on the wire. Pure; called by `plan`.

VNIs ascend from FIRST and begin again behind the last one, over those in use. The watermark, the last number given
away, outlives every VPC, so the number of a deleted one comes back after a whole turn only: to see that within 24 h
one had to make 190 VPCs a second all day. That is what keeps caches of a dead VPC from meeting a new one.
"""

from __future__ import annotations

from collections.abc import Collection

from node_agent.model.addresses import LAST_VNI

FIRST = 1000
MARK = "vni"
"""Name of the Watermark object."""


def assign(count: int, used: Collection[int], mark: int | None) -> tuple[list[int], int]:
    """That many VNIs (fewer only where fewer are free), ascending from the watermark, and the new watermark.

    `mark` None: nothing is remembered, all that is known are the numbers in use.
    """
    taken = {vni for vni in used if FIRST <= vni <= LAST_VNI}
    count = min(count, LAST_VNI - FIRST + 1 - len(taken))
    last = max(taken, default=FIRST - 1) if mark is None else mark
    vnis: list[int] = []
    while len(vnis) < count:
        last = last + 1 if FIRST <= last + 1 <= LAST_VNI else FIRST
        if last not in taken:
            vnis.append(last)
    return vnis, last
