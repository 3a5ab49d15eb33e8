"""A host's rows made at one go, by nothing that happened before, and by steps. Used by tests of rows, and by the lab's
comparison."""

from __future__ import annotations

from node_agent.rows.diff import Change
from node_agent.rows.host import Desired, World
from node_agent.rows.image import MapImage


def desired(world: World) -> MapImage:
    return Desired(world).image()


def apply(image: MapImage, changes: list[Change]) -> MapImage:
    """The image after the changes; maps that end up empty are left out."""
    after = {name: dict(rows) for name, rows in image.items()}
    for change in changes:
        rows = after.setdefault(change.map, {})
        if change.verb == "put":
            rows.update(change.rows)
        else:
            for key in change.rows:
                rows.pop(key, None)
    return {name: rows for name, rows in after.items() if rows}
