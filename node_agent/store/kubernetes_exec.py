"""Programs in running containers, by the API server: what `kubectl exec` does, without kubectl and without a shell.

Called by the health gate of clusters and by `mizar`. The only caller of the library websocket-client. Any thread may
call.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import websocket
from websocket import WebSocket, WebSocketBadStatusException, WebSocketException, WebSocketTimeoutException

from node_agent.model.errors import Permanent, Temporary
from node_agent.store.kubernetes_access import Access
from node_agent.store.kubernetes_http import refusal

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0  # of the server's, before a program of any length begins
PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3  # first byte of each message
PART = 1 << 15  # bytes of one message
SHOWN = 500  # characters of what a failed program said

Hear = Callable[[int, bytes], None]
"""Is given STDOUT or STDERR, and what was said there."""


def run(
    access: Access, namespace: str, pod: str, container: str, argv: Sequence[str], line: str, timeout: float
) -> str:
    """What the program printed on stdout, given one line on stdin; at most `timeout` seconds.

    A program must not wait for the end of stdin: version 4 of the protocol has none. Raises Permanent when it fails,
    Temporary when the container cannot be reached or takes too long; what `refusal` makes when the server refuses.
    """
    what, until = _what(argv, namespace, pod), time.monotonic() + timeout
    path = _path(namespace, pod, container, argv, ("stdin", "stdout", "stderr"))
    said = {channel: bytearray() for channel in (STDOUT, STDERR, STATUS)}
    for channel, part in _messages(access, what, path, line.encode() + b"\n", timeout, until):
        said[channel] += part
    status = json.loads(said[STATUS] or b"{}")
    if status.get("status") != "Success":
        words = said[STDERR].decode(errors="replace").strip()[-SHOWN:]
        raise Permanent(f"{what}: {words or status.get('message') or 'it ended without a word'}")
    return said[STDOUT].decode()


def follow(access: Access, namespace: str, pod: str, container: str, argv: Sequence[str], hear: Hear) -> int:
    """The program's exit code, once it has ended; what it says on STDOUT and STDERR is handed on as it comes. It has
    nothing on stdin.

    Raises Permanent when it could not be started, Temporary when the container cannot be reached; what `refusal` makes
    when the server refuses; whatever `hear` raises.
    """
    what, status = _what(argv, namespace, pod), bytearray()
    path = _path(namespace, pod, container, argv, ("stdout", "stderr"))
    with contextlib.closing(_messages(access, what, path, b"", ANSWER_SECONDS, None)) as messages:
        for channel, part in messages:
            if channel == STATUS:
                status += part
            else:
                hear(channel, part)
    told = json.loads(status or b"{}")
    code = exit_code(told)
    if code is None:
        raise Permanent(f"{what}: {told.get('message') or 'it ended without a word'}")
    return code


def exit_code(status: Mapping[str, Any]) -> int | None:
    """Of the program whose end this Status object tells; None when it tells of none. Pure."""
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    return next((int(each["message"]) for each in causes if each.get("reason") == "ExitCode"), None)


def _what(argv: Sequence[str], namespace: str, pod: str) -> str:
    return f"run {shlex.join(argv)} in pod {namespace}/{pod}"


def _path(namespace: str, pod: str, container: str, argv: Sequence[str], streams: Sequence[str]) -> str:
    query = [("container", container), *((name, "true") for name in streams), *(("command", word) for word in argv)]
    return f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/exec?{urlencode(query)}"


def _messages(
    access: Access, what: str, path: str, data: bytes, timeout: float, until: float | None
) -> Generator[tuple[int, bytes], None, None]:
    """What is said, by channel, up to the program's end, on a new connection to that path; `data` is for its stdin.
    `timeout`: seconds for each step; `until`: time.monotonic() of the last moment, None when any will do."""
    try:
        with _connected(access, path, timeout) as channel:
            for at in range(0, len(data), PART):
                channel.send_binary(bytes([STDIN]) + data[at : at + PART])
            ended = False
            while not ended:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                channel.settimeout(left)
                opcode, message = channel.recv_data()
                ended = opcode == websocket.ABNF.OPCODE_CLOSE or message[:1] == bytes([STATUS])
                if opcode != websocket.ABNF.OPCODE_CLOSE and message and message[0] in (STDOUT, STDERR, STATUS):
                    yield message[0], message[1:]
    except WebSocketBadStatusException as error:
        raise refusal(what, error.status_code, error.resp_body or b"") from error
    except (WebSocketTimeoutException, TimeoutError) as error:
        raise Temporary(f"{what}: no answer within {timeout:g} s") from error
    except (WebSocketException, OSError) as error:
        raise Temporary(f"{what}: {error}") from error


@contextlib.contextmanager
def _connected(access: Access, path: str, timeout: float) -> Iterator[WebSocket]:
    """A channel to that path. The socket is ours: TLS as `access` has it, and no proxy."""
    url = urlsplit(access.server)
    host, port = url.hostname or "", url.port or (443 if access.tls else 80)
    headers = [f"Authorization: Bearer {token}"] if (token := access.token()) else []
    with _socket(access.tls, host, port, access.name or host) as opened:
        opened.settimeout(timeout)
        yield websocket.create_connection(
            f"{'wss' if access.tls else 'ws'}://{host}:{port}{path}",
            socket=opened,
            subprotocols=PROTOCOLS,
            header=headers,
            suppress_origin=True,
            redirect_limit=0,
        )


def _socket(tls: ssl.SSLContext | None, host: str, port: int, name: str) -> socket.socket:
    plain = socket.create_connection((host, port), CONNECT_SECONDS)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if tls is None:
        return plain
    try:
        return tls.wrap_socket(plain, server_hostname=name)
    except OSError:
        plain.close()
        raise
