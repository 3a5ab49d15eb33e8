"""A tenant's program for tests and demonstrations: answers who it is, and remembers who asked.

    python -I -S workload.py --vpc V --name N --address A       (or: python -m node_agent.health.workload ...)

    GET /      on TCP 8080   one JSON line {"vpc", "name", "address"}
    GET /seen  on TCP 8080   one JSON line {peer address: {"tcp": requests, "udp": datagrams, "stream": connections}}
    any datagram on UDP 8080 the same JSON line as GET /
    TCP 8081                 every byte comes back

`emulation.endpoints` runs one per endpoint, in the endpoint's namespace, under a supervisor; on a cluster it is what
runs in the health gate's pods. The probes of `health` and the tests talk to it. Thousands of them may run on a machine,
so it imports little and nothing of this project.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import signal
import socket
import sys
import time

USAGE = "usage: python -m node_agent.health.workload --vpc VPC --name NAME --address ADDRESS"
PORT, STREAM_PORT = 8080, 8081
PEERS_MOST = 4096  # addresses remembered; later ones are counted as "others"
CONNECTIONS_MOST = 256
IDLE_MOST = 60.0  # seconds
REQUEST_MOST = 8192  # bytes of one HTTP request
ECHO_MOST = 1 << 20  # bytes of a stream held back while the peer does not read


class Connection:
    """One TCP connection. `echo`: of the stream port; else HTTP, one request each."""

    def __init__(self, peer: str, echo: bool) -> None:
        self.peer, self.echo = peer, echo
        self.received, self.to_send = b"", bytearray()
        self.ending = False
        self.used = time.monotonic()


class Workload:
    """All sockets of the process, driven by one loop."""

    def __init__(self, identity: dict[str, str]) -> None:
        self.line = json.dumps(identity, sort_keys=True).encode() + b"\n"
        self.seen: dict[str, dict[str, int]] = {}
        self.selector = selectors.DefaultSelector()
        self.connections: dict[socket.socket, Connection] = {}
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("0.0.0.0", PORT))
        datagrams.setblocking(False)
        self.selector.register(datagrams, selectors.EVENT_READ, self.datagram)
        for port in (STREAM_PORT, PORT):  # the last of all: who waits for it may use the others
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("0.0.0.0", port))
            listener.listen(128)
            listener.setblocking(False)
            self.selector.register(listener, selectors.EVENT_READ, self.accept)

    def run(self) -> None:
        while True:
            for key, _ in self.selector.select(IDLE_MOST if self.connections else None):
                try:
                    key.data(key.fileobj)
                except BlockingIOError:
                    pass
                except OSError:
                    if key.fileobj in self.connections:
                        self.close(key.fileobj)
            self.drop_idle()

    def count(self, peer: str, kind: str) -> None:
        if peer not in self.seen and len(self.seen) >= PEERS_MOST:
            peer = "others"
        counts = self.seen.setdefault(peer, {})
        counts[kind] = counts.get(kind, 0) + 1

    def datagram(self, server: socket.socket) -> None:
        _, peer = server.recvfrom(65535)
        self.count(peer[0], "udp")
        server.sendto(self.line, peer)

    def accept(self, listener: socket.socket) -> None:
        accepted, peer = listener.accept()
        if len(self.connections) >= CONNECTIONS_MOST:
            accepted.close()
            return
        accepted.setblocking(False)
        connection = Connection(peer[0], echo=accepted.getsockname()[1] == STREAM_PORT)
        if connection.echo:
            self.count(peer[0], "stream")
        self.connections[accepted] = connection
        self.selector.register(accepted, selectors.EVENT_READ, self.serve)

    def serve(self, accepted: socket.socket) -> None:
        connection = self.connections[accepted]
        connection.used = time.monotonic()
        if not connection.ending and len(connection.to_send) < ECHO_MOST:
            self.receive(accepted, connection)
        if connection.to_send:
            with contextlib.suppress(BlockingIOError):
                del connection.to_send[: accepted.send(connection.to_send)]
        if connection.ending and not connection.to_send:
            self.close(accepted)
            return
        wanted = selectors.EVENT_WRITE if connection.to_send else 0
        if not connection.ending and len(connection.to_send) < ECHO_MOST:
            wanted |= selectors.EVENT_READ
        self.selector.modify(accepted, wanted, self.serve)

    def receive(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            data = accepted.recv(1 << 16)
        except BlockingIOError:
            return
        if not data:
            connection.ending = True
        elif connection.echo:
            connection.to_send += data
        else:
            connection.received += data
            if b"\r\n\r\n" in connection.received or len(connection.received) > REQUEST_MOST:
                connection.ending = True
                connection.to_send += self.answer(connection)

    def answer(self, connection: Connection) -> bytes:
        words = connection.received.split(b"\r\n", 1)[0].split(b" ")
        path = words[1] if len(words) == 3 and words[0] == b"GET" else b""
        if path == b"/seen":
            body, status = json.dumps(self.seen, sort_keys=True).encode() + b"\n", b"200 OK"
        elif path == b"/":
            self.count(connection.peer, "tcp")
            body, status = self.line, b"200 OK"
        else:
            body, status = b'{"error": "only GET / and GET /seen"}\n', b"404 Not Found"
        return (
            b"HTTP/1.0 "
            + status
            + b"\r\nContent-Type: application/json\r\nContent-Length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body
        )

    def close(self, accepted: socket.socket) -> None:
        self.selector.unregister(accepted)
        del self.connections[accepted]
        accepted.close()

    def drop_idle(self) -> None:
        before = time.monotonic() - IDLE_MOST
        for accepted in [a for a, connection in self.connections.items() if connection.used < before]:
            self.close(accepted)


def main(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        print(f"{USAGE}\n\nAnswers on ports {PORT} and {STREAM_PORT} who it is: see the top of {__file__}.")
        return 0
    keys = arguments[::2]
    if sorted(keys) != ["--address", "--name", "--vpc"] or len(arguments) != 6:
        print(USAGE, file=sys.stderr)
        return 2
    # As the first process of a container it would not end without being told how.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Workload({key[2:]: value for key, value in zip(keys, arguments[1::2], strict=True)}).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
