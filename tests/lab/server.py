"""A program that serves in a namespace, in threads of the test: TCP and UDP on one port."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

from node_agent.kernel import netns

NAME_BYTES = 8


class Server:
    """Returns every byte and datagram. With a `name` it says that first to who connects, filled up to 8 bytes, and in
    place of every datagram. `peers`: who spoke to it; `accepted`: connections, by the client's port."""

    def __init__(self, where: Path, port: int, name: str = "") -> None:
        self.name = name
        self.peers: set[tuple[str, int]] = set()
        self.accepted: dict[int, socket.socket] = {}
        with netns.enter(where):
            self._stream = socket.create_server(("0.0.0.0", port), backlog=512)
            self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind(("0.0.0.0", port))
        for work in (self._accept, self._return):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        for sock in (self._stream, self._datagrams):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, sender = self._stream.accept()
                self.peers.add(sender)
                self.accepted[sender[1]] = peer
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            if self.name:
                peer.sendall(self.name.encode().ljust(NAME_BYTES))
            while data := peer.recv(1 << 16):
                peer.sendall(data)

    def _return(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, sender = self._datagrams.recvfrom(1 << 16)
                if sender is None:
                    return  # it was shut
                self.peers.add(sender)
                self._datagrams.sendto(self.name.encode() or data, sender)
