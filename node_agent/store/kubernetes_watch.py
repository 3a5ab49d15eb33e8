"""Watching one kind of object through the API server. Used by `kubernetes`; docs/adr/0006-kubernetes-store.md says why.

A watch lists what matches, then follows the server's stream from the revision of that list, in a thread of its own.
The server selects where the CRD lets it (`resources.Resource.selectable`); the rest is compared here. Every stream ends
after RENEW_SECONDS, and just before that the server sends a bookmark. One that carries a newer revision proves that the
view was current; without one, the watch lists again: the server may have lost its etcd, which its streams do not tell.
When a stream breaks, the next goes on from its revision; when the server has forgotten that, the watch lists again, and
`View` makes the difference of it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from node_agent.model.codec import Plain
from node_agent.model.errors import Invalid, MizarError, Temporary
from node_agent.model.objects import Object
from node_agent.model.resources import API_VERSION, RESOURCES, camel_path, from_resource
from node_agent.store.base import Event
from node_agent.store.kubernetes_http import Api, Broken, Expired, Stream, refusal
from node_agent.store.kubernetes_view import View
from node_agent.store.selector import Selector

T = TypeVar("T", bound=Object)

RENEW_SECONDS = 30
SILENCE_SECONDS = 10.0
"""A stream that is silent for so long after its planned end is broken."""
FIRST_DELAY, LONGEST_DELAY = 0.25, 10.0

_log = logging.getLogger(__name__)


def collection(cls: type[T]) -> str:
    """Path of all objects of a kind."""
    return f"/apis/{API_VERSION}/{RESOURCES[cls.kind].plural}"


def server_selector(cls: type[T], chosen: Selector) -> dict[str, str]:
    """The part of the conditions that the API server can check, as a query."""
    terms = []
    for path, wanted in chosen.fields:
        name = ".".join(path)
        if name == "name":
            terms.append(("metadata.name", wanted))
        elif name in RESOURCES[cls.kind].selectable and wanted:
            terms.append((camel_path(name), wanted))
    return {"fieldSelector": ",".join(f"{name}={_escaped(wanted)}" for name, wanted in terms)} if terms else {}


def read_list(api: Api, what: str, cls: type[T], chosen: Selector) -> tuple[list[T], int]:
    """The objects that match, and the revision of which that is true: the newest one when the request came in.

    Without a page size: then the server answers from memory, and does not ask etcd for more than its revision."""
    answer = api.ask(what, "GET", collection(cls), server_selector(cls, chosen))
    found = [obj for raw in answer.get("items", ()) if (obj := readable(cls, raw)) and chosen.matches(obj)]
    return found, int(answer["metadata"]["resourceVersion"])


def readable(cls: type[T], raw: Plain) -> T | None:
    """The object, or None when this program cannot read it: the schema keeps such ones out, except those that a newer
    Mizar wrote. One of them must not take the others with it."""
    try:
        return from_resource(cls, raw)
    except Invalid as error:
        _log.warning("an object is left out: %s", error)
        return None


def delay(failures: int) -> float:
    """Seconds before the next try, after so many failures in a row: longer each time, and not the same for everybody
    who lost the same server."""
    return random.uniform(0.5, 1.0) * min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures, 10))


class KubernetesWatch:
    """See base.Watch. The first poll lists, whatever its timeout, and raises what stands in the way of that. Later ones
    raise Temporary while the server cannot be reached and there is nothing to tell."""

    def __init__(
        self,
        api: Api,
        cls: type[T],
        chosen: Selector,
        renew: int = RENEW_SECONDS,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._api, self._chosen, self._renew = api, chosen, renew
        self._wake = wake or _nobody
        self._cls: type[Any] = cls
        self._what = f"watch {cls.kind}"
        self._view = View(chosen)
        self._changed = threading.Condition()  # guards all below, and the view
        self._thread: threading.Thread | None = None
        self._stream: Stream | None = None
        self._trouble: MizarError | None = None
        self._fresh_at = float("-inf")
        self._closed = threading.Event()

    @property
    def of(self) -> type[Object]:
        """The kind that is watched."""
        return self._cls

    @property
    def fresh_at(self) -> float:
        return self._fresh_at

    def poll(self, timeout: float = 0.0) -> Sequence[Event]:
        deadline = time.monotonic() + timeout
        if self._closed.is_set():
            return ()
        if self._thread is None:
            self._list()
            self._thread = threading.Thread(target=self._run, name=self._what, daemon=True)
            self._thread.start()
        with self._changed:
            while not self._closed.is_set():
                if events := self._view.take():
                    return events
                if self._trouble is not None:
                    raise Temporary(str(self._trouble), delay=1.0)
                rest = deadline - time.monotonic()
                if rest <= 0:
                    break
                self._changed.wait(rest)
        return ()

    def known(self) -> dict[str, Object]:
        """What matches as far as this watch was told, polled or not; for tests and people."""
        with self._changed:
            return self._view.known()

    def find(self, name: str) -> Object | None:
        """The one of this name among them."""
        with self._changed:
            return self._view.find(name)

    def close(self) -> None:
        """Ends a poll that waits in another thread; later polls yield nothing. Does not wait for the watch's thread."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
            stream = self._stream
        if stream is not None:
            stream.stop()

    def join(self, timeout: float) -> None:
        """Wait for the thread of a closed watch."""
        if self._thread is not None:
            self._thread.join(timeout)

    def wrote(self, obj: Object) -> None:
        """This process's own write, seen before the server tells of it."""
        with self._changed:
            self._view.wrote(obj)
            self._changed.notify_all()

    def removed(self, name: str, uid: str) -> None:
        """This process's own delete."""
        with self._changed:
            self._view.removed(name, uid)
            self._changed.notify_all()

    # --- inside: the watch's thread, and `_list` in the first poll ---

    def _run(self) -> None:
        failures, complete = 0, True
        while not self._closed.is_set():
            begun = time.monotonic()
            try:
                if not complete:
                    self._list()
                # A stream that told nothing new may be one of a server that is told nothing itself.
                complete = self._follow()
                failures = 0
                continue
            except Expired:
                complete = False
            except Broken:
                pass  # perhaps a restart; whether there is trouble, the next try will show
            except MizarError as error:
                self._note(error)
            except Exception as error:  # a thread that died would freeze the view, and nobody would know
                _log.exception("%s: unexpected", self._what)
                self._note(Temporary(f"{self._what}: {error!r}"))
                complete = False
            failures = 1 if time.monotonic() - begun > LONGEST_DELAY else failures + 1
            self._closed.wait(delay(failures - 1))

    def _list(self) -> None:
        asked_at = time.monotonic()
        found, revision = read_list(self._api, self._what, self._cls, self._chosen)
        with self._changed:
            self._view.listed(found, revision)
            self._fresh(asked_at)

    def _follow(self) -> bool:
        """Take in a stream until its planned end. Whether it showed that the server's knowledge advanced."""
        query = {
            "watch": "1",
            "resourceVersion": str(self._view.revision),
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._renew - random.randint(0, self._renew // 5)),
            **server_selector(self._cls, self._chosen),
        }
        advanced = False
        try:
            with self._api.stream(self._what, collection(self._cls), query, self._renew + SILENCE_SECONDS) as stream:
                with self._changed:
                    self._stream, self._trouble = stream, None
                    self._view.opened()
                for event in stream.events() if not self._closed.is_set() else ():
                    advanced |= self._take(event)
        finally:
            with self._changed:
                self._stream = None
        return advanced

    def _take(self, event: Plain) -> bool:
        """One event of the stream. Whether it advanced the view. Raises what an error in the stream means."""
        raw = event["object"]
        if event.get("type") == "ERROR":
            raise refusal(self._what, int(raw.get("code", 500)), raw)
        revision = int(raw["metadata"]["resourceVersion"])
        obj = None if event.get("type") == "BOOKMARK" else readable(self._cls, raw)
        with self._changed:
            if revision <= self._view.revision:
                return False
            if obj is None:
                self._view.passed(revision)
            elif event.get("type") == "DELETED":
                self._view.left(obj)
            else:
                self._view.changed(obj)
            self._fresh(time.monotonic())
        return True

    def _fresh(self, at: float) -> None:
        self._fresh_at = max(self._fresh_at, at)
        recovered, self._trouble = self._trouble is not None, None
        self._changed.notify_all()
        if recovered or self._view.news:  # not for what this process has written itself, nor for bookmarks
            self._wake()

    def _note(self, error: MizarError) -> None:
        with self._changed:
            self._trouble = error
            self._changed.notify_all()
            self._wake()


def _nobody() -> None:
    """Is woken."""


def _escaped(text: str) -> str:
    """As values in field selectors are: a backslash before what has a meaning there."""
    return "".join(f"\\{each}" if each in "\\,=" else each for each in text)
