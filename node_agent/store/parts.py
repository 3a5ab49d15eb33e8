"""What a store checks before it writes: only what can be read back. Called by the stores."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from node_agent.model.codec import canonical, decode_part, part_class
from node_agent.model.errors import Invalid
from node_agent.model.objects import Object

T = TypeVar("T", bound=Object)


def check_new(obj: Object) -> None:
    """An object that is to be created. Raises Invalid."""
    if not obj.name:
        raise Invalid([f"name: a {obj.kind} needs one"])
    check_part(type(obj), "spec", obj.spec)
    check_part(type(obj), "status", obj.status)


def check_part(cls: type[T], part: str, value: Any) -> None:
    """The `part` ("spec" or "status") of an object of class `cls`. Raises Invalid."""
    if not isinstance(value, part_class(cls, part)):
        raise Invalid([f"{part}: {value!r} is no {part_class(cls, part).__name__}"])
    decode_part(cls, part, json.loads(canonical(value)))
