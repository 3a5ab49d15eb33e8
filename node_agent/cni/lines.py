"""One line from a stream socket, within a time for the whole of it. Called by both ends of the endpoint socket."""

from __future__ import annotations

import socket
import time


def read(conn: socket.socket, longest: int, until: float) -> bytes:
    """What came up to the newline, with it; without one when the peer hung up, or after `longest` bytes. `until`: of
    time.monotonic. Raises TimeoutError then, however much has come, and OSError."""
    found = b""
    while not found.endswith(b"\n") and len(found) < longest:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        conn.settimeout(left)
        part = conn.recv(65536)
        if not part:
            break
        found += part
    return found
