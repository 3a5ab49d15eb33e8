"""Echoes (ping) as probes: by the raw socket of a namespace, or by what anybody may use in the own. For `probes`."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
from collections.abc import Sequence
from typing import Protocol

from node_agent.health.answers import Request
from node_agent.health.probe import AGAIN, ANSWER_MOST, Probe, Sockets, State

ECHO_REPLY, UNREACHABLE, ECHO, EXCEEDED = 0, 3, 8, 11
HEADERS = 28  # of an echo, in bytes: IP and ICMP
PATTERN = b"mizar-probe-"
IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2  # linux/in.h; not in Python's socket


class Way(Protocol):
    """How one namespace's echoes get out and back. An echo's id is 1 to 65535."""

    def register(self, ping: Ping) -> int:
        """The id under which this one's echoes are sent."""
        ...

    def send(self, number: int, message: bytes, address: str) -> None: ...

    def forget(self, number: int) -> None: ...

    def close(self) -> None: ...


class Ways:
    """One per namespace of a run."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._found: dict[str, Way] = {}

    def of(self, source: str) -> Way:
        if source not in self._found:
            self._found[source] = _Raw(self._sockets, source) if source else _Own(self._sockets)
        return self._found[source]

    def close(self) -> None:
        for way in self._found.values():
            way.close()


class Ping:
    """`count` echoes, each sent when the one before was answered, or again after AGAIN seconds."""

    def __init__(self, request: Request, ways: Ways) -> None:
        self.state, self.ways = State(request), ways
        self.way: Way | None = None
        self.number = 0
        self.send_at = 0.0
        self.outstanding: set[int] = set()
        room = max(request.size - HEADERS, 0) if request.size else 4 * len(PATTERN)
        self.filler = (PATTERN * (room // len(PATTERN) + 1))[:room]

    def act(self, now: float) -> float:
        if self.way is None:
            way = self.ways.of(self.state.request.source)
            self.number, self.way = way.register(self), way
        if self.state.received >= self.state.request.count:
            self.state.finish(port=self.number)
            return now
        if now >= self.send_at:
            self.state.sent += 1
            self.send_at = now + AGAIN
            self.outstanding.add(self.state.sent)
            body = struct.pack("!BBHHH", ECHO, 0, 0, self.number, self.state.sent & 0xFFFF) + self.filler
            message = body[:2] + struct.pack("!H", _checksum(body)) + body[4:]
            self.way.send(self.number, message, self.state.request.address)
        return self.send_at

    def heard(self, message: bytes, sender: str) -> bool:
        """Whether this ICMP message concerned us."""
        if len(message) < 8 or message[0] != ECHO_REPLY or sender != self.state.request.address:
            return False
        (sequence,) = struct.unpack_from("!H", message, 6)
        if sequence in self.outstanding:  # not twice for a duplicate
            self.outstanding.discard(sequence)
            self.state.received += 1
            self.send_at = 0.0
        return True

    def close(self) -> None:
        if self.way:
            self.way.forget(self.number)
            self.way = None


class _Raw:
    """The raw socket of one namespace: hands replies and errors to the pings they belong to, by the echo's id."""

    def __init__(self, sockets: Sockets, source: str) -> None:
        self.sockets = sockets
        self.socket = _unfragmented(sockets.open(source, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        self.pings: dict[int, Ping] = {}
        sockets.selector.register(self.socket, selectors.EVENT_READ, self.ready)

    def register(self, ping: Ping) -> int:
        number = _next(self.sockets)
        while number in self.pings:
            number = _next(self.sockets)
        self.pings[number] = ping
        return number

    def send(self, number: int, message: bytes, address: str) -> None:
        self.socket.sendto(message, (address, 0))

    def ready(self) -> Sequence[Probe]:
        touched: list[Probe] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                data, (sender, _) = self.socket.recvfrom(ANSWER_MOST)
                ping = self._deliver(data[(data[0] & 15) * 4 :], sender)
                if ping:
                    touched.append(ping)
        return touched

    def _deliver(self, message: bytes, sender: str) -> Ping | None:
        if len(message) >= 8 and message[0] == ECHO_REPLY:
            ping = self.pings.get(struct.unpack_from("!H", message, 4)[0])
            return ping if ping and ping.heard(message, sender) else None
        if len(message) >= 36 and message[0] in (UNREACHABLE, EXCEEDED):
            inner = message[8:][(message[8] & 15) * 4 :]
            ping = self.pings.get(struct.unpack_from("!H", inner, 4)[0]) if len(inner) >= 6 else None
            if ping:
                ping.state.heard = f"ICMP type {message[0]} code {message[1]} from {sender}"
        return None

    def forget(self, number: int) -> None:
        self.pings.pop(number, None)

    def close(self) -> None:
        self.sockets.selector.unregister(self.socket)
        self.socket.close()


class _Own:
    """Of the own namespace: a ping socket for each id, which takes no capability where sysctl net.ipv4.ping_group_range
    names our group. The kernel writes checksum and id."""

    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets
        self.opened: dict[int, socket.socket] = {}

    def register(self, ping: Ping) -> int:
        made = _unfragmented(self.sockets.open("", socket.SOCK_DGRAM, socket.IPPROTO_ICMP))
        try:
            number = self._bound(made)
        except OSError:
            made.close()
            raise
        self.opened[number] = made
        self.sockets.selector.register(made, selectors.EVENT_READ, lambda: self._ready(made, ping))
        return number

    def _bound(self, made: socket.socket) -> int:
        while True:
            number = _next(self.sockets)
            try:
                made.bind(("0.0.0.0", number))
                return number
            except OSError as error:
                if error.errno != errno.EADDRINUSE:  # another process's
                    raise

    def send(self, number: int, message: bytes, address: str) -> None:
        sending = self.opened[number]
        sending.connect((address, 0))  # else the kernel would tell us of no error on the way
        sending.send(message)

    def _ready(self, made: socket.socket, ping: Ping) -> Sequence[Probe]:
        try:
            while True:
                message, (sender, _) = made.recvfrom(ANSWER_MOST)
                ping.heard(message, sender)
        except BlockingIOError:
            pass
        except OSError as error:
            ping.state.heard = error.strerror or str(error)
        return (ping,)

    def forget(self, number: int) -> None:
        if made := self.opened.pop(number, None):
            self.sockets.selector.unregister(made)
            made.close()

    def close(self) -> None:
        for number in list(self.opened):
            self.forget(number)


def _next(sockets: Sockets) -> int:
    while not (number := next(sockets.numbers) & 0xFFFF):
        pass
    return number


def _unfragmented(made: socket.socket) -> socket.socket:
    """Too large is then an error of sending or a router's answer, and never two fragments."""
    made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    return made


def _checksum(data: bytes) -> int:
    """The internet checksum."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
