"""Programs in running containers, by the API server: what `kubectl exec` does, without kubectl and without a shell.

Called by the health gate of clusters. The only caller of the library websocket-client. Any thread may call.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from urllib.parse import quote, urlencode, urlsplit

import websocket
from websocket import WebSocket, WebSocketBadStatusException, WebSocketException, WebSocketTimeoutException

from node_agent.model.errors import Permanent, Temporary
from node_agent.store.kubernetes_access import Access
from node_agent.store.kubernetes_http import refusal

CONNECT_SECONDS = 3.0
PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3  # first byte of each message
PART = 1 << 15  # bytes of one message
SHOWN = 500  # characters of what a failed program said


def run(
    access: Access, namespace: str, pod: str, container: str, argv: Sequence[str], line: str, timeout: float
) -> str:
    """What the program printed on stdout, given one line on stdin; at most `timeout` seconds.

    A program must not wait for the end of stdin: version 4 of the protocol has none. Raises Permanent when it fails,
    Temporary when the container cannot be reached or takes too long; what `refusal` makes when the server refuses.
    """
    what = f"run {shlex.join(argv)} in pod {namespace}/{pod}"
    until = time.monotonic() + timeout
    query = [("container", container), *((name, "true") for name in ("stdin", "stdout", "stderr"))]
    query += [("command", word) for word in argv]
    path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/exec?{urlencode(query)}"
    try:
        with _connected(access, path, timeout) as channel:
            data = line.encode() + b"\n"
            for at in range(0, len(data), PART):
                channel.send_binary(bytes([STDIN]) + data[at : at + PART])
            said = _answered(channel, until)
    except WebSocketBadStatusException as error:
        raise refusal(what, error.status_code, error.resp_body or b"") from error
    except (WebSocketTimeoutException, TimeoutError) as error:
        raise Temporary(f"{what}: no answer within {timeout:g} s") from error
    except (WebSocketException, OSError) as error:
        raise Temporary(f"{what}: {error}") from error
    status = json.loads(said[STATUS] or b"{}")
    if status.get("status") != "Success":
        words = said[STDERR].decode(errors="replace").strip()[-SHOWN:]
        raise Permanent(f"{what}: {words or status.get('message') or 'it ended without a word'}")
    return said[STDOUT].decode()


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
    if tls is None:
        return plain
    try:
        return tls.wrap_socket(plain, server_hostname=name)
    except OSError:
        plain.close()
        raise


def _answered(channel: WebSocket, until: float) -> dict[int, bytes]:
    """Everything that was said, by channel, up to the program's end."""
    said = dict.fromkeys((STDOUT, STDERR, STATUS), b"")
    while not said[STATUS]:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        channel.settimeout(left)
        opcode, data = channel.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return said
        if data and data[0] in said:
            said[data[0]] += data[1:]
    return said
