"""The endpoint socket: one request line in, one reply line out, a thread per connection. Called by `__main__`.

The socket is mode 0600, so whoever can ask is root already. Its path changes hands by a rename: a client meets the old
agent's socket or the new one's, never half of one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from node_agent.agent.log import Log
from node_agent.cni import lines, protocol
from node_agent.cni.protocol import Reply, Request
from node_agent.model.errors import Invalid

LONGEST_REQUEST = 1 << 20  # bytes; a GC names every container of the host
PATIENCE = 10.0  # seconds for a client to send its line, and as many to take the answer
LEAVE = 5.0  # seconds for what is under way when the agent ends: less than a pod is given
PAUSE = 0.1  # seconds after a client that could not be served
_AT_ONCE = 64  # requests; more wait in the backlog


class Server:
    """Answers with `handle`, which may be called by several threads at once."""

    def __init__(self, path: Path, handle: Callable[[Request], Reply], log: Log) -> None:
        self._path, self._handle, self._log = path, handle, log
        self._free = threading.Semaphore(_AT_ONCE)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._closed = threading.Event()

    def start(self) -> None:
        """Listen, and answer in the background until the process ends."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        self._socket.bind(str(beside))
        beside.chmod(0o600)
        self._socket.listen(128)
        beside.rename(self._path)
        threading.Thread(target=self._accept, name="endpoint socket", daemon=True).start()

    def close(self) -> None:
        """Take no more requests; those under way are answered, if they need no more than `LEAVE` seconds."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        end = time.monotonic() + LEAVE
        for _ in range(_AT_ONCE):
            if not self._free.acquire(timeout=max(0.0, end - time.monotonic())):
                break

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError as error:  # of this one client, or there are no descriptors for now
                self._pass_over(error)
                continue
            self._free.acquire()
            try:
                threading.Thread(target=self._serve, args=(client,), name="request", daemon=True).start()
            except RuntimeError as error:  # there are no threads for now
                self._free.release()
                client.close()  # its line unread: a reset, after which it may ask again
                self._pass_over(error)

    def _pass_over(self, error: Exception) -> None:
        """Go on with the next client, in a moment."""
        if not self._closed.wait(PAUSE):
            self._log.warning("request not accepted", error=str(error))

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, contextlib.ExitStack() as held:
                came: list[int] = []
                held.callback(_close, came)
                line = lines.read(client, LONGEST_REQUEST, time.monotonic() + PATIENCE, came)
                # The namespace that came with the request, by a path that means the same to every library.
                reply = self._answer(line, f"/proc/self/fd/{came[-1]}" if came else "")
                client.settimeout(PATIENCE)
                client.sendall(protocol.encode(reply))
        except OSError as error:
            self._log.warning("client went away", error=str(error))
        finally:
            self._free.release()

    def _answer(self, line: bytes, netns: str = "") -> Reply:
        try:
            request = protocol.decode_request(line)
            return self._handle(replace(request, netns=netns) if netns else request)
        except Invalid as error:
            return Reply(code=protocol.INVALID_CONFIG, message=str(error))
        except Exception as error:  # a mistake of ours must not take the agent down, nor leave the caller waiting
            self._log.error("request broke", error=traceback.format_exc())
            return Reply(code=protocol.FAILED, message=f"answer request: {type(error).__name__}: {error}")


def _close(descriptors: list[int]) -> None:
    for each in descriptors:
        os.close(each)
