"""The store of stacks with a cluster: every object a resource `mizar.com/v1` of the Kubernetes API.

`open.open_store` makes it; docs/adr/0006-kubernetes-store.md says why it is like this; tests/contract holds it to
`base.Store`. Puts are JSON patches: one request replaces a whole spec or status, and the server compares uid and
resource version. The answers to own writes are shown to own watches at once (`kubernetes_view`).

Any thread may use a store; it must not cross a fork.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from node_agent.model.codec import Plain, part_class
from node_agent.model.errors import Conflict, MizarError, NotFound, Permanent, Temporary
from node_agent.model.objects import Object
from node_agent.model.resources import from_resource, part_to_resource, to_resource
from node_agent.store.base import Where
from node_agent.store.kubernetes_access import Access
from node_agent.store.kubernetes_http import Api
from node_agent.store.kubernetes_watch import RENEW_SECONDS, KubernetesWatch, collection, read_list
from node_agent.store.parts import check_new, check_part
from node_agent.store.selector import selector

T = TypeVar("T", bound=Object)

MANAGER = "mizar"
TRIES = 10
"""Of a change that must not overwrite another's, when each time somebody was quicker."""
CLOSE_SECONDS = 10.0


class KubernetesStore:
    """A store in the cluster that `access` leads to. `manager`: under which name the API server records our writes;
    `renew`: seconds of one stream of a watch.

    Every verb may also raise Temporary: the server cannot be reached, is overloaded, or does not know the CRDs yet.
    A write that ends so may have been done. Permanent: the server forbids it.
    """

    def __init__(self, access: Access, *, manager: str = MANAGER, renew: int = RENEW_SECONDS) -> None:
        self._renew = renew
        self._api = Api(access, manager)
        self._lock = threading.Lock()
        self._watches: weakref.WeakSet[KubernetesWatch] = weakref.WeakSet()
        self._closed = False

    @property
    def api(self) -> Api:
        """The connections, for what the cluster knows beside our objects. They end with the store."""
        return self._api

    def create(self, obj: T) -> T:
        """A status that is given takes a second request, since the server takes none in the first: others may see the
        object without it for a moment. When that request fails, the object is removed again."""
        check_new(obj)
        what = f"create {obj.kind} {obj.name}"
        made = from_resource(type(obj), self._ask(what, "POST", collection(type(obj)), body=to_resource(obj)))
        if obj.status != part_class(type(obj), "status")():
            try:
                made = self._patch(what, type(obj), obj.name, "status", obj.status, uid=made.meta.uid)
            except MizarError:
                with contextlib.suppress(MizarError):
                    self._undo(made)
                raise
        self._tell(made)
        return made

    def get(self, cls: type[T], name: str) -> T:
        what = f"get {cls.kind} {name}"
        try:
            return from_resource(cls, self._ask(what, "GET", _path(cls, name)))
        except NotFound:
            raise NotFound(f"{what}: there is none") from None

    def list(self, cls: type[T], where: Where | None = None) -> Sequence[T]:
        chosen = selector(cls, where)
        self._check_open(f"list {cls.kind}")
        found, _ = read_list(self._api, f"list {cls.kind}", cls, chosen)
        return sorted(found, key=lambda obj: obj.name)

    def put_spec(self, cls: type[T], name: str, spec: Any, *, resource_version: int | None = None) -> T:
        return self._put(cls, name, "spec", spec, None, resource_version)

    def put_status(
        self, cls: type[T], name: str, status: Any, *, uid: str | None = None, resource_version: int | None = None
    ) -> T:
        return self._put(cls, name, "status", status, uid, resource_version)

    def _put(self, cls: type[T], name: str, part: str, value: Any, uid: str | None, version: int | None) -> T:
        check_part(cls, part, value)
        what = f"put {part} of {cls.kind} {name}"
        try:
            if part == "status" and value == part_class(cls, part)():
                # An object that never had a status has this one: the server would see a difference.
                old = from_resource(cls, self._ask(what, "GET", _path(cls, name)))
                if old.status == value and uid in (None, old.meta.uid) and version in (None, old.meta.resource_version):
                    return old
            put = self._patch(what, cls, name, part, value, uid=uid, version=version)
        except NotFound:
            raise NotFound(f"{what}: there is no such object") from None
        self._tell(put)
        return put

    def delete(self, cls: type[T], name: str, *, uid: str | None = None) -> None:
        what = f"delete {cls.kind} {name}"
        options: Plain = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            answer = self._ask(what, "DELETE", _path(cls, name), body=options)
        except NotFound:
            return
        if answer.get("kind") == cls.kind:
            self._tell(from_resource(cls, answer))  # finalizers stand
        else:
            self._tell_removed(cls, name, str((answer.get("details") or {}).get("uid", "")))

    def drop_finalizer(self, cls: type[T], name: str, finalizer: str, *, uid: str | None = None) -> None:
        """Another uid than the one given: the object that was meant is gone, nothing to do."""
        what = f"drop finalizer of {cls.kind} {name}"
        for attempt in range(TRIES):
            try:
                # What was seen of it is as good as what a question would tell: if it is not the newest, the server says
                # so, and it is asked.
                old = self._seen(cls, name, uid, finalizer) if attempt == 0 else None
                old = old or from_resource(cls, self._ask(what, "GET", _path(cls, name)))
                if finalizer not in old.meta.finalizers or uid not in (None, old.meta.uid):
                    return
                rest = [each for each in old.meta.finalizers if each != finalizer]
                patch = [
                    _replace("/metadata/resourceVersion", str(old.meta.resource_version)),
                    _replace("/metadata/finalizers", rest),
                ]
                new = from_resource(cls, self._ask(what, "PATCH", _path(cls, name), body=patch))
            except NotFound:
                return
            except Conflict:
                time.sleep(0.01 * attempt)
                continue
            if old.meta.deleting and not rest:
                self._tell_removed(cls, name, old.meta.uid)
            else:
                self._tell(new)
            return
        raise Temporary(f"{what}: it changes all the time")

    def watch(
        self, cls: type[T], where: Where | None = None, wake: Callable[[], None] | None = None
    ) -> KubernetesWatch:
        """One thread at a time may poll a watch; different watches are independent. What this store writes itself wakes
        nobody: who wrote it knows."""
        watch = KubernetesWatch(self._api, cls, selector(cls, where), self._renew, wake)
        with self._lock:
            self._check_open(f"watch {cls.kind}")
            self._watches.add(watch)
        return watch

    def close(self) -> None:
        """End the watches and close the connections. Verbs raise Permanent afterwards, watches yield nothing."""
        with self._lock:
            self._closed = True
            watches = list(self._watches)
        for watch in watches:
            watch.close()
        for watch in watches:
            watch.join(CLOSE_SECONDS)
        self._api.close()

    # --- inside ---

    def _ask(self, what: str, method: str, path: str, *, body: object = None) -> Plain:
        self._check_open(what)
        return self._api.ask(what, method, path, body=body)

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise Permanent(f"{what}: the store is closed")

    def _patch(
        self,
        what: str,
        cls: type[T],
        name: str,
        part: str,
        value: Any,
        *,
        uid: str | None = None,
        version: int | None = None,
    ) -> T:
        """Replace a part. A version that is set to another than the object has is a conflict to the server, and what
        changes nothing is no write."""
        patch: list[Plain] = []
        if uid is not None:
            patch.append({"op": "test", "path": "/metadata/uid", "value": uid})
        if version is not None:
            patch.append(_replace("/metadata/resourceVersion", str(version)))
        patch.append({"op": "add", "path": f"/{part}", "value": part_to_resource(value)})
        path = _path(cls, name) + ("/status" if part == "status" else "")
        return from_resource(cls, self._ask(what, "PATCH", path, body=patch))

    def _undo(self, made: Object) -> None:
        for finalizer in made.meta.finalizers:
            self.drop_finalizer(type(made), made.name, finalizer, uid=made.meta.uid)
        self.delete(type(made), made.name, uid=made.meta.uid)

    def _seen(self, cls: type[T], name: str, uid: str | None, finalizer: str) -> T | None:
        """The object of this uid with this finalizer, if one of our watches shows it."""
        for watch in self._watches_of(cls):
            found: Any = watch.find(name)
            if found is not None and found.meta.uid == uid and finalizer in found.meta.finalizers:
                seen: T = found
                return seen
        return None

    def _tell(self, obj: Object) -> None:
        for watch in self._watches_of(type(obj)):
            watch.wrote(obj)

    def _tell_removed(self, cls: type[T], name: str, uid: str) -> None:
        for watch in self._watches_of(cls):
            watch.removed(name, uid)

    def _watches_of(self, cls: type[Any]) -> Sequence[KubernetesWatch]:
        with self._lock:
            return [watch for watch in self._watches if watch.of is cls]


def _path(cls: type[T], name: str) -> str:
    return f"{collection(cls)}/{quote(name, safe='')}"


def _replace(path: str, value: object) -> Plain:
    return {"op": "replace", "path": path, "value": value}
