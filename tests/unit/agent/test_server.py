"""What the endpoint socket makes of a line, and of clients that it cannot accept; it listens nowhere here."""

from __future__ import annotations

import errno
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
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


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Lets a server accept these clients, in this order; returns its log."""
    monkeypatch.setattr(module, "PAUSE", 0.0)

    def serve(*given: int | socket.socket) -> str:
        stream = io.StringIO()
        server = Server(Path("/none"), lambda request: Reply(message=request.verb), Log("h", stream, lambda: 0.0))
        server._socket.close()
        monkeypatch.setattr(server, "_socket", Listener(server, list(given)))
        server._accept()  # returns, since it was closed
        for thread in threading.enumerate():
            if thread.name == "request":
                thread.join()
        return stream.getvalue()

    yield serve


def client(said: bytes) -> tuple[socket.socket, socket.socket]:
    """(The server's end, the client's) of a connection on which the client has said this much."""
    here, there = socket.socketpair()
    there.settimeout(10)
    there.sendall(said)
    return here, there


STATUS = protocol.encode(Request(verb="STATUS"))


def test_a_client_that_could_not_be_accepted_ends_nothing(served: Callable[..., str]) -> None:
    here, there = client(STATUS)
    with there:
        log = served(errno.ECONNABORTED, errno.EMFILE, here)
        assert protocol.decode_reply(there.recv(4096)) == Reply(message="STATUS")
    assert log.count("request not accepted") == 2


def test_a_client_without_a_thread_is_hung_up_on_and_the_next_one_is_served(
    served: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = threading.Thread.start, list[threading.Thread]()

    def start(thread: threading.Thread) -> None:
        if len(refused) < module._AT_ONCE:  # as many as there are slots: none may be lost
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    ends = [client(STATUS) for _ in range(module._AT_ONCE + 1)]
    log = served(*(here for here, _ in ends))
    for _, there in ends[:-1]:
        with pytest.raises(ConnectionResetError):
            there.recv(4096)
    assert protocol.decode_reply(ends[-1][1].recv(4096)) == Reply(message="STATUS")
    assert log.count("can't start new thread") == module._AT_ONCE
    for _, there in ends:
        there.close()


def test_a_client_that_dribbles_has_one_deadline_for_its_whole_line(
    served: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte comes well before one wait for a byte would be given up."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    here, there = client(b"")

    class Dribbling:
        """The server's end; each byte takes a part of the patience."""

        def __enter__(self) -> Dribbling:
            return self

        def __exit__(self, *_: object) -> None:
            here.close()

        def settimeout(self, seconds: float) -> None:
            assert 0 < seconds <= module.PATIENCE

        def recvmsg(self, *_: int) -> tuple[bytes, list[object], int, None]:
            now[0] += module.PATIENCE / 4
            assert now[0] <= module.PATIENCE + 1, "it waits for ever"
            return b"x", [], 0, None

    with there:
        log = served(Dribbling())
        assert there.recv(4096) == b""
    assert "client went away" in log and "timed out" in log
