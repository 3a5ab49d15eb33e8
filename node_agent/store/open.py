"""Opening the store that a URL names. Called by every process that has a store: agent, controller, providers, CLI."""

from __future__ import annotations

from pathlib import Path

from node_agent.model.errors import Invalid
from node_agent.store.base import Store
from node_agent.store.sqlite import SqliteStore


def open_store(url: str, *, create: bool = True) -> Store:
    """The store behind "sqlite:<absolute path>".

    `create`: make the file (0600) and its folder (0700) where absent. Long-lived processes of a stack pass False:
    they must not bring back a store that a destroy has removed. Raises Invalid for a URL without a meaning,
    Temporary when the store cannot be opened now, Permanent when it is of another version.
    """
    scheme, _, path = url.partition(":")
    if scheme != "sqlite" or not path.startswith("/"):
        raise Invalid([f"store: {url!r} is no store: sqlite:<absolute path>"])
    return SqliteStore(Path(path), create=create)
