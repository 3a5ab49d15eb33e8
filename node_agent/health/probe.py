"""What every kind of probe has: a request with its clock, and its run's sockets. Used by `probes` and the kinds."""

from __future__ import annotations

import itertools
import selectors
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from node_agent.health.answers import Answer, Request
from node_agent.kernel import netns

AGAIN = 0.25  # seconds after which an unanswered echo or datagram is repeated
ANSWER_MOST = 65536  # bytes


class Probe(Protocol):
    """One request under way. `act` does what is due and says when it wants to be called again (monotonic time)."""

    state: State

    def act(self, now: float) -> float: ...

    def close(self) -> None: ...


class State:
    """What all probes keep: the request, its clock, and the last reason heard why it is not answered."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.began = time.monotonic()
        self.sent = self.received = 0
        self.heard = ""
        self.due = 0.0  # monotonic time of the next step
        self.answer: Answer | None = None

    @property
    def deadline(self) -> float:
        return self.began + self.request.timeout

    def finish(self, reason: str = "", identity: Mapping[str, str] | None = None, port: int = 0) -> None:
        self.answer = Answer(
            reason=reason,
            sent=self.sent,
            received=self.received,
            identity=identity,
            port=port,
            seconds=time.monotonic() - self.began,
        )

    def expire(self) -> None:
        waited = f"no answer within {self.request.timeout:g} s"
        if self.request.protocol == "icmp":
            waited = f"{self.received} of {self.request.count} echoes answered within {self.request.timeout:g} s"
        self.finish(f"{waited}: {self.heard}" if self.heard else waited)


class Sockets:
    """Of one run. The selector's data is a function that says which probes can go on. `first`: id of the first echo."""

    def __init__(self, first: int) -> None:
        self.selector = selectors.DefaultSelector()
        # Of echoes. No two of a run are alike, also of different namespaces: two ends that ping each other with one id
        # share a flow, and each finds in its host's table what it learned from the other's.
        self.numbers = itertools.count(first)

    def open(self, source: str, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        """A non-blocking socket of that namespace. Raises MizarError (no such namespace), OSError."""
        with netns.enter(Path(source) if source else None):
            return socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK, protocol)
