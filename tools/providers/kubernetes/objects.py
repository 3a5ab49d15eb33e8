"""What a Kubernetes object is called, what is sent of it, what is kept of it. Pure; called by `server`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from tools.providers.kubernetes.values import UNKNOWN, Path, at, is_unknown

Object = dict[str, Any]

AUTONAMED = "pulumi.com/autonamed"
FORCE = "pulumi.com/patchForce"
MANAGER = "pulumi.com/patchFieldManager"
SKIP_AWAIT = "pulumi.com/skipAwait"
TIMEOUT = "pulumi.com/timeoutSeconds"
PROPAGATION = "pulumi.com/deletionPropagationPolicy"
PROPAGATIONS = {"foreground": "Foreground", "background": "Background", "orphan": "Orphan"}

# Ours, in a state beside the object's own fields.
KEPT_MANAGER, KEPT_VERSION = "__fieldManager", "__initialApiVersion"
_SERVERS = ("uid", "resourceVersion", "creationTimestamp", "generation")
_ALLOCATED = ("clusterIP", "clusterIPs", "healthCheckNodePort")


def annotation(obj: Mapping[str, Any], name: str) -> str:
    found = at(obj, ("metadata", "annotations", name))
    return found if isinstance(found, str) else ""


def is_set(obj: Mapping[str, Any], name: str) -> bool:
    """An annotation that says true."""
    return annotation(obj, name).lower() == "true"


def name_of(obj: Mapping[str, Any]) -> str:
    return str(at(obj, ("metadata", "name")) or "")


def namespace_of(obj: Mapping[str, Any]) -> str:
    return str(at(obj, ("metadata", "namespace")) or "")


def id_of(obj: Mapping[str, Any]) -> str:
    """namespace/name, name alone for what is in no namespace."""
    space = namespace_of(obj)
    return f"{space}/{name_of(obj)}" if space else name_of(obj)


def label(obj: Mapping[str, Any]) -> str:
    """For messages: Deployment shop/web."""
    return f"{obj.get('kind')} {id_of(obj)}"


def group_of(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def is_builtin(group: str) -> bool:
    """A group that only Kubernetes itself serves: what it does not have now will not come."""
    return "." not in group or group.endswith(".k8s.io")


def kind_of_token(token: str) -> tuple[str, str]:
    """apiVersion and kind of a resource type: kubernetes:core/v1:Secret -> v1, Secret."""
    _, version, kind = token.split(":")
    return version.removeprefix("core/"), kind


def named(inputs: Object, old: Object, name: str, seed: bytes, proposal: str | None) -> Object:
    """With a name, when the program gave none: the old one, the engine's proposal, or one made of the resource's."""
    metadata = inputs.get("metadata", {})
    if is_unknown(metadata) or metadata.get("name"):
        return inputs
    if is_set(old, AUTONAMED):
        chosen = name_of(old)
    elif proposal is not None:
        chosen = proposal
    else:
        chosen = f"{name.lower()}-{hashlib.sha256(seed or name.encode()).hexdigest()[:8]}"
    annotations = {**metadata.get("annotations", {}), AUTONAMED: "true"}
    return {**inputs, "metadata": {**metadata, "name": chosen, "annotations": annotations}}


def stay(news: Object, olds: Object) -> None:
    """Without a cluster that tells which kinds are in a namespace: where the object is, it stays."""
    metadata, space = news.get("metadata"), namespace_of(olds)
    if space and isinstance(metadata, dict) and not metadata.get("namespace"):
        news["metadata"] = {**metadata, "namespace": space}


def manager(urn: str, inputs: Object, old: Object) -> str:
    """The field manager: what the program or the state says; else the resource's own, the same in every run.

    A run that was killed before it could save a state then takes up its own objects, without a conflict with itself.
    """
    kept = str(old.get(KEPT_MANAGER) or "")
    return annotation(inputs, MANAGER) or kept or f"pulumi-kubernetes-{hashlib.sha256(urn.encode()).hexdigest()[:8]}"


def sent(inputs: Object) -> Object:
    """What is applied: without what is ours, and `stringData` as the `data` it becomes.

    Of `stringData` the API server would remember a field that no object has, and never remove a key from `data`.
    """
    body = {key: value for key, value in inputs.items() if not key.startswith("__") and key != "status"}
    if body.get("kind") == "Secret" and isinstance(body.get("stringData"), dict):
        texts = body.pop("stringData")
        coded = {key: base64.b64encode(str(text).encode()).decode() for key, text in texts.items()}
        body["data"] = {**body.get("data", {}), **coded}
    return body


def outputs(live: Object, inputs: Object, field_manager: str) -> Object:
    """What the state keeps of an object: all of it but the bookkeeping of its managers."""
    metadata = {key: value for key, value in live.get("metadata", {}).items() if key != "managedFields"}
    kept = {**live, "metadata": metadata, KEPT_MANAGER: field_manager}
    kept[KEPT_VERSION] = inputs.get("apiVersion", live.get("apiVersion"))
    if "stringData" in inputs:
        kept["stringData"] = inputs["stringData"]
    return kept


def planned(inputs: Object, tried: Object | None, field_manager: str) -> Object:
    """Outputs of an object that is not made yet: what only making it decides is unknown.

    `tried`: the API server's answer to a dry run, None when there was none.
    """
    kept = outputs(tried or inputs, inputs, field_manager)
    if not isinstance(kept["metadata"], dict):
        return kept
    kept["metadata"] |= dict.fromkeys(_SERVERS, UNKNOWN)
    kept["status"] = UNKNOWN
    spec = kept.get("spec")
    if kept.get("kind") == "Service" and isinstance(spec, dict):
        given = at(inputs, ("spec",)) or {}
        kept["spec"] = spec | {name: given.get(name, UNKNOWN) for name in _ALLOCATED if name in spec or tried is None}
    return kept


def secrets_of(inputs: Object, given: frozenset[Path]) -> frozenset[Path]:
    """Paths that are secret in the outputs: where an input was, and everything that a Secret holds."""
    if inputs.get("kind") != "Secret":
        return given
    return given | {("data",), ("stringData",)}


def pruned(live: Any, inputs: Any) -> Any:
    """The live values of the fields that the inputs have: what the inputs would have to be for no change."""
    if isinstance(inputs, dict) and isinstance(live, dict):
        ours = {key: each for key, each in inputs.items() if key.startswith("__")}
        return ours | {key: pruned(live[key], each) for key, each in inputs.items() if key in live}
    if isinstance(inputs, list) and isinstance(live, list) and len(live) == len(inputs):
        return [pruned(one, other) for one, other in zip(live, inputs, strict=True)]
    return live


def imported(live: Object) -> Object:
    """Inputs of an object that no program made."""
    inputs = {key: value for key, value in live.items() if key != "status"}
    drop = {*_SERVERS, "managedFields", "selfLink", "ownerReferences"}
    inputs["metadata"] = {key: value for key, value in live["metadata"].items() if key not in drop}
    return inputs


def held(inputs: Object, live: Object, paths: list[Path]) -> Object:
    """The inputs with the live values at these paths: changes that the program wants ignored."""
    for path in paths:
        inputs = _replaced(inputs, path, at(live, path))
    return inputs


def _replaced(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    first, *rest = path
    if isinstance(value, dict):
        if first not in value and new is None:
            return value
        changed = {**value, first: _replaced(value.get(str(first), {}), tuple(rest), new)}
        return {key: each for key, each in changed.items() if each is not None}
    if isinstance(value, list) and isinstance(first, int) and first < len(value):
        return [_replaced(each, tuple(rest), new) if place == first else each for place, each in enumerate(value)]
    return value


def read_as(live: Object, inputs: Object) -> Object:
    """A live Secret in the words of the inputs: `stringData` again where the program says so."""
    texts = inputs.get("stringData")
    if live.get("kind") != "Secret" or not isinstance(texts, dict):
        return live
    data = live.get("data", {})
    shown = {key: base64.b64decode(data[key]).decode(errors="replace") for key in texts if key in data}
    return {**live, "stringData": shown}
