"""A store in memory: the contract of store.base without files or processes. Used by unit and transition tests.

tests/contract runs the same suite over it as over the real stores. `str(store)` is a table of what it holds; uids are
"uid-1", "uid-2", ... so that expected values can be written down. Any thread may use it.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from node_agent.model.codec import part_class
from node_agent.model.errors import AlreadyExists, Conflict, Invalid, MizarError, NotFound
from node_agent.model.objects import Meta, Object
from node_agent.store.base import Event, Where
from node_agent.store.selector import Selector, selector

T = TypeVar("T", bound=Object)


class FakeStore:
    """`fail`: errors to raise, one per verb or poll, before anything else happens; tests fill it.
    None in it lets one pass. `writes` counts what was really written.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.fail: list[MizarError | None] = []
        self.revision = 0
        self._made = 0
        self._changed = threading.Condition(threading.RLock())

    @property
    def writes(self) -> int:
        return self.revision

    def create(self, obj: T) -> T:
        with self._verb():
            _check_part(type(obj), "spec", obj.spec)
            _check_part(type(obj), "status", obj.status)
            if (obj.kind, obj.name) in self.objects:
                raise AlreadyExists(f"create {obj.kind} {obj.name}: it exists")
            self._made += 1
            meta = Meta(uid=f"uid-{self._made}", generation=1, finalizers=obj.meta.finalizers)
            return self._write(_with(obj, meta=meta))

    def get(self, cls: type[T], name: str) -> T:
        with self._verb():
            found = self.objects.get((cls.kind, name))
            if found is None:
                raise NotFound(f"get {cls.kind} {name}: there is none")
            return cast(T, found)

    def list(self, cls: type[T], where: Where | None = None) -> Sequence[T]:
        with self._verb():
            chosen = selector(cls, where)
            return [
                cast(T, obj)
                for (kind, _), obj in sorted(self.objects.items())
                if kind == cls.kind and chosen.matches(obj)
            ]

    def put_spec(self, cls: type[T], name: str, spec: Any, *, resource_version: int | None = None) -> T:
        return self._put(cls, name, "spec", spec, None, resource_version)

    def put_status(
        self, cls: type[T], name: str, status: Any, *, uid: str | None = None, resource_version: int | None = None
    ) -> T:
        return self._put(cls, name, "status", status, uid, resource_version)

    def _put(self, cls: type[T], name: str, part: str, value: Any, uid: str | None, version: int | None) -> T:
        with self._verb():
            _check_part(cls, part, value)
            old = self.objects.get((cls.kind, name))
            if old is None:
                raise NotFound(f"put {part} of {cls.kind} {name}: there is no such object")
            if uid not in (None, old.meta.uid) or version not in (None, old.meta.resource_version):
                raise Conflict(f"put {part} of {cls.kind} {name}: it changed since it was read")
            if getattr(old, part) == value:
                return cast(T, old)
            meta = dataclasses.replace(old.meta, generation=old.meta.generation + (part == "spec"))
            return self._write(_with(cast(T, old), meta=meta, **{part: value}))

    def delete(self, cls: type[T], name: str, *, uid: str | None = None) -> None:
        with self._verb():
            old = self.objects.get((cls.kind, name))
            if old is None:
                return
            if uid not in (None, old.meta.uid):
                raise Conflict(f"delete {cls.kind} {name}: it is another object by now")
            if not old.meta.finalizers:
                self._remove(old)
            elif not old.meta.deleting:
                self._write(_with(old, meta=dataclasses.replace(old.meta, deleting=True)))

    def drop_finalizer(self, cls: type[T], name: str, finalizer: str, *, uid: str | None = None) -> None:
        with self._verb():
            old = self.objects.get((cls.kind, name))
            if old is None or finalizer not in old.meta.finalizers or uid not in (None, old.meta.uid):
                return
            rest = tuple(each for each in old.meta.finalizers if each != finalizer)
            if old.meta.deleting and not rest:
                self._remove(old)
            else:
                self._write(_with(old, meta=dataclasses.replace(old.meta, finalizers=rest)))

    def watch(self, cls: type[T], where: Where | None = None, wake: Callable[[], None] | None = None) -> FakeWatch:
        return FakeWatch(self, cls.kind, selector(cls, where))

    def close(self) -> None:
        """Nothing is held."""

    def __str__(self) -> str:
        lines = [
            f"{kind:16} {name:20} v{obj.meta.resource_version}{' deleting' if obj.meta.deleting else ''} {obj.status}"
            for (kind, name), obj in sorted(self.objects.items())
        ]
        return "\n".join(lines) or "(empty)"

    def matching(self, kind: str, chosen: Selector) -> dict[str, Object]:
        """For watches: every object of the kind that matches, by name."""
        with self._verb():
            return {name: obj for (each, name), obj in self.objects.items() if each == kind and chosen.matches(obj)}

    def wait(self, ready: Callable[[], bool], timeout: float) -> None:
        """For watches: until `ready` after some write, or `timeout` seconds passed."""
        with self._changed:
            self._changed.wait_for(ready, timeout)

    def _verb(self) -> threading.Condition:
        if self.fail and (error := self.fail.pop(0)):
            raise error
        return self._changed

    def _write(self, obj: T) -> T:
        self.revision += 1
        made = _with(obj, meta=dataclasses.replace(obj.meta, resource_version=self.revision))
        self.objects[obj.kind, obj.name] = made
        self._changed.notify_all()
        return made

    def _remove(self, obj: Object) -> None:
        self.revision += 1
        del self.objects[obj.kind, obj.name]
        self._changed.notify_all()


class FakeWatch:
    """Compares the whole list with what it has delivered."""

    def __init__(self, store: FakeStore, kind: str, chosen: Selector) -> None:
        self._store, self._kind, self._chosen = store, kind, chosen
        self._known: dict[str, Object] = {}
        self._fresh_at = float("-inf")
        self._closed = False

    @property
    def fresh_at(self) -> float:
        return self._fresh_at

    def poll(self, timeout: float = 0.0) -> Sequence[Event]:
        if self._closed:
            return ()
        events = self._look()

        def ready() -> bool:
            events.extend(self._look())
            return self._closed or bool(events)

        if not events and timeout > 0:
            self._store.wait(ready, timeout)
        return events

    def close(self) -> None:
        self._closed = True

    def _look(self) -> list[Event]:
        found = self._store.matching(self._kind, self._chosen)
        events = [Event("gone", obj) for name, obj in self._known.items() if name not in found]
        changed = [obj for name, obj in found.items() if obj != self._known.get(name)]
        events += [Event("put", obj) for obj in sorted(changed, key=lambda obj: obj.meta.resource_version)]
        self._known = found
        self._fresh_at = time.monotonic()
        return events


def _check_part(cls: type[T], part: str, value: Any) -> None:
    if not isinstance(value, part_class(cls, part)):
        raise Invalid([f"{part}: {value!r} is no {part_class(cls, part).__name__}"])


def _with(obj: T, **changes: Any) -> T:
    return dataclasses.replace(obj, **changes)
