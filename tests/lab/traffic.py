"""Packets that tests send from inside endpoints' namespaces: one at a time and exactly counted, or as a load.

Nothing here repeats a packet: what is lost stays lost, and shows.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from node_agent.kernel import netns
from tests.waiting import until

PORT, STREAM_PORT = 8080, 8081
ANSWER = 3.0  # seconds to wait for an answer
GOES_ON = 30.0  # seconds; a bound for a loaded machine, nothing is measured by it
INTERVAL = 0.01  # seconds between two packets of a load
SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103
TOTAL_RETRANS = 100  # offset in struct tcp_info
DSACK_DUPS = 216  # likewise, of tcpi_dsack_dups


# The kernel (which picks from 32768 on) would pick a port again soon, and its flow would be an old one.
_ports = itertools.cycle(range(10000, 32768))


def udp_socket(where: Path, port: int = 0) -> socket.socket:
    """A datagram socket of that namespace, bound to the port (0: one that no test used before)."""
    with netns.enter(where):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    sock.bind(("0.0.0.0", port or next(_ports)))
    sock.settimeout(ANSWER)
    return sock


def tcp_socket(where: Path) -> socket.socket:
    with netns.enter(where):
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)


def listens(where: Path, port: int = PORT) -> bool:
    """Whether something in that namespace listens on the TCP port, asked over its loopback."""
    with contextlib.suppress(OSError), tcp_socket(where) as sock:
        sock.settimeout(1.0)
        sock.connect(("127.0.0.1", port))
        return True
    return False


def ask(sock: socket.socket, address: str) -> dict[str, Any]:
    """The workload's answer to one datagram. Raises TimeoutError when either of the two packets is lost."""
    sock.sendto(b"who?\n", (address, PORT))
    return dict(json.loads(sock.recv(4096)))


def ask_once(where: Path, address: str) -> dict[str, Any]:
    """As `ask`, as a flow of its own."""
    with udp_socket(where) as sock:
        return ask(sock, address)


def connect(where: Path, address: str, port: int = STREAM_PORT) -> socket.socket:
    """A TCP connection, from a port that no test used before. Raises OSError."""
    sock = tcp_socket(where)
    try:
        sock.bind(("0.0.0.0", next(_ports)))
        sock.settimeout(ANSWER)
        sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def retransmitted(sock: socket.socket) -> int:
    """Segments that this end sent more than once."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return int(struct.unpack_from("=I", info, TOTAL_RETRANS)[0])


def lost(sock: socket.socket, within: float = 1.0) -> int:
    """Segments that this end sent more than once because the first never arrived: those that the other end got twice
    (RFC 2883) were only overtaken. Its word on them may come late: waits for it so many seconds."""
    end = time.monotonic() + within
    while True:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        missing = struct.unpack_from("=I", info, TOTAL_RETRANS)[0] - struct.unpack_from("=I", info, DSACK_DUPS)[0]
        if missing <= 0 or time.monotonic() > end:
            return int(missing)
        time.sleep(0.01)


def echo(sock: socket.socket, data: bytes) -> bytes:
    """What comes back over a stream connection for this data."""
    got = bytearray()
    with contextlib.suppress(OSError):
        writer = threading.Thread(target=_write, args=(sock, data))
        writer.start()
        while len(got) < len(data) and (part := sock.recv(1 << 17)):
            got += part
        writer.join()
    return bytes(got)


def _write(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)


class Load:
    """A thread in a namespace that sends every INTERVAL until it is stopped."""

    def __init__(self, where: Path, address: str) -> None:
        self.where, self.address = where, address
        self.sent = self.received = 0
        self.error = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def halt(self) -> None:
        """Send no more."""
        self._stop.set()

    def stop(self) -> None:
        """Send no more; returns once every answer is here, or had time enough."""
        self.halt()
        self._thread.join(ANSWER + 2)

    @property
    def lost(self) -> int:
        return self.sent - self.received

    def _run(self) -> None:
        try:
            with netns.enter(self.where):
                self.work()
        except OSError as error:
            self.error = f"{type(error).__name__}: {error}"

    def work(self) -> None:
        raise NotImplementedError

    def ticks(self) -> Iterator[float]:
        """The time of every packet to send (time.monotonic), while the load goes on."""
        due = time.monotonic()
        while not self._stop.is_set():
            yield due
            due += INTERVAL


class Probe(Load):
    """Datagrams to a workload. `fresh`: each from a port of its own, so each is a first packet."""

    def __init__(self, where: Path, address: str, *, fresh: bool) -> None:
        self.fresh = fresh
        super().__init__(where, address)

    def work(self) -> None:
        with selectors.DefaultSelector() as self.selector:
            steady = None if self.fresh else self._open()
            for due in self.ticks():
                self._receive(due)
                (steady or self._open()).send(b"who?\n")
                self.sent += 1
            end = time.monotonic() + ANSWER
            while self.lost > 0 and time.monotonic() < end:
                self._receive(time.monotonic() + INTERVAL)
            for key in list(self.selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]

    def _open(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect((self.address, PORT))
        self.selector.register(sock, selectors.EVENT_READ)
        return sock

    def _receive(self, end: float) -> None:
        while (left := end - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                sock.recv(4096)
                self.received += 1
                if self.fresh:
                    self.selector.unregister(sock)
                    sock.close()


class Stream(Load):
    """A TCP connection to a workload's echo; `sent` and `received` in bytes. A byte that comes back as another is an
    error, as is a reset."""

    BLOCK = 8192

    def work(self) -> None:
        with contextlib.closing(connect(self.where, self.address)) as sock:
            for due in self.ticks():
                self._receive(sock, due)
                if self.lost < 64 * self.BLOCK:
                    sock.settimeout(ANSWER)  # not what was left of the last wait: a slow peer is no error
                    sock.sendall(pattern(self.sent, self.BLOCK))
                    self.sent += self.BLOCK
            end = time.monotonic() + ANSWER
            while self.lost > 0 and time.monotonic() < end:
                self._receive(sock, time.monotonic() + INTERVAL)

    def _receive(self, sock: socket.socket, end: float) -> None:
        while (left := end - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                got = sock.recv(1 << 16)
            except TimeoutError:
                return
            if not got:
                raise ConnectionError(f"closed after {self.received} bytes")
            if got != pattern(self.received, len(got)):
                raise ConnectionError(f"wrong bytes behind byte {self.received}")
            self.received += len(got)


def go_on(loads: Sequence[Load], number: int = 15) -> None:
    """Every load has sent so many times more, and has answers to it."""
    for load in loads:
        goal = load.received + number * (Stream.BLOCK if isinstance(load, Stream) else 1)
        until(lambda load=load, goal=goal: load.received >= goal or load.error, GOES_ON, f"{load}: {vars(load)}")


_NUMBERS = b"".join(number.to_bytes(4, "big") for number in range(1 << 14))


def pattern(start: int, length: int) -> bytes:
    """Bytes start .. start + length of the stream that every Stream sends."""
    at = start % len(_NUMBERS)
    return (_NUMBERS + _NUMBERS)[at : at + length]
