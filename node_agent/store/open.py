"""Opening the store that a URL names. Called by every process that has a store: agent, controller, providers, CLI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from node_agent.model.errors import Invalid
from node_agent.store.base import Store

if TYPE_CHECKING:
    from node_agent.store.kubernetes_access import Access
    from node_agent.store.kubernetes_http import Api


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
        from node_agent.store.kubernetes import KubernetesStore

        return KubernetesStore(_access(path))
    raise Invalid([f"store: {url!r} is no store: sqlite:<absolute path>, kubernetes:<absolute path> or kubernetes:"])


def open_cluster(kubeconfig: str) -> Store:
    """The store in the cluster that the text of this kubeconfig leads to. Raises as `open_store` does."""
    from node_agent.store import kubernetes_access
    from node_agent.store.kubernetes import KubernetesStore

    return KubernetesStore(kubernetes_access.from_text(kubeconfig))


def open_api(url: str) -> Api | None:
    """For what a cluster knows beside our objects: the API behind a store's URL; None when that store is no cluster.

    Raises as `open_store` does.
    """
    scheme, _, path = url.partition(":")
    if scheme != "kubernetes":
        return None
    from node_agent.store.kubernetes import MANAGER
    from node_agent.store.kubernetes_http import Api

    return Api(_access(path), MANAGER)


def _access(path: str) -> Access:
    from node_agent.store import kubernetes_access

    return kubernetes_access.from_kubeconfig(Path(path)) if path else kubernetes_access.in_cluster()


def api_of(store: Store) -> Api | None:
    """The same by the connections of an open store, which are warm and end with it."""
    found: Api | None = getattr(store, "api", None)
    return found
