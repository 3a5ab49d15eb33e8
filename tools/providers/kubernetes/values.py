"""Property values on the wire of the engine's protocol, and plain data. Pure; used by all modules here.

Plain data is what JSON has. An unknown value (of a preview) stays the engine's marker string; secrets are taken out of
the data and noted as a set of paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

Path = tuple[str | int, ...]

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
# The engine has a marker per type; it sends the one above for nearly all.
_UNKNOWNS = {
    UNKNOWN,
    "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
    "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
    "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
    "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
}
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"
_STEP = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|\.?([^.\[\]]+)')


def unwrap(struct: Struct) -> tuple[dict[str, Any], frozenset[Path]]:
    """Plain data without nulls, whole numbers as int; and the paths at which there were secrets."""
    secrets: set[Path] = set()
    found = _unwrapped(json_format.MessageToDict(struct), (), secrets)
    return found, frozenset(secrets)


def _unwrapped(value: Any, path: Path, secrets: set[Path]) -> Any:
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            secrets.add(path)
            return _unwrapped(value.get("value"), path, secrets)
        return {key: _unwrapped(each, (*path, key), secrets) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_unwrapped(each, (*path, place), secrets) for place, each in enumerate(value)]
    # Struct knows no integers.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def wrap(value: Mapping[str, Any], secrets: Iterable[Path]) -> Struct:
    """The reverse. A secret path that the data does not have is passed over; `()` makes nothing secret."""
    struct = Struct()
    json_format.ParseDict(_wrapped(value, (), frozenset(secrets)), struct)
    return struct


def _wrapped(value: Any, path: Path, secrets: frozenset[Path]) -> Any:
    if isinstance(value, Mapping):
        value = {key: _wrapped(each, (*path, key), secrets) for key, each in value.items()}
    elif isinstance(value, list):
        value = [_wrapped(each, (*path, place), secrets) for place, each in enumerate(value)]
    return {_SIGNATURE: _SECRET, "value": value} if path and path in secrets else value


def is_unknown(value: Any) -> bool:
    return isinstance(value, str) and value in _UNKNOWNS


def has_unknown(value: Any) -> bool:
    """Anywhere inside."""
    if isinstance(value, Mapping):
        return any(has_unknown(each) for each in value.values())
    return any(has_unknown(each) for each in value) if isinstance(value, list) else is_unknown(value)


def text_of(path: Path) -> str:
    """As the engine writes property paths: spec.ports[0], metadata.labels["a.b/c"]."""
    told = ""
    for step in path:
        if isinstance(step, int):
            told += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z_]\w*", step):
            told += f".{step}" if told else step
        else:
            told += '["' + step.replace("\\", "\\\\").replace('"', '\\"') + '"]'
    return told


def path_of(text: str) -> Path:
    """The reverse of `text_of`."""
    steps: list[str | int] = []
    for quoted, number, name in _STEP.findall(text):
        steps.append(int(number) if number else quoted.replace('\\"', '"').replace("\\\\", "\\") if quoted else name)
    return tuple(steps)


def at(value: Any, path: Path) -> Any:
    """What is at the path, None when there is nothing."""
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(str(step))
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def covered(path: Path, by: Iterable[Path]) -> bool:
    """One of `by` is the path or something around it."""
    return any(path[: len(each)] == each for each in by)
