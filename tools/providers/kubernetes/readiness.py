"""When an object has become what was asked for. Pure, but for what it reads through `Look`. Called by `waits`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tools.providers.kubernetes.objects import Object, name_of, namespace_of
from tools.providers.kubernetes.values import at


@dataclass(frozen=True)
class Verdict:
    """`waiting`: why it is not ready, "" for ready. `failed`: waiting longer will not help. `pods`: whose troubles
    explain it."""

    waiting: str = ""
    failed: bool = False
    pods: tuple[Object, ...] = ()


class Look(Protocol):
    """What rules may read beside the object itself."""

    def owned(self, kind: str, owner: Object, selector: Mapping[str, str] | None = None) -> list[Object]: ...
    def slices(self, service: Object) -> list[Object]: ...
    def served(self, crd: Object) -> bool: ...


READY = Verdict()
Rule = Callable[[Object, Look], Verdict]


def condition(obj: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next((each for each in at(obj, ("status", "conditions")) or () if each.get("type") == name), {})


def holds(obj: Mapping[str, Any], name: str) -> bool:
    return condition(obj, name).get("status") == "True"


def _number(obj: Object, *path: str) -> int:
    return int(at(obj, path) or 0)


def _observed(obj: Object) -> bool:
    """The controller has seen what we wrote: older figures count for nothing."""
    return _number(obj, "status", "observedGeneration") >= _number(obj, "metadata", "generation")


def _selector(obj: Object) -> dict[str, str]:
    return dict(at(obj, ("spec", "selector", "matchLabels")) or {})


def deployment(obj: Object, look: Look) -> Verdict:
    if not _observed(obj):
        return Verdict("no controller has looked at it yet")
    wanted = 1 if at(obj, ("spec", "replicas")) is None else _number(obj, "spec", "replicas")
    updated, available = _number(obj, "status", "updatedReplicas"), _number(obj, "status", "availableReplicas")
    old = _number(obj, "status", "replicas") - updated
    if at(obj, ("spec", "paused")) or (updated >= wanted and available >= wanted and old <= 0):
        return READY
    failure = condition(obj, "ReplicaFailure")
    told = f"{available} of {wanted} pods available, {updated} up to date"
    told += f", {old} old ones still there" if old > 0 else ""
    if failure.get("status") == "True":
        told += f"; {failure.get('message')}"
    late = condition(obj, "Progressing").get("reason") == "ProgressDeadlineExceeded"
    return Verdict(told, late, tuple(_newest_pods(obj, look)))


def _newest_pods(obj: Object, look: Look) -> list[Object]:
    """Those of the newest template: what is wrong with older ones is no answer."""
    sets = look.owned("ReplicaSet", obj, _selector(obj))
    revision = at(obj, ("metadata", "annotations", "deployment.kubernetes.io/revision"))
    key = ("metadata", "annotations", "deployment.kubernetes.io/revision")
    newest = [each for each in sets if at(each, key) == revision]
    return [pod for each in newest for pod in look.owned("Pod", each, _selector(obj))]


def daemon_set(obj: Object, look: Look) -> Verdict:
    if not _observed(obj):
        return Verdict("no controller has looked at it yet")
    wanted = _number(obj, "status", "desiredNumberScheduled")
    updated, available = _number(obj, "status", "updatedNumberScheduled"), _number(obj, "status", "numberAvailable")
    if at(obj, ("spec", "updateStrategy", "type")) == "OnDelete":
        updated = wanted
    if updated >= wanted and available >= wanted:
        return READY
    pods = look.owned("Pod", obj, _selector(obj))
    return Verdict(f"{available} of {wanted} pods available, {updated} up to date", pods=tuple(pods))


def stateful_set(obj: Object, look: Look) -> Verdict:
    if not _observed(obj):
        return Verdict("no controller has looked at it yet")
    wanted = 1 if at(obj, ("spec", "replicas")) is None else _number(obj, "spec", "replicas")
    ready, updated = _number(obj, "status", "readyReplicas"), _number(obj, "status", "updatedReplicas")
    strategy = at(obj, ("spec", "updateStrategy", "type"))
    partition = _number(obj, "spec", "updateStrategy", "rollingUpdate", "partition")
    if ready >= wanted and (strategy == "OnDelete" or updated >= wanted - partition):
        return READY
    pods = look.owned("Pod", obj, _selector(obj))
    return Verdict(f"{ready} of {wanted} pods ready, {updated} up to date", pods=tuple(pods))


def pod(obj: Object, look: Look) -> Verdict:
    phase = at(obj, ("status", "phase"))
    if phase == "Succeeded" or holds(obj, "Ready"):
        return READY
    return Verdict(f"it is {phase or 'Pending'}", phase == "Failed", (obj,))


def job(obj: Object, look: Look) -> Verdict:
    if holds(obj, "Complete") or at(obj, ("spec", "suspend")):
        return READY
    pods = tuple(look.owned("Pod", obj, {"batch.kubernetes.io/controller-uid": str(obj["metadata"]["uid"])}))
    failure = condition(obj, "Failed")
    if failure.get("status") == "True":
        return Verdict(f"{failure.get('reason')}: {failure.get('message')}", True, pods)
    done, wanted = _number(obj, "status", "succeeded"), at(obj, ("spec", "completions")) or 1
    return Verdict(f"{done} of {wanted} pods have done their work", pods=pods)


def crd(obj: Object, look: Look) -> Verdict:
    names = condition(obj, "NamesAccepted")
    if names.get("status") == "False":
        return Verdict(f"its names are not accepted: {names.get('message')}", True)
    if not holds(obj, "Established"):
        return Verdict("it is not established")
    return READY if look.served(obj) else Verdict("it is established, but not served yet")


def namespace(obj: Object, look: Look) -> Verdict:
    phase = at(obj, ("status", "phase"))
    return READY if phase == "Active" else Verdict(f"it is {phase}")


def service(obj: Object, look: Look) -> Verdict:
    spec = obj.get("spec", {})
    if spec.get("type") == "ExternalName":
        return READY
    if spec.get("type") == "LoadBalancer" and not at(obj, ("status", "loadBalancer", "ingress")):
        return Verdict("no load balancer has given it an address")
    if not spec.get("selector") or spec.get("clusterIP") == "None":
        return READY
    for each in look.slices(obj):
        for end in each.get("endpoints") or ():
            if at(end, ("conditions", "ready")) is not False:
                return READY
    return Verdict("no ready pod is behind it")


RULES: Mapping[tuple[str, str], Rule] = {
    ("apps", "Deployment"): deployment,
    ("apps", "DaemonSet"): daemon_set,
    ("apps", "StatefulSet"): stateful_set,
    ("", "Pod"): pod,
    ("batch", "Job"): job,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): crd,
    ("", "Namespace"): namespace,
    ("", "Service"): service,
}


# --- why pods are not ready ---

# Waiting reasons that are part of every start.
_USUAL = ("ContainerCreating", "PodInitializing", "")


def troubles(one: Object, last_line: Callable[[str, str, str, bool], str]) -> list[str]:
    """One sentence per container, or about the pod itself. `last_line`: namespace, pod, container, previous -> text."""
    name, space, status = name_of(one), namespace_of(one), one.get("status", {})
    found = []
    stays = at(one, ("spec", "restartPolicy")) == "Always"
    first = status.get("initContainerStatuses") or []
    for each in (*first, *(status.get("containerStatuses") or ())):
        container, state = each["name"], each.get("state") or {}
        waiting = state.get("waiting") or {}
        ended = state.get("terminated") or (each.get("lastState") or {}).get("terminated") or {}
        where = f"pod {name}, container {container}"
        if waiting.get("reason", "") not in _USUAL and not ended:
            found.append(f"{where}: {waiting['reason']}: {waiting.get('message') or each.get('image')}")
        elif ended and (ended.get("exitCode") or waiting or (stays and each not in first)):
            line = last_line(space, name, container, not state.get("terminated"))
            found.append(f"{where}: ended with code {ended.get('exitCode')} ({ended.get('reason')}){_quoted(line)}")
        elif "running" in state and not each.get("ready"):
            found.append(f"{where}: runs, but is not ready")
    scheduled = condition(one, "PodScheduled")
    if scheduled.get("status") == "False":
        found.append(f"pod {name}: {scheduled.get('reason')}: {scheduled.get('message')}")
    if status.get("phase") == "Failed" and not found:
        found.append(f"pod {name}: {status.get('reason')}: {status.get('message')}")
    return found


def _quoted(line: str) -> str:
    return f"; last line of its log: {line}" if line else ""
