from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest

from node_agent.model.errors import AlreadyExists, Conflict, Invalid, MizarError, NotFound, Permanent, Temporary
from node_agent.model.objects import NetworkEndpoint, Vpc
from node_agent.store.kubernetes_http import Broken, Expired, Stream, refusal
from node_agent.store.kubernetes_watch import FIRST_DELAY, LONGEST_DELAY, delay, server_selector
from node_agent.store.selector import selector

CASES: list[tuple[int, dict[str, Any], type[MizarError], str]] = [
    (404, {"message": 'vpcs "x" not found', "details": {"name": "x"}}, NotFound, 'v x: vpcs "x" not found'),
    (404, {"message": "the server could not find the requested resource"}, Temporary, "CRDs of Mizar installed"),
    (409, {"reason": "AlreadyExists"}, AlreadyExists, "v x: it exists"),
    (409, {"reason": "Conflict", "message": "modified"}, Conflict, "v x: modified"),
    (422, {"reason": "Invalid", "details": {}}, Conflict, "another object"),
    (410, {"message": "too old"}, Expired, "too old"),
    (504, {"details": {"causes": [{"reason": "ResourceVersionTooLarge"}]}}, Expired, "v x"),
    (429, {"message": "slow down", "details": {"retryAfterSeconds": 7}}, Temporary, "slow down"),
    (500, {"message": "etcd"}, Temporary, "etcd"),
    (503, {}, Temporary, "HTTP 503"),
    (403, {"message": "not yours"}, Permanent, "not yours"),
    (401, {"message": "Unauthorized"}, Permanent, "Unauthorized"),
    (400, {"message": "what?"}, Permanent, "what?"),
]


@pytest.mark.parametrize(("code", "status", "kind", "said"), CASES)
def test_what_refusals_mean(code: int, status: dict[str, Any], kind: type[MizarError], said: str) -> None:
    for data in (status, json.dumps(status).encode()):
        error = refusal("v x", code, data)
        assert type(error) is kind
        assert said in str(error)
    if code == 429:
        assert isinstance(error, Temporary)
        assert error.delay == 7


def test_every_cause_of_an_invalid_object_is_told_without_the_servers_placeholders() -> None:
    causes = [
        {"field": "spec.cidr", "message": 'Invalid value: "string": ten: must be a prefix'},
        {"field": "spec.setSize", "message": "Invalid value: 1: must be at least 2"},
        {"field": "<nil>", "message": 'Invalid value: "object": the name is too long'},
    ]
    error = refusal("create Vpc x", 422, {"details": {"causes": causes}})
    assert isinstance(error, Invalid)
    assert error.mistakes == (
        "create Vpc x: spec.cidr: ten: must be a prefix",
        "create Vpc x: spec.setSize: Invalid value: 1: must be at least 2",
        "create Vpc x: the name is too long",
    )


@pytest.mark.parametrize("data", [b"", b"502 Bad Gateway", b"\xff\xfe", b"[1]"])
def test_an_answer_that_is_no_status_is_survived(data: bytes) -> None:
    assert type(refusal("v x", 502, data)) is Temporary


def test_retries_grow_apart_and_stay_bounded() -> None:
    for failures in range(40):
        wanted = min(LONGEST_DELAY, FIRST_DELAY * 2**failures)
        waits = {delay(failures) for _ in range(50)}
        assert len(waits) > 10
        assert all(wanted / 2 <= wait <= wanted for wait in waits)


def test_the_server_selects_by_what_the_crd_lets_it() -> None:
    def asked(cls: Any, **where: str) -> dict[str, str]:
        return server_selector(cls, selector(cls, {key.replace("__", "."): value for key, value in where.items()}))

    assert asked(Vpc) == {}
    assert asked(Vpc, name="blue") == {"fieldSelector": "metadata.name=blue"}
    both = asked(NetworkEndpoint, spec__host="h", spec__container_id="c", spec__workload="w", status__host="h")
    assert both == {"fieldSelector": "spec.containerId=c,spec.host=h"}
    assert asked(NetworkEndpoint, spec__host="a,b=c\\") == {"fieldSelector": "spec.host=a\\,b\\=c\\\\"}


class Answer:
    """As far as a stream asks one."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    def stream(self, size: int, *, decode_content: bool) -> Iterator[bytes]:
        yield from self._chunks


def test_lines_are_whole_however_they_come() -> None:
    stream = Stream("read", cast(Any, Answer(b"one\nt", b"w", b"o\n\nthr", b"ee")))
    assert list(stream.lines()) == [b"one\n", b"two\n", b"\n", b"three"]


def test_an_event_that_is_cut_off_is_none_and_a_line_that_is_no_event_is_told() -> None:
    event = b'{"type": "ADDED", "object": {}}\n'
    cut = Stream("watch", cast(Any, Answer(event + event[:9])))
    assert list(cut.events()) == [{"type": "ADDED", "object": {}}]
    with pytest.raises(Broken, match="watch: b'nonsense"):
        list(Stream("watch", cast(Any, Answer(b"nonsense\n"))).events())
