"""The way from this computer to a server inside an emulated network: a port of 127.0.0.1 whose connections go on from
within a namespace. It carries bytes only; who may do what is between the two ends.

    python -S -m node_agent.emulation.cluster.door --port PORT --netns PATH --to ADDRESS:PORT

Kept running by `emulation.supervisor`; `doors` starts it.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from pathlib import Path

from node_agent.kernel import netns

CONNECT_TIMEOUT = 5.0
CONNECTIONS_MOST = 512
CHUNK = 1 << 16


def serve(port: int, path: Path, address: str, to: int) -> None:
    """Accept for ever."""
    slots = threading.Semaphore(CONNECTIONS_MOST)

    def carry(client: socket.socket) -> None:
        try:
            with client:
                # The namespace is opened for each: the host may have been made anew.
                server = netns.call_in(path, lambda: socket.create_connection((address, to), CONNECT_TIMEOUT))
                with server:
                    server.settimeout(None)
                    other = threading.Thread(target=_copy, args=(server, client), daemon=True)
                    other.start()
                    _copy(client, server)
                    other.join()
        except Exception as error:
            print(f"connect to {address}:{to}: {error}", file=sys.stderr, flush=True)
        finally:
            slots.release()

    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            slots.acquire()
            client, _ = listener.accept()
            threading.Thread(target=carry, args=(client,), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until the source ends; then the target is told so, and goes on in the other direction."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def main(arguments: list[str]) -> int:
    if len(arguments) != 6 or arguments[::2] != ["--port", "--netns", "--to"]:
        print("usage: door --port PORT --netns PATH --to ADDRESS:PORT", file=sys.stderr)
        return 2
    address, _, to = arguments[5].rpartition(":")
    serve(int(arguments[1]), Path(arguments[3]), address, int(to))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
