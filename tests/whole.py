"""A host's rows made at one go, by nothing that happened before. Used by tests of rows, and by the lab's comparison."""

from __future__ import annotations

from node_agent.rows.host import Desired, World
from node_agent.rows.image import MapImage


def desired(world: World) -> MapImage:
    return Desired(world).image()
