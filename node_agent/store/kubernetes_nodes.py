"""The cluster's nodes, as far as hosts are made of them. Used by the controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from node_agent.model.codec import Plain
from node_agent.store.kubernetes_http import Api
from node_agent.store.kubernetes_mirror import Mirror

PATH = "/api/v1/nodes"
ZONE = "topology.kubernetes.io/zone"
WHAT = "watch nodes"


@dataclass(frozen=True, kw_only=True)
class Node:
    """`address`: its first internal IPv4, "" while the kubelet has not said it."""

    name: str
    address: str
    zone: str


def read(raw: Plain) -> Node:
    """The node that the API server showed. Pure."""
    metadata = raw["metadata"]
    addresses = (raw.get("status") or {}).get("addresses") or ()
    internal = (
        each["address"] for each in addresses if each.get("type") == "InternalIP" and ":" not in each["address"]
    )
    zone = (metadata.get("labels") or {}).get(ZONE, "")
    return Node(name=metadata["name"], address=next(internal, ""), zone=zone)


class Nodes:
    """`start` once, then `nodes` from any thread, then `close`, which closes `api` too."""

    def __init__(self, api: Api) -> None:
        self._api, self._mirror = api, Mirror(api, WHAT, PATH, read)

    def start(self) -> None:
        self._mirror.start()

    def nodes(self) -> Mapping[str, Node] | None:
        """By name, as of now; None: not known yet."""
        return self._mirror.known() if self._mirror.listed else None

    def close(self) -> None:
        self._mirror.close()
        self._api.close()
