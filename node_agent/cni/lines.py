"""One line from a stream socket, within a time for the whole of it. Called by both ends of the endpoint socket."""

from __future__ import annotations

import socket
import time


def read(conn: socket.socket, longest: int, until: float, descriptors: list[int] | None = None) -> bytes:
    """What came up to the newline, with it; without one when the peer hung up, or after `longest` bytes. `until`: of
    time.monotonic. `descriptors` gets those that came along, the caller's to close; None: they are not taken. Raises
    TimeoutError when time is up, however much has come, and OSError."""
    found = b""
    while not found.endswith(b"\n") and len(found) < longest:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        conn.settimeout(left)
        if descriptors is None:
            part = conn.recv(65536)
        else:
            part, came, _, _ = socket.recv_fds(conn, 65536, 1)
            descriptors += came
        if not part:
            break
        found += part
    return found
