"""Pods of a real cluster for measurements: made at once, waited for, removed, and their addresses with them.

Called by `cni`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from node_agent.model.codec import Plain
from node_agent.model.errors import AlreadyExists, NotFound, Permanent
from node_agent.store.kubernetes_http import Api
from node_agent.store.open import open_api

PATIENCE = 300.0  # seconds for all pods of a round to be Ready, and as many for them to go
LOOK_EVERY = 0.25


def measure(store: str, nodes: Sequence[str], number: int, image: str) -> str:
    """So many pods on each of these nodes of the cluster that the store's URL names; what was seen of them, as one
    sentence. Raises Permanent when two share an address, when they do not get Ready, or when an address stays."""
    api = open_api(store)
    if api is None:
        raise Permanent(f"measure pods: {store} is no cluster")
    with contextlib.closing(api), _namespace(api) as namespace:
        began = time.monotonic()
        for n in range(number):
            for node in nodes:
                _make(api, namespace, f"{node}-{n}", node, image)
        made = time.monotonic() - began
        found = _until(lambda: _ready(api, namespace, number * len(nodes)), "get Ready")
        ready = time.monotonic() - began
        if len(set(found)) != number * len(nodes):
            raise Permanent(f"make {number * len(nodes)} pods: they have {len(set(found))} addresses")
        began = time.monotonic()
        api.ask("delete pods", "DELETE", f"/api/v1/namespaces/{namespace}/pods", {"gracePeriodSeconds": "0"})
        _until(lambda: not _endpoints(api, namespace), "give their addresses back")
        gone = time.monotonic() - began
    return (
        f"{len(found)} pods with as many addresses, made in {made:.1f} s, all Ready after {ready:.1f} s, "
        f"all addresses free {gone:.1f} s after their deletion"
    )


def _make(api: Api, namespace: str, name: str, node: str, image: str) -> None:
    spec: Plain = {
        "nodeName": node,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [{"name": "it", "image": image, "imagePullPolicy": "IfNotPresent"}],
    }
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    api.ask(f"make pod {name}", "POST", f"/api/v1/namespaces/{namespace}/pods", body=body)


def _ready(api: Api, namespace: str, number: int) -> list[str]:
    """Addresses of the pods, once so many are Ready; else none."""
    found = api.ask("list pods", "GET", f"/api/v1/namespaces/{namespace}/pods", {"resourceVersion": "0"})["items"]
    ready = [each["status"].get("podIP", "") for each in found if _is_ready(each)]
    return ready if len(ready) == number else []


def _is_ready(pod: Plain) -> bool:
    told: list[Any] = pod["status"].get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in told)


def _endpoints(api: Api, namespace: str) -> list[str]:
    """Names of the endpoints of these pods."""
    found = api.ask("list endpoints", "GET", "/apis/mizar.com/v1/networkendpoints")["items"]
    return [each["metadata"]["name"] for each in found if each["spec"].get("workload", "").startswith(f"{namespace}/")]


def _until(look: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        if time.monotonic() > end:
            raise Permanent(f"wait for pods to {what}: not within {PATIENCE:g} s")
        time.sleep(LOOK_EVERY)
    return found


@contextlib.contextmanager
def _namespace(api: Api) -> Iterator[str]:
    """Of the cluster, for this measurement alone, once pods can be made in it."""
    name = f"mizar-bench-{os.getpid()}"
    with contextlib.suppress(AlreadyExists):
        api.ask(f"make namespace {name}", "POST", "/api/v1/namespaces", body={"metadata": {"name": name}})
    try:
        _until(lambda: _has_account(api, name), "have an account")
        yield name
    finally:
        api.ask(f"remove namespace {name}", "DELETE", f"/api/v1/namespaces/{name}")
        _until(lambda: not _exists(api, f"/api/v1/namespaces/{name}"), "leave their namespace")


def _has_account(api: Api, name: str) -> bool:
    return _exists(api, f"/api/v1/namespaces/{name}/serviceaccounts/default")


def _exists(api: Api, path: str) -> bool:
    try:
        api.ask("look for it", "GET", path)
    except NotFound:
        return False
    return True
