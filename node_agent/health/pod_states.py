"""What the objects of pods say of them: why one does not run, and whether each node has the agent that it should have.
Pure; called by the health gate of clusters and the CLI. Objects are as the API server sends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]


def ready(pod: Object) -> bool:
    """Whether it serves, and is not about to end."""
    return _condition(pod, "Ready").get("status") == "True" and not pod["metadata"].get("deletionTimestamp")


def runs(pod: Object) -> bool:
    """Whether a container of it runs, and it is not about to end."""
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    living = any("running" in (each.get("state") or {}) for each in containers)
    return living and not pod["metadata"].get("deletionTimestamp")


def trouble(pod: Object, events: Iterable[Object] = ()) -> str:
    """Why it is not ready, by the best word that there is: the scheduler's, the container's, or of the newest warning
    among these events of it."""
    status = pod.get("status") or {}
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return f"cannot be scheduled: {scheduled.get('message') or scheduled.get('reason')}"
    warnings = [each for each in events if each.get("type") == "Warning"]
    newest = max(warnings, key=_when, default=None)
    for container in status.get("containerStatuses") or ():
        for kind in ("waiting", "terminated"):
            state = (container.get("state") or {}).get(kind)
            if state and state.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                return _said(f"its container does not run: {state['reason']}", state.get("message"))
    if status.get("phase") == "Failed":
        return _said(f"it failed: {status.get('reason') or 'no reason given'}", status.get("message"))
    if newest is not None:
        return _said(f"does not start: {newest.get('reason')}", newest.get("message"))
    node = (pod.get("spec") or {}).get("nodeName")
    return f"does not start: the kubelet of {node} has not said why" if node else "has not been scheduled"


def agent_problems(pods: Iterable[Object], nodes: Sequence[str], image: str) -> list[tuple[str, str]]:
    """(node, reason) for each node that has not one ready agent of this very image. `pods`: the agents' ones; `image`:
    a reference by digest."""
    found: list[tuple[str, str]] = []
    everyone = list(pods)
    for node in nodes:
        own = [pod for pod in everyone if pod["spec"].get("nodeName") == node and ready(pod)]
        if len(own) != 1:
            late = [pod for pod in everyone if pod["spec"].get("nodeName") == node and not ready(pod)]
            why = f": {late[0]['metadata']['name']} {trouble(late[0])}" if late and not own else ""
            found.append((node, f"{len(own)} agents are ready there instead of 1{why}"))
        for pod in own:
            runs = {status.get("imageID", "") for status in pod["status"].get("containerStatuses") or ()}
            if {_digest(each) for each in runs} != {_digest(image)}:
                found.append((node, f"its agent runs image {', '.join(sorted(runs)) or 'unknown'} instead of {image}"))
    return found


def _condition(pod: Object, kind: str) -> Mapping[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == kind), {})


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


def _said(what: str, message: str | None) -> str:
    return f"{what}: {message}" if message else what


def _digest(reference: str) -> str:
    return reference.rpartition("@")[2]
