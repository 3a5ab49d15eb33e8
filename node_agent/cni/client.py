"""Asks a host's agent over its unix socket: one request line out, one reply line in, one connection each.

Called by the Pulumi providers and the bench; a CNI plugin would say the same. The agent may be restarting at
any moment, so its absence is Temporary; `persist` repeats such calls.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path

from node_agent.cni import lines, protocol
from node_agent.cni.protocol import Reply, Request
from node_agent.model.errors import Permanent, Temporary

LONGEST_REPLY = 1 << 20  # bytes
PAUSE_MOST = 0.5  # seconds between two attempts of `persist`


def call(path: Path, request: Request, timeout: float = 30.0) -> Reply:
    """The agent's reply with code 0. `timeout`: seconds for the whole exchange.

    Raises Temporary (agent absent, slow, or it says try again) or Permanent (it refused, or it answered nonsense).
    """
    asked = f"ask agent {path} for {request.verb}"
    until = time.monotonic() + timeout
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as conn:
            conn.settimeout(timeout)
            conn.connect(str(path))
            conn.sendall(protocol.encode(request))
            line = lines.read(conn, LONGEST_REPLY, until)
    except OSError as error:
        raise Temporary(f"{asked}: {error.strerror or 'no answer in time'}") from error
    if not line.endswith(b"\n"):
        raise Temporary(f"{asked}: it hung up before its answer was complete")
    reply = protocol.decode_reply(line)
    if reply.code == protocol.TRY_AGAIN:
        raise Temporary(f"{asked}: {reply.message}")
    if reply.code:
        raise Permanent(f"{asked}: {reply.message} (code {reply.code})")
    return reply


def persist(path: Path, request: Request, seconds: float) -> Reply:
    """As `call`, repeated for at most `seconds` while the failure is Temporary. Every verb may be repeated."""
    until = time.monotonic() + seconds
    while True:
        try:
            return call(path, request, max(0.1, until - time.monotonic()))
        except Temporary as error:
            left = until - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(error.delay, PAUSE_MOST, left))
