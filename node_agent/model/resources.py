"""The objects as resources `mizar.com/v1` of the Kubernetes API. Pure: names, spelling, and the two directions.

Used by `store.kubernetes`, which speaks with the API server, and by the rendering of the CRDs, so that schema and
client cannot disagree. What a resource looks like:

    {"apiVersion": "mizar.com/v1", "kind": "Vpc", "metadata": {"name": ...}, "spec": {"setSize": 3, ...}, "status": ...}

Fields are spelled in camel case there and in snake case here; mappings (`dict[str, ...]`) keep their keys.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from node_agent.model.codec import Plain, decode_as, encode_part, part_class
from node_agent.model.errors import Invalid
from node_agent.model.objects import (
    KINDS,
    NetworkEndpoint,
    NetworkHost,
    NetworkService,
    Object,
    Subnet,
    Vpc,
    Watermark,
)

T = TypeVar("T", bound=Object)

NAMESPACE = "mizar-system"
"""Of what runs Mizar on a cluster."""
AGENT, CONTROLLER = "mizar-agent", "mizar-controller"
"""Names there, of daemonset, deployment and their accounts."""
GROUP, VERSION = "mizar.com", "v1"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """How the API names a kind. `short`: for people at a shell. `selectable`: dotted fields of ours, below spec, by
    which the API server itself can select (docs/adr/0007-watches.md)."""

    plural: str
    short: tuple[str, ...] = ()
    selectable: tuple[str, ...] = ()


RESOURCES: dict[str, Resource] = {
    Vpc.kind: Resource(plural="vpcs"),
    Subnet.kind: Resource(plural="subnets", selectable=("spec.vpc",)),
    NetworkEndpoint.kind: Resource(
        plural="networkendpoints",
        short=("nep",),
        selectable=("spec.host", "spec.subnet", "spec.vpc", "spec.container_id"),
    ),
    NetworkService.kind: Resource(plural="networkservices", short=("nsvc",), selectable=("spec.vpc",)),
    NetworkHost.kind: Resource(plural="networkhosts", short=("nhost",)),
    Watermark.kind: Resource(plural="watermarks"),
}
assert RESOURCES.keys() == KINDS.keys()


def camel(name: str) -> str:
    """A field's name as the API spells it: "set_size" -> "setSize"."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def camel_path(path: str) -> str:
    """ "spec.container_id" -> "spec.containerId"."""
    return ".".join(camel(step) for step in path.split("."))


def to_resource(obj: Object) -> Plain:
    """What creates this object: name, finalizers and spec. The API server takes a status by another request only."""
    metadata: Plain = {"name": obj.name}
    if obj.meta.finalizers:
        metadata["finalizers"] = list(obj.meta.finalizers)
    return {"apiVersion": API_VERSION, "kind": obj.kind, "metadata": metadata, "spec": part_to_resource(obj.spec)}


def part_to_resource(part: Any) -> Plain:
    """A spec or status in the API's spelling."""
    plain = _to_camel(type(part), encode_part(part))
    assert isinstance(plain, dict)
    return plain


def from_resource(cls: type[T], raw: Mapping[str, Any]) -> T:
    """The object that the API server showed. Fields that this program does not know are left out: they belong to a
    newer one, which may be at work beside it. Raises Invalid with every mistake."""
    metadata = raw.get("metadata")
    if not isinstance(metadata, Mapping):
        raise Invalid([f"{cls.kind}: it has no metadata"])
    try:
        return decode_as(
            cls,
            {
                "name": metadata.get("name"),
                "spec": _from_camel(part_class(cls, "spec"), raw.get("spec") or {}),
                "status": _from_camel(part_class(cls, "status"), raw.get("status") or {}),
                "meta": _meta(metadata),
            },
        )
    except Invalid as error:
        raise Invalid(f"{cls.kind} {metadata.get('name')}: {mistake}" for mistake in error.mistakes) from None


def _meta(metadata: Mapping[str, Any]) -> Plain:
    version = str(metadata.get("resourceVersion", ""))
    return {
        "uid": metadata.get("uid", ""),
        "resource_version": int(version) if version.isdecimal() else 0,
        "generation": metadata.get("generation", 0),
        "deleting": metadata.get("deletionTimestamp") is not None,
        "finalizers": metadata.get("finalizers") or [],
    }


@functools.cache
def _fields(cls: Any) -> tuple[tuple[str, str, Any], ...]:
    """(our name, the API's name, record class inside it or None) of each field."""
    hints = typing.get_type_hints(cls)
    return tuple((f.name, camel(f.name), _record_in(hints[f.name])) for f in dataclasses.fields(cls))


def _record_in(hint: Any) -> Any:
    """The record class of a field that is one, or a tuple of ones; None for scalars and mappings."""
    if typing.get_origin(hint) is tuple:
        hint = typing.get_args(hint)[0]
    return hint if dataclasses.is_dataclass(hint) else None


def _to_camel(cls: Any, raw: Any) -> Any:
    if cls is None:
        return raw
    if isinstance(raw, list):
        return [_to_camel(cls, item) for item in raw]
    return {theirs: _to_camel(inner, raw[ours]) for ours, theirs, inner in _fields(cls)}


def _from_camel(cls: Any, raw: Any) -> Any:
    if cls is None:
        return raw
    if isinstance(raw, list):
        return [_from_camel(cls, item) for item in raw]
    if not isinstance(raw, Mapping):
        return raw  # a mistake, told by whoever decodes it
    return {ours: _from_camel(inner, raw[theirs]) for ours, theirs, inner in _fields(cls) if theirs in raw}
