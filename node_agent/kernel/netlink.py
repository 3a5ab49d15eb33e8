"""A bare netlink socket and the packing of messages, for what pyroute2 does not decode or does too slowly.

Called by `kernel.filters`, `kernel.links` and `kernel.pairs`. Integers are in host byte order unless said otherwise, as
the kernel wants them.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
DUMP_INTERRUPTED = 0x10
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400
NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")
_DONE, _ERROR = 3, 2
_DUMPS = 10  # tries of a dump that changes meanwhile disturb

Message = tuple[int, int, bytes]
"""Kind, flags beside REQUEST and ACK, body."""


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to 4 bytes."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Attribute kind (flags removed) -> payload; of repeated kinds the last."""
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


class Netlink:
    """One rtnetlink socket; it belongs to the network namespace of the thread that opens it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(10.0)
        self._socket.bind((0, 0))
        self._sequence = 0
        self._interrupted = False

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """Send one request and wait for its acknowledgement. Raises OSError with the kernel's errno."""
        for _ in self._ask(kind, REQUEST | ACK | flags, body):
            pass

    def changes(self, messages: Sequence[Message]) -> None:
        """Send all of them at once; each is carried out, in their order, whatever became of those before it. Raises
        OSError with the errno of the first that failed."""
        first = self._sequence + 1
        self._sequence += len(messages)
        self._socket.send(
            b"".join(
                _HEADER.pack(_HEADER.size + len(body), kind, REQUEST | ACK | flags, number, 0)
                + body
                + bytes(-len(body) % 4)
                for number, (kind, flags, body) in enumerate(messages, first)
            )
        )
        codes: dict[int, int] = {}
        while len(codes) < len(messages):
            for answer, _, sequence, payload in self._received():
                if answer == _ERROR and first <= sequence <= self._sequence:
                    codes[sequence] = -struct.unpack_from("=i", payload)[0]
        if code := next((codes[number] for number in sorted(codes) if codes[number]), 0):
            raise OSError(code, os.strerror(code))

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of a dump's messages, none of which is missing because others came or went. Raises OSError with
        the kernel's errno, EINTR when they came and went all the time."""
        for _ in range(_DUMPS):
            self._interrupted = False
            found = list(self._ask(kind, REQUEST | DUMP, body))
            if not self._interrupted:
                return found
        raise OSError(errno.EINTR, "it changes all the time")

    def get(self, kind: int, body: bytes) -> bytes:
        """The body of the one answer. Raises OSError with the kernel's errno."""
        return next(iter(list(self._ask(kind, REQUEST | ACK, body))))

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        while True:
            for answer, told, sequence, payload in self._received():
                if sequence != self._sequence:
                    continue  # the tail of a request that was given up
                self._interrupted |= bool(told & DUMP_INTERRUPTED)
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield payload

    def _received(self) -> Iterator[tuple[int, int, int, bytes]]:
        """(kind, flags, sequence, body) of the messages that come next."""
        data = self._socket.recv(1 << 17)
        if not data:
            raise OSError(errno.ECONNRESET, "netlink socket closed")
        at = 0
        while at + _HEADER.size <= len(data):
            length, answer, flags, sequence, _ = _HEADER.unpack_from(data, at)
            yield answer, flags, sequence, data[at + _HEADER.size : at + length]
            at += max((length + 3) & ~3, _HEADER.size)
