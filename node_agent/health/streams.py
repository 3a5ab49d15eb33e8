"""Requests to workloads by TCP and UDP, a question to a name server, a mere connect: as probes. For `probes`."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import selectors
import socket
from collections.abc import Mapping

from node_agent.health import names
from node_agent.health.answers import Request
from node_agent.health.probe import AGAIN, ANSWER_MOST, Sockets, State


class _Stream:
    """What they share: one socket, reopened after a failure."""

    kind: socket.SocketKind

    def __init__(self, request: Request, sockets: Sockets) -> None:
        self.state, self.sockets = State(request), sockets
        self.socket: socket.socket | None = None

    def open(self, events: int) -> socket.socket:
        opened = self.sockets.open(self.state.request.source, self.kind)
        self.sockets.selector.register(opened, events, lambda: (self,))
        self.socket = opened
        return opened

    def act(self, now: float) -> float:
        raise NotImplementedError

    def close(self) -> None:
        if self.socket:
            self.sockets.selector.unregister(self.socket)
            self.socket.close()
            self.socket = None


class Connect(_Stream):
    """That somebody accepts a connection is enough."""

    kind = socket.SOCK_STREAM

    def act(self, now: float) -> float:
        request, state = self.state.request, self.state
        if self.socket is None:
            opened = self.open(selectors.EVENT_WRITE)
            state.sent += 1
            _check(opened.connect_ex((request.address, request.port)))
            return state.deadline
        _check(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        self.connected(self.socket)
        return state.deadline

    def connected(self, opened: socket.socket) -> None:
        self.state.received += 1
        self.state.finish(port=_port(opened))


class Tcp(Connect):
    """A workload's answer to an HTTP request."""

    def __init__(self, request: Request, sockets: Sockets) -> None:
        super().__init__(request, sockets)
        self.asked, self.data = False, b""

    def act(self, now: float) -> float:
        if self.socket is None:
            self.asked, self.data = False, b""
        if self.socket is None or not self.asked:
            return super().act(now)
        with contextlib.suppress(BlockingIOError):
            while chunk := self.socket.recv(ANSWER_MOST):
                self.data += chunk
                if len(self.data) > ANSWER_MOST:
                    raise ValueError(f"reply longer than {ANSWER_MOST} bytes")
            identity = _identity(self.data.partition(b"\r\n\r\n")[2])
            self.state.received += 1
            self.state.finish(identity=identity, port=_port(self.socket))
        return self.state.deadline

    def connected(self, opened: socket.socket) -> None:
        self.asked = True
        self.state.heard = "connected, but the request got no reply"
        opened.send(f"GET / HTTP/1.0\r\nHost: {self.state.request.address}\r\n\r\n".encode())
        self.sockets.selector.modify(opened, selectors.EVENT_READ, lambda: (self,))


class Udp(_Stream):
    """A workload's answer to a datagram."""

    kind = socket.SOCK_DGRAM

    def __init__(self, request: Request, sockets: Sockets) -> None:
        super().__init__(request, sockets)
        self.send_at = 0.0

    def act(self, now: float) -> float:
        request, state = self.state.request, self.state
        if self.socket is None:
            self.send_at = now
            try:
                self.open(selectors.EVENT_READ).connect((request.address, request.port))
            except OSError:
                state.sent += 1  # an attempt, though nothing left: there is no way to that address
                raise
        assert self.socket is not None
        with contextlib.suppress(BlockingIOError):
            data = self.socket.recv(ANSWER_MOST)
            identity = self.understood(data)
            state.received += 1
            state.finish(identity=identity, port=_port(self.socket))
            return now
        if now >= self.send_at:
            state.sent += 1
            self.send_at = now + AGAIN
            self.socket.send(self.datagram())
        return self.send_at

    def datagram(self) -> bytes:
        return b"who?\n"

    def understood(self, data: bytes) -> Mapping[str, str]:
        """Raises ValueError."""
        return _identity(data)


class Dns(Udp):
    """A name server's answer."""

    def __init__(self, request: Request, sockets: Sockets) -> None:
        super().__init__(request, sockets)
        self.number = random.getrandbits(16)

    def datagram(self) -> bytes:
        return names.question(self.number, self.state.request.question)

    def understood(self, data: bytes) -> Mapping[str, str]:
        return {"address": names.address(self.number, data)}


def _port(used: socket.socket) -> int:
    port: int = used.getsockname()[1]
    return port


def _identity(data: bytes) -> dict[str, str]:
    """The workload's JSON line. Raises ValueError."""
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise ValueError(f"reply is no workload's: {data[:60]!r}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"reply is no workload's: {data[:60]!r}")
    return {str(key): str(value) for key, value in raw.items()}


def _check(code: int) -> None:
    if code not in (0, errno.EINPROGRESS):
        raise OSError(code, f"connect: {os.strerror(code)}")
