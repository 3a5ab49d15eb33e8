"""Opening the store that a URL names. Called by every process that has a store: agent, controller, providers, CLI."""

from __future__ import annotations

from pathlib import Path

from node_agent.model.errors import Invalid
from node_agent.store.base import Store


def open_store(url: str, *, create: bool = True) -> Store:
    """The store behind "sqlite:<absolute path>", "kubernetes:<absolute path of a kubeconfig>" or "kubernetes:", which
    is the cluster whose pod we are in.

    `create`: make the SQLite file (0600) and its folder (0700) where absent. Long-lived processes of a stack pass
    False: they must not bring back a store that a destroy has removed. Raises Invalid for a URL without a meaning or a
    kubeconfig of no use, Temporary when the store cannot be opened now, Permanent when it is of another version. A
    cluster is not asked yet: whether it can be reached, the first verb will tell.
    """
    scheme, _, path = url.partition(":")
    # Each store's libraries are loaded where that store is used.
    if scheme == "sqlite" and path.startswith("/"):
        from node_agent.store.sqlite import SqliteStore

        return SqliteStore(Path(path), create=create)
    if scheme == "kubernetes" and path[:1] in ("", "/"):
        from node_agent.store import kubernetes_access
        from node_agent.store.kubernetes import KubernetesStore

        access = kubernetes_access.from_kubeconfig(Path(path)) if path else kubernetes_access.in_cluster()
        return KubernetesStore(access)
    raise Invalid([f"store: {url!r} is no store: sqlite:<absolute path>, kubernetes:<absolute path> or kubernetes:"])
