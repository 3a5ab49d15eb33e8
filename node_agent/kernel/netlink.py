"""A bare netlink socket and the packing of messages, for what pyroute2 does not decode or does too slowly.

Called by `kernel.filters`. Integers are in host byte order unless said otherwise, as the kernel wants them.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400
NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")
_DONE, _ERROR = 3, 2


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

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of a dump's messages. Raises OSError with the kernel's errno."""
        return list(self._ask(kind, REQUEST | DUMP, body))

    def _ask(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(1 << 17)
            if not data:
                raise OSError(errno.ECONNRESET, "netlink socket closed")
            at = 0
            while at + _HEADER.size <= len(data):
                length, answer, _, sequence, _ = _HEADER.unpack_from(data, at)
                payload = data[at + _HEADER.size : at + length]
                at += max((length + 3) & ~3, _HEADER.size)
                if sequence != self._sequence:
                    continue  # the tail of a request that was given up
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield payload
