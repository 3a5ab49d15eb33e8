"""From what maps hold to what they should hold, in an order that never misleads a packet. Pure.

Called by the agent (`agent.tables`). Maps that the programs write (flows, asked, fragments, counters) are not touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from node_agent.rows.image import MapImage

# A row is written after what it names: the VPC's row carries the flow table of the locals, bouncers send to locals, a
# service has slots and these have backends, and `serving` says that all the others are there. Removal goes the other
# way round, and of `serving` before anything is written: who is about to forget must first stop answering for it.
PUT_ORDER = (
    "config",
    "listed",
    "vpcs",
    "subnets",
    "routes",
    "locals",
    "ports",
    "endpoints",
    "backends",
    "maglev",
    "services",
    "serving",
)
DELETE_ORDER = tuple(name for name in reversed(PUT_ORDER) if name != "config")


@dataclass(frozen=True)
class Change:
    """One step: rows to write, or keys to remove (their values are empty)."""

    verb: Literal["put", "delete"]
    map: str
    rows: Mapping[bytes, bytes]

    def __str__(self) -> str:
        return f"{self.verb} {len(self.rows)} of {self.map}"


def diff(have: MapImage, want: MapImage) -> list[Change]:
    """Steps from one image to the other; equal rows are left alone. An absent map is an empty one."""
    changes = []
    withdrawn = _removed(have, want, "serving")
    if withdrawn:
        changes.append(Change("delete", "serving", withdrawn))
    for name in PUT_ORDER:
        old = have.get(name, {})
        put = {key: value for key, value in want.get(name, {}).items() if old.get(key) != value}
        if put:
            changes.append(Change("put", name, put))
    for name in DELETE_ORDER:
        gone = _removed(have, want, name)
        if gone and name != "serving":
            changes.append(Change("delete", name, gone))
    return changes


def _removed(have: MapImage, want: MapImage, name: str) -> dict[bytes, bytes]:
    kept = want.get(name, {})
    return {key: b"" for key in have.get(name, {}) if key not in kept}
