"""Waits until an object is ready, or gone. Called by `server`; bounded, and ended by the engine's cancellation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from tools.providers.kubernetes.cluster import Cluster, Kind
from tools.providers.kubernetes.objects import (
    SKIP_AWAIT,
    TIMEOUT,
    Object,
    annotation,
    group_of,
    is_set,
    label,
    name_of,
    namespace_of,
)
from tools.providers.kubernetes.readiness import RULES, Verdict, troubles
from tools.providers.kubernetes.values import at

DEFAULT_SECONDS = 600.0
POLL_SECONDS = (0.2, 2.0)
MOST_REASONS = 6
_VERSIONS = {"ReplicaSet": "apps/v1", "Pod": "v1", "EndpointSlice": "discovery.k8s.io/v1"}

Tell = Callable[[str], None]


class NotReady(Exception):
    """The object exists, but did not become ready. `reasons`: one sentence each. `live`: as it was seen last."""

    def __init__(self, live: Object, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.live, self.reasons = live, reasons


def timeout_of(inputs: Object, custom: float) -> float:
    """Seconds: the resource option, the annotation, or the default."""
    return custom or float(annotation(inputs, TIMEOUT) or DEFAULT_SECONDS)


def until_ready(
    cluster: Cluster, kind: Kind, made: Object, seconds: float, cancelled: threading.Event, tell: Tell
) -> Object:
    """The object when it is ready; at once for kinds that have nothing to wait for. Raises NotReady."""
    rule = RULES.get((group_of(str(made.get("apiVersion"))), str(made.get("kind"))))
    if rule is None or is_set(made, SKIP_AWAIT):
        return made
    reader, deadline, pause, told = _Reader(cluster), time.monotonic() + seconds, POLL_SECONDS[0], ""
    live = made
    while True:
        found = cluster.get(kind, namespace_of(made), name_of(made))
        if found is None or at(found, ("metadata", "uid")) != at(made, ("metadata", "uid")):
            raise NotReady(live, [f"{label(made)} was deleted while it was waited for"])
        live = found
        verdict = rule(live, reader)
        if not verdict.waiting:
            return live
        late = time.monotonic() >= deadline
        if verdict.failed or late or cancelled.is_set():
            cause = "cancelled" if cancelled.is_set() else f"not ready after {seconds:g} s" if late else "failed"
            raise NotReady(live, [f"{label(live)}: {cause}: {verdict.waiting}", *_reasons(cluster, verdict)])
        if verdict.waiting != told:
            told = verdict.waiting
            tell(f"waiting: {told}")
        cancelled.wait(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 1.5, POLL_SECONDS[1])


def until_gone(cluster: Cluster, kind: Kind, live: Object, seconds: float, cancelled: threading.Event) -> str:
    """ "" when this very object is gone, else why it still is there."""
    deadline, pause = time.monotonic() + seconds, POLL_SECONDS[0]
    while True:
        found = cluster.get(kind, namespace_of(live), name_of(live))
        if found is None or at(found, ("metadata", "uid")) != at(live, ("metadata", "uid")):
            return ""
        if time.monotonic() >= deadline or cancelled.is_set():
            holders = ", ".join(at(found, ("metadata", "finalizers")) or ()) or "none"
            left = [str(each.get("message")) for each in at(found, ("status", "conditions")) or () if _blocks(each)]
            return "; ".join([f"still there after {seconds:g} s; finalizers: {holders}", *left])
        cancelled.wait(pause)
        pause = min(pause * 1.5, POLL_SECONDS[1])


def _blocks(each: Mapping[str, str]) -> bool:
    """A condition of a namespace that says what is left in it."""
    return each.get("status") == "True" and str(each.get("type")).startswith(("NamespaceDeletion", "NamespaceContent"))


def _reasons(cluster: Cluster, verdict: Verdict) -> list[str]:
    def last_line(namespace: str, pod: str, container: str, previous: bool) -> str:
        return cluster.last_line(namespace, pod, container, previous=previous)

    found = [told for pod in verdict.pods for told in troubles(pod, last_line)]
    more = len(found) - MOST_REASONS
    return found[:MOST_REASONS] + ([f"and {more} more"] if more > 0 else [])


class _Reader:
    """What readiness rules read, from the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def owned(self, kind: str, owner: Object, selector: Mapping[str, str] | None = None) -> list[Object]:
        uid = at(owner, ("metadata", "uid"))
        return [
            each
            for each in self._list(kind, namespace_of(owner), selector)
            if any(one.get("uid") == uid for one in at(each, ("metadata", "ownerReferences")) or ())
        ]

    def slices(self, service: Object) -> list[Object]:
        return self._list("EndpointSlice", namespace_of(service), {"kubernetes.io/service-name": name_of(service)})

    def served(self, crd: Object) -> bool:
        spec = crd["spec"]
        versions = [f"{spec['group']}/{each['name']}" for each in spec["versions"] if each.get("served")]
        return all(self._cluster.kind(each, spec["names"]["kind"]) is not None for each in versions)

    def _list(self, kind: str, namespace: str, selector: Mapping[str, str] | None) -> list[Object]:
        served = self._cluster.kind(_VERSIONS[kind], kind)
        return self._cluster.list(served, namespace, selector) if served else []
