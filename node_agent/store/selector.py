"""Selecting objects by fields: `Where` of the store's contract, checked once, then matched in Python or SQL. Pure.

A field is "name" or a dotted path to a text below spec or status, e.g. "spec.host". Used by the stores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from node_agent.model.codec import part_class
from node_agent.model.errors import Invalid
from node_agent.model.objects import Object
from node_agent.store.base import Where

T = TypeVar("T", bound=Object)


@dataclass(frozen=True)
class Selector:
    """Checked conditions on objects of one kind; all of them must hold. `fields`: (path, wanted text), by path."""

    fields: tuple[tuple[tuple[str, ...], str], ...] = ()

    def matches(self, obj: Object) -> bool:
        for path, wanted in self.fields:
            value: Any = obj
            for step in path:
                value = getattr(value, step)
            if value != wanted:
                return False
        return True

    def sql(self) -> tuple[str, tuple[str, ...]]:
        """A condition on the columns `name`, `spec` and `status` (JSON text), and its parameters."""
        if not self.fields:
            return "1", ()
        terms = [f"{_column(path)} = ?" for path, _ in self.fields]
        return " AND ".join(terms), tuple(wanted for _, wanted in self.fields)


def selector(cls: type[T], where: Where | None) -> Selector:
    """Raises Invalid naming every field that objects of this class do not have, or that is no text."""
    mistakes, fields = [], []
    for name, wanted in sorted((where or {}).items()):
        path = tuple(name.split("."))
        if not _is_text(cls, path):
            mistakes.append(f"where: {name!r} is no text field of {cls.kind}")
        elif not isinstance(wanted, str):
            mistakes.append(f"where: {name} = {wanted!r} is no text")
        else:
            fields.append((path, wanted))
    if mistakes:
        raise Invalid(mistakes)
    return Selector(tuple(fields))


def _is_text(cls: Any, path: tuple[str, ...]) -> bool:
    if path == ("name",):
        return True
    if len(path) != 2 or path[0] not in ("spec", "status"):
        return False
    # Annotations are text here (postponed evaluation), which is all that has to be known.
    return bool(part_class(cls, path[0]).__annotations__.get(path[1]) == "str")


def _column(path: tuple[str, ...]) -> str:
    # The steps are names of dataclass fields by now: nothing of a caller's text gets into the statement.
    return path[0] if len(path) == 1 else f"json_extract({path[0]}, '$.{path[1]}')"
