"""Real packets from inside endpoints' namespaces: ICMP echo, a TCP request and a UDP request to a workload.

    answers = run([Request(protocol="tcp", source=Path("/run/netns/..."), address="10.0.0.2"), ...])

Up to UNDER_WAY requests are under way at once, driven by one loop of one thread; sockets stay in the namespace that
they were opened in. No process is started and nothing of the agent is asked, so an agent that lies about its health
does not help. Called by `health.gate`, the CLI and tests. What an answer means is judged in `health.assess`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import random
import selectors
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from node_agent.health.answers import Answer, Request
from node_agent.kernel import netns
from node_agent.model.errors import MizarError

UNDER_WAY = 500  # requests at once: a process commonly has 1,024 file descriptors
AGAIN = 0.25  # seconds after which an unanswered echo or datagram is repeated
REFUSED_AGAIN = 0.05  # seconds after which a failed connect is repeated: the peer may just be starting
ANSWER_MOST = 65536  # bytes
ECHO_REPLY, UNREACHABLE, ECHO, EXCEEDED = 0, 3, 8, 11
HEADERS = 28  # of an echo, in bytes: IP and ICMP
PATTERN = b"mizar-probe-"
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # linux/in.h; not in Python's socket


def run(requests: Sequence[Request]) -> list[Answer]:
    """One answer per request, in their order. Takes at most the longest timeout (for every UNDER_WAY requests), and
    never raises for a peer or a source that is missing: that is a reason."""
    return netns.call_in(None, lambda: _Loop(requests).run())  # a thread of its own, as namespaces belong to threads


class _Probe(Protocol):
    """One request under way. `act` does what is due and says when it wants to be called again (monotonic time)."""

    state: _State

    def act(self, now: float) -> float: ...

    def close(self) -> None: ...


class _State:
    """What all probes keep: the request, its clock, and the last reason heard why it is not answered."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.began = time.monotonic()
        self.sent = self.received = 0
        self.heard = ""
        self.due = 0.0  # monotonic time of the next step
        self.answer: Answer | None = None

    @property
    def deadline(self) -> float:
        return self.began + self.request.timeout

    def finish(self, reason: str = "", identity: Mapping[str, str] | None = None, port: int = 0) -> None:
        self.answer = Answer(
            reason=reason,
            sent=self.sent,
            received=self.received,
            identity=identity,
            port=port,
            seconds=time.monotonic() - self.began,
        )

    def expire(self) -> None:
        waited = f"no answer within {self.request.timeout:g} s"
        if self.request.protocol == "icmp":
            waited = f"{self.received} of {self.request.count} echoes answered within {self.request.timeout:g} s"
        self.finish(f"{waited}: {self.heard}" if self.heard else waited)


class _Loop:
    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.selector = selectors.DefaultSelector()
        self.echoes: dict[Path, _Echoes] = {}
        # Of echoes. No two of a run are alike, also of different namespaces: two ends that ping each other with one id
        # share a flow, and each finds in its host's table what it learned from the other's.
        self.numbers = itertools.count(random.getrandbits(16))

    def run(self) -> list[Answer]:
        answers: dict[int, Answer] = {}
        waiting = iter(enumerate(self.requests))
        active: dict[int, _Probe] = {}
        try:
            while True:
                for number, request in itertools.islice(waiting, UNDER_WAY - len(active)):
                    active[number] = self._begin(request)
                if not active:
                    return [answers[number] for number in range(len(self.requests))]
                self._turn(list(active.values()))
                for number in [n for n, probe in active.items() if probe.state.answer]:
                    probe = active.pop(number)
                    probe.close()
                    assert probe.state.answer
                    answers[number] = probe.state.answer
        finally:
            for probe in active.values():
                probe.close()
            for echoes in self.echoes.values():
                echoes.close()
            self.selector.close()

    def _turn(self, probes: Sequence[_Probe]) -> None:
        """Let every probe act that has something to do, else wait for the first of them."""
        now = time.monotonic()
        acting = [probe for probe in probes if probe.state.due <= now]
        for probe in acting:
            probe.state.due = self._step(probe, now)
        timeout = 0.0 if acting else max(min(probe.state.due for probe in probes) - now, 0.0)
        for key, _ in self.selector.select(timeout):
            ready: Callable[[], Sequence[_Probe]] = key.data
            for probe in ready():
                probe.state.due = 0.0

    def _step(self, probe: _Probe, now: float) -> float:
        if now >= probe.state.deadline:
            probe.state.expire()
            return now
        try:
            wake = probe.act(now)
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            probe.state.heard, wake = cause, now + REFUSED_AGAIN
            probe.close()
        except MizarError as error:
            probe.state.finish(str(error))  # the source's namespace is gone: waiting does not help
            return now
        return min(wake, probe.state.deadline)

    def _begin(self, request: Request) -> _Probe:
        if request.protocol == "icmp":
            return _Ping(request, self)
        return _Tcp(request, self) if request.protocol == "tcp" else _Udp(request, self)

    def open(self, source: Path, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        """A non-blocking socket of that namespace. Raises MizarError (no such namespace), OSError."""
        with netns.enter(source):
            opened = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK, protocol)
        return opened

    def echoes_of(self, source: Path) -> _Echoes:
        if source not in self.echoes:
            self.echoes[source] = _Echoes(self, source)
        return self.echoes[source]


