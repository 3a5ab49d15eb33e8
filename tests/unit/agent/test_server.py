"""What the endpoint socket makes of a line; no socket is opened here."""

import io
from pathlib import Path

import pytest

from node_agent.agent.log import Log
from node_agent.agent.server import Server
from node_agent.cni import protocol
from node_agent.cni.protocol import Reply, Request


def answer(line: bytes, handle: object = None) -> tuple[Reply, str]:
    stream = io.StringIO()
    server = Server(
        Path("/none"),
        handle or (lambda request: Reply(message=request.verb)),  # type: ignore[arg-type]
        Log("h", stream, lambda: 0.0),
    )
    try:
        return server._answer(line), stream.getvalue()
    finally:
        server.close()


def test_a_request_is_handled() -> None:
    assert answer(protocol.encode(Request(verb="STATUS")))[0] == Reply(message="STATUS")


@pytest.mark.parametrize("line", [b"", b"{", b"[]\n", b'{"verb": "PUT"}\n', b'{"verb": "ADD", "x": 1}\n', b"\xff\n"])
def test_nonsense_is_refused_with_a_reason(line: bytes) -> None:
    reply, _ = answer(line)
    assert reply.code == protocol.INVALID_CONFIG
    assert reply.message


def test_a_mistake_of_ours_is_answered_and_logged() -> None:
    def broken(request: Request) -> Reply:
        raise KeyError("x")

    reply, log = answer(protocol.encode(Request(verb="STATUS")), broken)
    assert (reply.code, reply.message) == (protocol.FAILED, "answer request: KeyError: 'x'")
    assert "Traceback" in log
