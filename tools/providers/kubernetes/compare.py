"""What an apply would change, and what of it needs a new object. Pure; called by `server`.

The API server applies in a dry run; its answer and the live object are compared whole. So its defaults, its merging of
lists and the fields of other managers show as what they are: no change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tools.providers.kubernetes.objects import Object, group_of
from tools.providers.kubernetes.values import Path, has_unknown, is_unknown

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
_BOOKKEEPING = {("metadata", name) for name in ("managedFields", "resourceVersion", "generation", "creationTimestamp")}
_IDENTITY: tuple[Path, ...] = (("kind",), ("metadata", "name"), ("metadata", "namespace"))
# What pods have read once, they do not read again: by default a change makes a new object, with a new name.
_IMMUTABLE: Mapping[str, tuple[Path, ...]] = {
    "ConfigMap": (("data",), ("binaryData",)),
    "Secret": (("data",), ("stringData",), ("type",)),
}
_REFUSES_CHANGE = re.compile(r"immutable|may not change|may not be changed|cannot be changed|Forbidden: (pod )?updates")


@dataclass(frozen=True)
class Change:
    """`kind`: of ADDED, REMOVED, CHANGED."""

    path: Path
    kind: str
    old: Any = None
    new: Any = None


def changes(old: Any, new: Any, path: Path = ()) -> list[Change]:
    """Leaf by leaf; an unknown new value counts as changed. A list of another length is one change."""
    if path in _BOOKKEEPING or path == ("status",) or (path and str(path[0]).startswith("__")):
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}):
            below = (*path, key)
            if key not in new:
                gone = changes(old[key], {}, below) if isinstance(old[key], dict) and old[key] else []
                found += gone or ([Change(below, REMOVED, old[key])] if changes(old[key], None, below) else [])
            elif key not in old:
                come = changes({}, new[key], below) if isinstance(new[key], dict) and new[key] else []
                found += come or ([Change(below, ADDED, None, new[key])] if changes(None, new[key], below) else [])
            else:
                found += changes(old[key], new[key], below)
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            each for place, pair in enumerate(zip(old, new, strict=True)) for each in changes(*pair, (*path, place))
        ]
    return [] if old == new and not is_unknown(new) and not has_unknown(new) else [Change(path, CHANGED, old, new)]


def another_object(old: Object, new: Object) -> list[Path]:
    """Why the new inputs are another object than the old ones: nothing of it can be changed in place."""
    found = [
        path
        for path in _IDENTITY
        if _given(old, path) and (_given(old, path) != _given(new, path) or is_unknown(_given(new, path)))
    ]
    # Versions of one group are views of the same object.
    if group_of(str(old.get("apiVersion"))) != group_of(str(new.get("apiVersion"))):
        found.append(("apiVersion",))
    return found


def _given(obj: Any, path: Path) -> Any:
    for step in path:
        obj = obj.get(step) if isinstance(obj, dict) else None
    return obj


def replacing(kind: str, found: Iterable[Change], mutable: frozenset[str]) -> list[Path]:
    """The changes that need a new object though the API server would take them. `mutable`: kinds of which none do."""
    fixed = () if kind in mutable else _IMMUTABLE.get(kind, ())
    return [each.path for each in found if any(each.path[: len(path)] == path for path in fixed)]


def refused_changes(causes: Sequence[Mapping[str, str]]) -> list[str] | None:
    """Fields that the API server refuses to change on an object that exists; None when something else is wrong."""
    if not causes or not all(_REFUSES_CHANGE.search(cause.get("message", "")) for cause in causes):
        return None
    return sorted({cause.get("field", "").lstrip(".") or "spec" for cause in causes})
