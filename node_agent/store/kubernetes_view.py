"""What a watch of the Kubernetes store knows and what it has told. Pure; used by `kubernetes_watch`, under its lock.

News come from two sides: the API server's list and stream, which tell everything in the order of revisions but late,
and this store's own writes, whose answers are known at once (so a process sees what it wrote, as with SQLite). For each
name the newest revision counts, whoever brought it. `take` gives the difference to what was taken before.
"""

from __future__ import annotations

from collections.abc import Sequence

from node_agent.model.objects import Object
from node_agent.store.base import Event
from node_agent.store.selector import Selector


class View:
    """`revision`: up to here the API server has told everything; 0 before the first list."""

    def __init__(self, chosen: Selector) -> None:
        self.revision = 0
        self._chosen = chosen
        self._now: dict[str, Object] = {}
        self._told: dict[str, Object] = {}
        self._dirty: dict[str, None] = {}
        # Own writes that the server has not told yet: name -> revision. What it tells below that is old.
        self._ahead: dict[str, int] = {}
        # Uids of objects that an own delete removed -> the stream in which that was: the answer to a delete carries
        # no revision, so what is still told of them is known by the uid.
        self._dead: dict[str, int] = {}
        self._streams = 0

    # --- from the API server ---

    def listed(self, objects: Sequence[Object], revision: int) -> None:
        """Everything that matched at `revision`. A revision that went back means that the API server has another
        history now (its etcd was restored): then nothing that was remembered counts."""
        if revision < self.revision:
            self._dirty |= dict.fromkeys(self._now)
            self._now, self._ahead, self._dead = {}, {}, {}
        names = {obj.name for obj in objects}
        for name in [name for name in self._now if name not in names]:
            if self._ahead.get(name, 0) <= revision:
                self._set(name, None)
        self.revision = 0
        for obj in objects:
            self._newest(obj)
        self.passed(revision)

    def opened(self) -> None:
        """Another stream begins. What a whole stream has not told of a dead object, none will."""
        self._streams += 1
        self._dead = {uid: stream for uid, stream in self._dead.items() if stream >= self._streams - 1}

    def changed(self, obj: Object) -> None:
        """The stream shows the object as of its resource version."""
        self._newest(obj)
        self.passed(obj.meta.resource_version)

    def left(self, obj: Object) -> None:
        """The stream says that the object is gone, or matches no longer, as of its resource version."""
        revision = obj.meta.resource_version
        self._dead.pop(obj.meta.uid, None)
        if revision >= self._ahead.get(obj.name, 0):
            self._set(obj.name, None)
        self.passed(revision)

    def passed(self, revision: int) -> None:
        """Everything up to this revision has been told."""
        self.revision = max(self.revision, revision)
        for name in [name for name, ahead in self._ahead.items() if ahead <= revision]:
            del self._ahead[name]

    # --- from this store's own writes ---

    def wrote(self, obj: Object) -> None:
        """The answer to a create or put."""
        if obj.meta.resource_version > self.revision and self._newest(obj):
            self._ahead[obj.name] = obj.meta.resource_version

    def removed(self, name: str, uid: str) -> None:
        """A delete, or the lifting of the last finalizer, removed the object with this uid."""
        self._dead[uid] = self._streams
        now = self._now.get(name)
        if now is not None and now.meta.uid == uid:
            self._set(name, None)

    # --- to the user of the watch ---

    @property
    def news(self) -> bool:
        """Whether `take` may have something to tell."""
        return bool(self._dirty)

    def take(self) -> list[Event]:
        """What changed since the last call, gone ones first, then by resource version."""
        gone, puts = [], []
        for name in self._dirty:
            before, now = self._told.get(name), self._now.get(name)
            if now is not None and now != before:
                puts.append(now)
                self._told[name] = now
            elif now is None and before is not None:
                gone.append(before)
                del self._told[name]
        self._dirty.clear()
        puts.sort(key=lambda obj: obj.meta.resource_version)
        return [Event("gone", obj) for obj in gone] + [Event("put", obj) for obj in puts]

    def known(self) -> dict[str, Object]:
        """Everything that matches now, by name, taken or not."""
        return dict(self._now)

    def find(self, name: str) -> Object | None:
        """The object of this name, if it matches now."""
        return self._now.get(name)

    # --- inside ---

    def _newest(self, obj: Object) -> bool:
        """Take the object over what is known by its name, unless that is as new. Whether it was taken."""
        revision, now = obj.meta.resource_version, self._now.get(obj.name)
        known = max(self._ahead.get(obj.name, 0), now.meta.resource_version if now else 0)
        if revision <= known or obj.meta.uid in self._dead:
            return False
        self._set(obj.name, obj if self._chosen.matches(obj) else None)
        return True

    def _set(self, name: str, obj: Object | None) -> None:
        if obj is not None:
            self._now[name] = obj
        else:
            self._now.pop(name, None)
        self._dirty[name] = None
