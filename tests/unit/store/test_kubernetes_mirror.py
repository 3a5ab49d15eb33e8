"""What a mirror shows while its server lists, streams, breaks off and forgets. The server is a script."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from node_agent.model.errors import Temporary
from node_agent.store import kubernetes_mirror
from node_agent.store.kubernetes_http import Broken
from node_agent.store.kubernetes_mirror import Mirror
from tests.waiting import until

PATIENCE = 10.0
Plain = dict[str, Any]


def pod(name: str, revision: int, image: str = "a", namespace: str = "shop") -> Plain:
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": str(revision)}, "image": image}


def event(kind: str, raw: Plain) -> Plain:
    return {"type": kind, "object": raw}


class Server:
    """`lists` are answered one after the other, the last again and again. `streams`: what each tells, and how it ends:
    None as planned. After them comes one that stays open. `asked`: revisions, "list" for a list."""

    def __init__(self) -> None:
        self.lists: list[tuple[int, list[Plain]] | Exception] = []
        self.streams: list[tuple[list[Plain], Exception | None]] = []
        self.asked: list[str] = []
        self._stop = threading.Event()

    def ask(self, what: str, method: str, path: str, query: Mapping[str, str]) -> Plain:
        self.asked.append("list")
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        if isinstance(found, Exception):
            raise found
        return {"metadata": {"resourceVersion": str(found[0])}, "items": found[1]}

    @contextlib.contextmanager
    def stream(self, what: str, path: str, query: Mapping[str, str], silence: float) -> Iterator[Server]:
        self.asked.append(query["resourceVersion"])
        yield self

    def events(self) -> Iterator[Plain]:
        if not self.streams:
            self._stop.wait(PATIENCE)
            return
        told, end = self.streams.pop(0)
        yield from told
        if end:
            raise end

    def stop(self) -> None:
        self._stop.set()


def read(raw: Plain) -> str | None:
    return raw["image"] or None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(kubernetes_mirror, "delay", lambda failures: 0.001)
    return Server()


@pytest.fixture
def mirror(server: Server) -> Iterator[Mirror[str]]:
    made = Mirror(server, "watch pods", "/pods", read)  # type: ignore[arg-type]
    yield made
    made.close()


def test_it_shows_what_was_listed_and_what_the_stream_told_since(server: Server, mirror: Mirror[str]) -> None:
    server.lists = [(5, [pod("one", 3), pod("two", 4), pod("nobodys", 5, image="")])]
    changes = [
        event("ADDED", pod("three", 6)),
        event("MODIFIED", pod("one", 7, image="b")),
        event("DELETED", pod("two", 8)),
        event("BOOKMARK", {"metadata": {"resourceVersion": "9"}}),
    ]
    server.streams = [(changes, Broken("cut"))]
    assert not mirror.listed and not mirror.take()
    mirror.start()
    until(lambda: server.asked == ["list", "5", "9"], PATIENCE, lambda: server.asked)
    assert mirror.listed
    assert mirror.known() == {"shop/one": "b", "shop/three": "a"}
    assert mirror.take() == {"shop/one": "b", "shop/two": None, "shop/three": "a"}
    assert not mirror.take()


def test_what_is_of_no_concern_is_no_news(server: Server, mirror: Mirror[str]) -> None:
    server.lists = [(5, [pod("one", 3)])]
    server.streams = [([event("MODIFIED", pod("one", 6)), event("ADDED", pod("x", 7, image=""))], Broken("cut"))]
    mirror.start()
    until(lambda: mirror.listed, PATIENCE, "the first list")
    mirror.take()
    until(lambda: server.asked == ["list", "5", "7"], PATIENCE, lambda: server.asked)
    assert not mirror.take()


def test_a_revision_that_is_forgotten_is_listed_anew_and_what_went_meanwhile_is_told(
    server: Server, mirror: Mirror[str]
) -> None:
    server.lists = [(5, [pod("one", 3), pod("two", 4)]), (50, [pod("two", 40, image="b")])]
    gone = event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
    server.streams = [([gone], None)]
    mirror.start()
    until(lambda: server.asked == ["list", "5", "list", "50"], PATIENCE, lambda: server.asked)
    assert mirror.known() == {"shop/two": "b"}
    assert mirror.take() == {"shop/one": None, "shop/two": "b"}


def test_a_stream_that_ended_as_planned_is_followed_by_a_list(server: Server, mirror: Mirror[str]) -> None:
    server.lists = [(5, []), (6, [])]
    server.streams = [([], None)]
    mirror.start()
    until(lambda: server.asked == ["list", "5", "list", "6"], PATIENCE, lambda: server.asked)


def test_a_server_that_cannot_be_reached_is_asked_again(server: Server, mirror: Mirror[str]) -> None:
    server.lists = [Temporary("away"), Temporary("away"), (5, [pod("one", 3)])]
    mirror.start()
    until(lambda: mirror.listed, PATIENCE, "the first list")
    assert mirror.known() == {"shop/one": "a"}


def test_names_without_a_namespace_are_keys_too(server: Server, mirror: Mirror[str]) -> None:
    server.lists = [(5, [pod("node-1", 3, namespace="")])]
    mirror.start()
    until(lambda: mirror.listed, PATIENCE, "the first list")
    assert mirror.known() == {"node-1": "a"}