class _Echoes:
    """The raw socket of one namespace: hands replies and errors to the pings they belong to, by the echo's id."""

    def __init__(self, loop: _Loop, source: Path) -> None:
        self.socket = loop.open(source, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        # Too large is then an error of `sendto` or a router's answer, and never two fragments.
        self.socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        self.loop, self.selector = loop, loop.selector
        self.pings: dict[int, _Ping] = {}
        self.selector.register(self.socket, selectors.EVENT_READ, self.ready)

    def register(self, ping: _Ping) -> int:
        while (number := next(self.loop.numbers) & 0xFFFF) in self.pings:
            pass
        self.pings[number] = ping
        return number

    def ready(self) -> Sequence[_Probe]:
        touched: list[_Probe] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, (sender, _) = self.socket.recvfrom(ANSWER_MOST)
                ping = self._deliver(data[(data[0] & 15) * 4 :], sender)
                if ping:
                    touched.append(ping)
        return touched

    def _deliver(self, message: bytes, sender: str) -> _Ping | None:
        if len(message) < 8:
            return None
        if message[0] == ECHO_REPLY:
            number, sequence = struct.unpack_from("!HH", message, 4)
            ping = self.pings.get(number)
            if ping and sender == ping.state.request.address:
                ping.replied(sequence)
                return ping
        elif message[0] in (UNREACHABLE, EXCEEDED) and len(message) >= 36:
            inner = message[8:][(message[8] & 15) * 4 :]
            ping = self.pings.get(struct.unpack_from("!H", inner, 4)[0]) if len(inner) >= 6 else None
            if ping:
                ping.state.heard = f"ICMP type {message[0]} code {message[1]} from {sender}"
        return None

    def close(self) -> None:
        self.selector.unregister(self.socket)
        self.socket.close()


class _Ping:
    """`count` echoes, each sent when the one before was answered, or again after AGAIN seconds."""

    def __init__(self, request: Request, loop: _Loop) -> None:
        self.state, self.loop = _State(request), loop
        self.echoes: _Echoes | None = None
        self.number = 0
        self.send_at = 0.0
        self.outstanding: set[int] = set()
        room = max(request.size - HEADERS, 0) if request.size else 4 * len(PATTERN)
        self.filler = (PATTERN * (room // len(PATTERN) + 1))[:room]

    def act(self, now: float) -> float:
        if self.echoes is None:
            self.echoes = self.loop.echoes_of(self.state.request.source)
            self.number = self.echoes.register(self)
        if self.state.received >= self.state.request.count:
            self.state.finish(port=self.number)
            return now
        if now >= self.send_at:
            self.state.sent += 1
            self.send_at = now + AGAIN
            self.outstanding.add(self.state.sent)
            body = struct.pack("!BBHHH", ECHO, 0, 0, self.number, self.state.sent & 0xFFFF) + self.filler
            message = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
            self.echoes.socket.sendto(message, (self.state.request.address, 0))
        return self.send_at

    def replied(self, sequence: int) -> None:
        if sequence in self.outstanding:  # not twice for a duplicate
            self.outstanding.discard(sequence)
            self.state.received += 1
            self.send_at = 0.0

    def close(self) -> None:
        if self.echoes:
            self.echoes.pings.pop(self.number, None)
            self.echoes = None


class _Stream:
    """What TCP and UDP probes share: one socket, reopened after a failure."""

    kind: socket.SocketKind

    def __init__(self, request: Request, loop: _Loop) -> None:
        self.state, self.loop = _State(request), loop
        self.socket: socket.socket | None = None

    def open(self, events: int) -> socket.socket:
        opened = self.loop.open(self.state.request.source, self.kind)
        self.loop.selector.register(opened, events, lambda: (self,))
        self.socket = opened
        return opened

    def act(self, now: float) -> float:
        raise NotImplementedError

    def close(self) -> None:
        if self.socket:
            self.loop.selector.unregister(self.socket)
            self.socket.close()
            self.socket = None


class _Tcp(_Stream):
    kind = socket.SOCK_STREAM

    def __init__(self, request: Request, loop: _Loop) -> None:
        super().__init__(request, loop)
        self.connected, self.data = False, b""

    def act(self, now: float) -> float:
        request, state = self.state.request, self.state
        if self.socket is None:
            self.connected, self.data = False, b""
            opened = self.open(selectors.EVENT_WRITE)
            state.sent += 1
            _check(opened.connect_ex((request.address, request.port)))
            return state.deadline
        if not self.connected:
            _check(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            self.connected = True
            state.heard = "connected, but the request got no reply"
            self.socket.send(f"GET / HTTP/1.0\r\nHost: {request.address}\r\n\r\n".encode())
            self.loop.selector.modify(self.socket, selectors.EVENT_READ, lambda: (self,))
            return state.deadline
        with contextlib.suppress(BlockingIOError):
            while chunk := self.socket.recv(ANSWER_MOST):
                self.data += chunk
                if len(self.data) > ANSWER_MOST:
                    raise ValueError(f"reply longer than {ANSWER_MOST} bytes")
            identity = _identity(self.data.partition(b"\r\n\r\n")[2])
            state.received += 1
            state.finish(identity=identity, port=_port(self.socket))
        return state.deadline


class _Udp(_Stream):
    kind = socket.SOCK_DGRAM

    def __init__(self, request: Request, loop: _Loop) -> None:
        super().__init__(request, loop)
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
            identity = _identity(data)
            state.received += 1
            state.finish(identity=identity, port=_port(self.socket))
            return now
        if now >= self.send_at:
            state.sent += 1
            self.send_at = now + AGAIN
            self.socket.send(b"who?\n")
        return self.send_at


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


def _checksum(data: bytes) -> int:
    """The internet checksum."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
