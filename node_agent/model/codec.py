"""Objects as plain JSON-able values and back. Pure; used by the stores, the CLI and the outputs.

    encode(Vpc(...)) == {"kind": "Vpc", "name": ..., "spec": {...}, "status": {...}, "meta": {...}}

Reading is strict: unknown keys, missing keys without a default and values of another type are mistakes, and all of
them are reported at once. The shapes are those of the dataclasses of `objects`; nothing is listed twice.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from node_agent.model.errors import Invalid
from node_agent.model.objects import KINDS, Meta, Object

T = TypeVar("T", bound=Object)
Plain = dict[str, Any]

_KEYS = ("kind", "name", "spec", "status", "meta")


def encode(obj: Object) -> Plain:
    """The object as dicts, lists, strings, numbers and booleans."""
    return {
        "kind": obj.kind,
        "name": obj.name,
        "spec": encode_part(obj.spec),
        "status": encode_part(obj.status),
        "meta": encode_part(obj.meta),
    }


def decode(raw: object) -> Object:
    """Any object. `status` and `meta` may be left out. Raises Invalid."""
    if not isinstance(raw, Mapping):
        raise Invalid([f"object: {raw!r} is no mapping"])
    cls = KINDS.get(str(raw.get("kind", "")))
    if cls is None:
        raise Invalid([f"kind: {raw.get('kind')!r} is none of {', '.join(sorted(KINDS))}"])
    return decode_as(cls, raw)


def decode_as(cls: type[T], raw: object) -> T:
    """An object of this class. Raises Invalid with every mistake."""
    if not isinstance(raw, Mapping):
        raise Invalid([f"object: {raw!r} is no mapping"])
    mistakes = [f"{key}: unknown key of an object" for key in raw if key not in _KEYS]
    if raw.get("kind", cls.kind) != cls.kind:
        mistakes.append(f"kind: {raw['kind']!r} is not {cls.kind}")
    if not isinstance(raw.get("name"), str) or not raw["name"]:
        mistakes.append(f"name: {raw.get('name')!r} is no text of at least one character")
    if "spec" not in raw:
        mistakes.append("spec: missing")
    parts = {
        part: _read(part_class(cls, part), raw[part], part, mistakes)
        for part in ("spec", "status", "meta")
        if part in raw
    }
    if mistakes:
        raise Invalid(mistakes)
    build = typing.cast(typing.Callable[..., T], cls)
    return build(name=raw["name"], **parts)


def encode_part(part: Any) -> Plain:
    """A spec, a status or a meta: tuples become lists, records become dicts."""
    plain = _plain(part)
    assert isinstance(plain, dict)
    return plain


def decode_part(cls: type[T], part: str, raw: object) -> Any:
    """The `part` ("spec" or "status") of an object of class `cls`. Raises Invalid with every mistake."""
    mistakes: list[str] = []
    value = _read(part_class(cls, part), raw, part, mistakes)
    if mistakes:
        raise Invalid(mistakes)
    return value


def part_class(cls: Any, part: str) -> type[Any]:
    """Class of the spec, status or meta of an object class."""
    return Meta if part == "meta" else typing.cast("type[Any]", _hints(cls)[part])


def canonical(part: Any) -> str:
    """JSON text of a spec or status; equal values give equal text."""
    return json.dumps(encode_part(part), sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[Any, bool]]:
    """Name -> (type, whether it must be given) of a record's fields."""
    return {
        f.name: (
            _hints(cls)[f.name],
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
        )
        for f in dataclasses.fields(cls)
    }


def _read(hint: Any, raw: object, at: str, mistakes: list[str]) -> Any:
    """`raw` as a value of type `hint`; what is wrong is added to `mistakes`, and the result is then of no use."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _read_record(hint, raw, at, mistakes)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if raw not in args:
            mistakes.append(f"{at}: {raw!r} is none of {', '.join(map(str, args))}")
        return raw
    if origin is tuple:
        if not isinstance(raw, (list, tuple)):
            mistakes.append(f"{at}: {raw!r} is no list")
            return ()
        return tuple(_read(args[0], item, f"{at}[{i}]", mistakes) for i, item in enumerate(raw))
    if origin is dict:
        if not isinstance(raw, Mapping) or not all(isinstance(key, str) for key in raw):
            mistakes.append(f"{at}: {raw!r} is no mapping from text")
            return {}
        return {key: _read(args[1], item, f"{at}.{key}", mistakes) for key, item in raw.items()}
    return _read_scalar(hint, raw, at, mistakes)


def _read_record(cls: Any, raw: object, at: str, mistakes: list[str]) -> Any:
    if not isinstance(raw, Mapping):
        mistakes.append(f"{at}: {raw!r} is no mapping")
        return None
    before = len(mistakes)
    fields = _fields(cls)
    mistakes += [f"{at}.{key}: unknown key" for key in raw if key not in fields]
    values = {}
    for name, (hint, needed) in fields.items():
        if name in raw:
            found = raw[name]
            # Most fields are plain and right, and watches read thousands of objects.
            values[name] = found if type(found) is hint else _read(hint, found, f"{at}.{name}", mistakes)
        elif needed:
            mistakes.append(f"{at}.{name}: missing")
    return cls(**values) if len(mistakes) == before else None


def _read_scalar(hint: Any, raw: object, at: str, mistakes: list[str]) -> Any:
    assert hint in (str, int, float, bool), f"no rule to read {hint} at {at}"
    if hint is float and type(raw) is int:
        return float(raw)  # JSON writers drop the ".0"
    if type(raw) is not hint:  # exactly: True is no number
        kind = "nothing" if isinstance(raw, types.NoneType) else repr(raw)
        mistakes.append(f"{at}: {kind} is not of type {hint.__name__}")
    return raw
