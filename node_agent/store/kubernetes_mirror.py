"""Objects of the cluster that are not ours, as this process saw them last: watched by a thread, read without waiting.

Used by `kubernetes_nodes` and `kubernetes_services`; no `Store` has such objects. The thread lists them and follows the
server's stream. What breaks goes on from where it was; what was refused or ended is listed anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from node_agent.model.codec import Plain
from node_agent.model.errors import MizarError
from node_agent.store.kubernetes_http import Api, Broken, Stream, refusal
from node_agent.store.kubernetes_watch import LONGEST_DELAY, SILENCE_SECONDS, delay

STREAM_SECONDS = 240

_log = logging.getLogger(__name__)

T = TypeVar("T")


def key_of(raw: Plain) -> str:
    """`name`, or `namespace/name` of what is in one."""
    metadata = raw["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else str(metadata["name"])


class Mirror(Generic[T]):
    """All objects at `path`, in the form that `read` makes of them; None from it: of no concern. Any thread may call.

    `start` once, `close` at the end; `api` is the caller's to close. `what` opens messages.
    """

    def __init__(self, api: Api, what: str, path: str, read: Callable[[Plain], T | None]) -> None:
        self._api, self._what, self._path, self._read = api, what, path, read
        self._lock = threading.Lock()  # guards the next four
        self._known: dict[str, T] = {}
        self._changed: dict[str, None] = {}
        self._listed = False
        self._stream: Stream | None = None
        self._revision = ""  # to follow from; "": list
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def listed(self) -> bool:
        """Whether there was a first list: what is not known before that may exist."""
        with self._lock:
            return self._listed

    def known(self) -> Mapping[str, T]:
        """Everything as of now, by `key_of`."""
        with self._lock:
            return dict(self._known)

    def take(self) -> Mapping[str, T | None]:
        """What changed since the last call, as of now; None: it is gone, or came and went meanwhile."""
        with self._lock:
            changed, self._changed = self._changed, {}
            return {key: self._known.get(key) for key in changed}

    def close(self) -> None:
        with self._lock:
            self._closed.set()
            stream = self._stream
        if stream is not None:
            stream.stop()
        if self._thread.is_alive():
            self._thread.join(SILENCE_SECONDS)

    # --- inside: the thread ---

    def _run(self) -> None:
        failures, said = 0, ""
        while not self._closed.is_set():
            begun = time.monotonic()
            try:
                if not self._revision:
                    self._list()
                    said = ""
                self._follow()
                self._revision, failures = "", 0
                continue
            except Broken:
                pass  # perhaps a restart; the next try will show
            except MizarError as error:
                self._revision = ""
                if not self._closed.is_set() and str(error) != said:
                    said = str(error)
                    _log.warning("%s", said)
            except Exception:  # a thread that died would freeze the view, and nobody would know
                self._revision = ""
                _log.exception("%s: unexpected", self._what)
            failures = 1 if time.monotonic() - begun > LONGEST_DELAY else failures + 1
            self._closed.wait(delay(failures - 1))

    def _list(self) -> None:
        answer = self._api.ask(self._what, "GET", self._path, {"resourceVersion": "0"})
        found = {key_of(raw): self._read(raw) for raw in answer.get("items", ())}
        with self._lock:
            for key in self._known.keys() | found.keys():
                self._set(key, found.get(key))
            self._listed = True
        self._revision = str(answer["metadata"]["resourceVersion"])

    def _follow(self) -> None:
        """Until the stream ends as planned."""
        query = {
            "watch": "1",
            "resourceVersion": self._revision,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(STREAM_SECONDS),
        }
        with self._api.stream(self._what, self._path, query, STREAM_SECONDS + SILENCE_SECONDS) as stream:
            with self._lock:
                self._stream = stream
            try:
                for event in stream.events() if not self._closed.is_set() else ():
                    self._take_in(event)
            finally:
                with self._lock:
                    self._stream = None

    def _take_in(self, event: Plain) -> None:
        kind, raw = event.get("type"), event["object"]
        if kind == "ERROR":
            raise refusal(self._what, int(raw.get("code", 500)), raw)
        if kind != "BOOKMARK":
            key, now = key_of(raw), None if kind == "DELETED" else self._read(raw)
            with self._lock:
                self._set(key, now)
        self._revision = str(raw["metadata"]["resourceVersion"])

    def _set(self, key: str, now: T | None) -> None:
        if self._known.get(key) == now:
            return  # nothing changed that concerns us
        if now is None:
            del self._known[key]
        else:
            self._known[key] = now
        self._changed[key] = None
