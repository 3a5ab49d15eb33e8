"""A unix socket that answers HTTP GET /metrics, and the client of it. Called by the starts of agent and controller, and
by `mizar metrics`; by that also in a pod, where the socket is out of its reach: `python -m node_agent.metrics.server
SOCKET` prints what is answered there.

The socket is mode 0600 and no TCP port is opened. What serves figures must never be why packets or endpoints suffer: a
failure of any kind is said once in the log, and answered 500.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from node_agent.metrics.figures import Metric
from node_agent.model.errors import MizarError, Permanent, Temporary

SOCKET = "metrics.sock"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATIENCE = 10.0  # seconds for a client to say its request, and for us to get an answer


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 16


class Server:
    """Answers with what `collect` gives, which may be called by several threads at once. `say`: logs one problem."""

    def __init__(self, path: Path, collect: Callable[[], Iterable[Metric]], say: Callable[[str], None]) -> None:
        self._path, self._collect, self._say = path, collect, say
        self._said = ""
        self._server: _Server | None = None

    def start(self) -> None:
        """Listen, and answer in the background until the process ends. A path that cannot be used is only said."""
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            beside.unlink(missing_ok=True)
            self._server = _Server(str(beside), self._handler())
            beside.chmod(0o600)
            beside.rename(self._path)  # a client meets the old process's socket or this one, never half of one
        except OSError as error:
            self._problem(f"serve figures at {self._path}: {error}")
            return
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Answer no more questions."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self) -> tuple[int, bytes]:
        """(HTTP status, body)."""
        try:
            # Not before somebody asks: an agent starts, and goes on, even where the library is broken or absent.
            from node_agent.metrics import exposition

            return 200, exposition.text(self._collect())
        except Exception as error:  # see above: whatever it is, the process goes on
            self._problem(f"collect figures: {type(error).__name__}: {error}")
            return 500, f"{error}\n".encode()

    def _problem(self, what: str) -> None:
        if what != self._said:
            self._said = what
            self._say(what)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self.answer

        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE

            def do_GET(self) -> None:
                code, body = answer() if self.path == "/metrics" else (404, b"GET /metrics\n")
                self.send_response(code)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):  # the client went away
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Questions are not logged."""

        return Handler


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def fetch(path: Path) -> str:
    """The text that the process behind this socket gives. Raises Permanent (there is none), Temporary."""
    connection = _Connection(path)
    try:
        connection.request("GET", "/metrics")
        reply = connection.getresponse()
        body = reply.read().decode()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise Permanent(f"ask {path}: {error.strerror}: is the process running?") from error
    except (OSError, http.client.HTTPException) as error:
        raise Temporary(f"ask {path}: {error}") from error
    finally:
        connection.close()
    if reply.status != 200:
        raise MizarError(f"ask {path}: {body.strip()}")
    return body


if __name__ == "__main__":
    try:
        print(fetch(Path(sys.argv[1])), end="")
    except MizarError as failed:
        sys.exit(str(failed))
