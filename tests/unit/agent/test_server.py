"""What the endpoint socket makes of a line, and of clients that it cannot accept; it listens nowhere here."""

import errno
import io
import os
import socket
from pathlib import Path

import pytest

from node_agent.agent import server as module
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


class Listener:
    """Hands over what it is given: an errno fails, and after the last one the server is closed."""

    def __init__(self, server: Server, given: list[int | socket.socket]) -> None:
        self.server, self.given = server, given

    def accept(self) -> tuple[socket.socket, str]:
        if not self.given:
            self.server.close()
            raise OSError(errno.EBADF, "closed")
        one = self.given.pop(0)
        if isinstance(one, int):
            raise OSError(one, os.strerror(one))
        return one, ""

    def shutdown(self, how: int) -> None:
        """As a socket's."""

    def close(self) -> None:
        """As a socket's."""


def test_a_client_that_could_not_be_accepted_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    stream = io.StringIO()
    server = Server(Path("/none"), lambda request: Reply(message=request.verb), Log("h", stream, lambda: 0.0))
    server._socket.close()
    here, there = socket.socketpair()
    with there:
        there.sendall(protocol.encode(Request(verb="STATUS")))
        there.settimeout(10)
        listener = Listener(server, [errno.ECONNABORTED, errno.EMFILE, here])
        monkeypatch.setattr(server, "_socket", listener)
        server._accept()  # returns, since it was closed
        assert protocol.decode_reply(there.recv(4096)) == Reply(message="STATUS")
    assert stream.getvalue().count("request not accepted") == 2
