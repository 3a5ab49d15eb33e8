"""Where a pod belongs: what it and its namespace are annotated with. Called by `plugin`.

Who decides is said in `model.wishes`, for services as well. A VPC alone means its only subnet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from node_agent.agent.together import Together
from node_agent.model.errors import Invalid, NotFound, Temporary
from node_agent.model.objects import Subnet
from node_agent.model.wishes import SUBNET, Wish, nearest, of_namespace, wish
from node_agent.store.base import Store

if TYPE_CHECKING:
    from node_agent.store.kubernetes_http import Api

REMEMBERED = 256  # namespaces
MIRRORED = "kubernetes.io/config.hash"
"""On what the API shows of a static pod: the uid by which its kubelet knows it."""


class Pods(Protocol):
    """Who knows pods. Any thread may call. Raises Temporary, Permanent."""

    def wishes(
        self, namespace: str, name: str, uid: str, annotations: Mapping[str, str] | None = None
    ) -> Sequence[Wish]:
        """What is wished for the pod, nearest first. `uid`: of the pod that is meant, "" for whichever there is;
        `annotations`: of the pod, by its runtime's word, None when that did not say."""
        ...

    def likely(self, namespace: str, name: str, annotations: Mapping[str, str] | None) -> Sequence[Wish] | None:
        """What `wishes` will most likely say, at once; None when that cannot be known."""
        ...


class NoPods:
    """Of hosts whose containers are nobody's pods."""

    def wishes(
        self, namespace: str, name: str, uid: str, annotations: Mapping[str, str] | None = None
    ) -> Sequence[Wish]:
        return ()

    def likely(self, namespace: str, name: str, annotations: Mapping[str, str] | None) -> Sequence[Wish] | None:
        return None


class KubernetesPods:
    """Asks the API server, at every call, for what the runtime did not say: an annotation counts from the next pod on.
    Pods that start together ask together."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._together = Together(self._get)
        self._said: dict[str, Wish] = {}  # by namespace, as of the last answer

    def wishes(
        self, namespace: str, name: str, uid: str, annotations: Mapping[str, str] | None = None
    ) -> Sequence[Wish]:
        said = f"pod {namespace}/{name}"
        if annotations is None:
            pod = self._get((said, f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}"))
            annotations = pod.get("annotations") or {}
            if uid and uid not in (pod.get("uid"), annotations.get(MIRRORED)):
                raise Temporary(f"find {said}: it is another one by now")
        own = wish(said, annotations)
        found = self._together.ask((f"namespace {namespace}", f"/api/v1/namespaces/{quote(namespace)}"))
        told = of_namespace(namespace, found.get("annotations") or {})
        self._said.pop(namespace, None)
        self._said[namespace] = told
        for old in list(self._said)[:-REMEMBERED]:
            self._said.pop(old, None)
        return (own, told)

    def likely(self, namespace: str, name: str, annotations: Mapping[str, str] | None) -> Sequence[Wish] | None:
        if annotations is None:
            return None
        own, told = wish(f"pod {namespace}/{name}", annotations), self._said.get(namespace)
        return None if told is None else (own, told)

    def _get(self, asked: tuple[str, str]) -> Mapping[str, Any]:
        what, path = asked
        try:
            found = self._api.ask(f"find {what}", "GET", path)
        except NotFound as error:  # of a static pod, the kubelet's word may come later than its sandbox
            raise Temporary(f"find {what}: there is none") from error
        metadata: Mapping[str, Any] = found.get("metadata") or {}
        return metadata


def choose(wishes: Sequence[Wish], store: Store) -> Wish:
    """The first that names anything, complete. Raises Invalid; Temporary and Permanent as the store does.

    That the VPC exists, and that the subnet is one of its, ADD finds out.
    """

    def vpc_of(name: str) -> str | None:
        try:
            return store.get(Subnet, name).spec.vpc
        except NotFound:
            return None

    found = nearest(wishes, vpc_of)
    if found.subnet:
        return found
    subnets = [subnet.name for subnet in store.list(Subnet, {"spec.vpc": found.vpc})]
    if len(subnets) != 1:
        names = ", ".join(subnets) or "none"
        raise Invalid([f"{found.whose}: {SUBNET} must be named, as VPC {found.vpc!r} has not one subnet but {names}"])
    return replace(found, subnet=subnets[0])
