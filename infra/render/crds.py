"""The custom resource definitions of `mizar.com/v1`, from the model. Pure; called by the targets that have a cluster.

Fields, types, defaults and what must be given come from the records of `model.objects`, names and spelling from
`model.resources`; here stand the rules that the API server checks by itself, which are those of `model.addresses` as
far as one object shows whether they are kept. What joins objects (a subnet inside of its VPC) is the controller's to
say, in the object's status. tests/golden keeps the result.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from typing import Any

from infra.render.crd_rules import COLUMNS, DESCRIPTIONS, LIMITS, MAPPINGS, OBJECT_RULES, Plain, rule
from node_agent.model.codec import encode_part, part_class
from node_agent.model.objects import KINDS, Object
from node_agent.model.resources import GROUP, RESOURCES, VERSION, camel, camel_path

CATEGORY = "mizar"
"""`kubectl get mizar` lists every kind."""


def crds() -> list[Plain]:
    """Every CRD as a manifest, in the order of the model."""
    return [crd(cls) for cls in KINDS.values()]


def crd(cls: type[Object]) -> Plain:
    """The CRD of one kind. Cluster scope: a VPC is no namespace's."""
    resource = RESOURCES[cls.kind]
    names: Plain = {
        "kind": cls.kind,
        "listKind": f"{cls.kind}List",
        "plural": resource.plural,
        "singular": cls.kind.lower(),
        "categories": [CATEGORY],
    }
    if resource.short:
        names["shortNames"] = list(resource.short)
    version: Plain = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": object_schema(cls)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [column.manifest() for column in COLUMNS[cls]],
    }
    if resource.selectable:
        version["selectableFields"] = [{"jsonPath": f".{camel_path(path)}"} for path in resource.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Cluster", "names": names, "versions": [version]},
    }


def object_schema(cls: type[Object]) -> Plain:
    """OpenAPI schema of a whole object."""
    spec, status = part_class(cls, "spec"), part_class(cls, "status")
    schema: Plain = {
        "type": "object",
        "description": DESCRIPTIONS[cls],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            # A status has no defaults: who reads it fills in what was not written.
            "spec": _record(spec, defaults=True),
            "status": _record(status, defaults=False),
        },
    }
    if not schema["properties"]["spec"].get("required"):
        del schema["required"]
    if OBJECT_RULES.get(cls):
        schema["x-kubernetes-validations"] = [rule(*each) for each in OBJECT_RULES[cls]]
    return schema


def _record(cls: type[Any], *, defaults: bool) -> Plain:
    hints, fields = typing.get_type_hints(cls), dataclasses.fields(cls)
    schema: Plain = {"type": "object"}
    if cls in DESCRIPTIONS:
        schema["description"] = DESCRIPTIONS[cls]
    properties = {camel(f.name): _field(cls, f, hints[f.name], defaults=defaults) for f in fields}
    if properties:
        schema["properties"] = properties
    if required := [camel(f.name) for f in fields if not _has_default(f)]:
        schema["required"] = required
    if rules := OBJECT_RULES.get(cls):
        schema["x-kubernetes-validations"] = [rule(*each) for each in rules]
    return schema


def _field(cls: type[Any], field: dataclasses.Field[Any], hint: Any, *, defaults: bool) -> Plain:
    schema = _type(hint, defaults=defaults)
    limits = LIMITS.get((cls, field.name), {})
    # Rules of a list's items belong to the items.
    schema |= {key: value for key, value in limits.items() if key != "items"}
    if "items" in limits:
        schema["items"] = {**schema["items"], **limits["items"]}
    if (cls, field.name) in MAPPINGS:
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(MAPPINGS[cls, field.name])}
    if defaults and field.default is not dataclasses.MISSING:
        schema["default"] = _plain(field.default)
    return schema


def _type(hint: Any, *, defaults: bool) -> Plain:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"type": "string", "enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _type(args[0], defaults=defaults)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(args[1], defaults=defaults)}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record(hint, defaults=defaults)
    scalars: dict[Any, Plain] = {
        str: {"type": "string"},
        bool: {"type": "boolean"},
        int: {"type": "integer", "format": "int64"},
        float: {"type": "number", "format": "double"},
    }
    return dict(scalars[hint])


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _plain(default: Any) -> Any:
    if dataclasses.is_dataclass(default):
        return encode_part(default)
    return (
        [_plain(item) for item in default]
        if isinstance(default, Iterable) and not isinstance(default, str)
        else default
    )
