"""Real packets from inside endpoints' namespaces: echoes, requests to workloads, questions to name servers.

    answers = run([Request(protocol="tcp", source="/run/netns/...", address="10.0.0.2"), ...])

Up to UNDER_WAY requests are under way at once, driven by one loop of one thread; sockets stay in the namespace that
they were opened in. No process is started and nothing of the agent is asked, so an agent that lies about its health
does not help. Called by `health.gate`, by `health.inside` in pods, the CLI and tests. What an answer means is judged in
`health.assess`.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence

from node_agent.health.answers import Answer, Request
from node_agent.health.echoes import Ping, Ways
from node_agent.health.probe import Probe, Sockets
from node_agent.health.streams import Connect, Dns, Tcp, Udp
from node_agent.kernel import netns
from node_agent.model.errors import MizarError

UNDER_WAY = 500  # requests at once: a process commonly has 1,024 file descriptors
REFUSED_AGAIN = 0.05  # seconds after which a failed connect is repeated: the peer may just be starting


def run(requests: Sequence[Request], first: int | None = None) -> list[Answer]:
    """One answer per request, in their order. Takes at most the longest timeout (for every UNDER_WAY requests), and
    never raises for a peer or a source that is missing: that is a reason. `first`: id of the first echo, which differs
    between runs at one time."""
    numbered = random.getrandbits(16) if first is None else first
    # A thread of its own, as namespaces belong to threads.
    return netns.call_in(None, lambda: _Loop(requests, numbered).run())


class _Loop:
    def __init__(self, requests: Sequence[Request], first: int) -> None:
        self.requests = requests
        self.sockets = Sockets(first)
        self.ways = Ways(self.sockets)

    def run(self) -> list[Answer]:
        answers: dict[int, Answer] = {}
        waiting = iter(enumerate(self.requests))
        active: dict[int, Probe] = {}
        try:
            while True:
                for number, request in itertools.islice(waiting, UNDER_WAY - len(active)):
                    active[number] = self._begin(request)
                if not active:
                    return [answers[number] for number in range(len(self.requests))]
                self._turn(list(active.values()))
                for number in [n for n, probe in active.items() if probe.state.answer]:
                    probe = active.pop(number)
                    probe.close()
                    assert probe.state.answer
                    answers[number] = probe.state.answer
        finally:
            for probe in active.values():
                probe.close()
            self.ways.close()
            self.sockets.selector.close()

    def _turn(self, probes: Sequence[Probe]) -> None:
        """Let every probe act that has something to do, else wait for the first of them."""
        now = time.monotonic()
        acting = [probe for probe in probes if probe.state.due <= now]
        for probe in acting:
            probe.state.due = self._step(probe, now)
        timeout = 0.0 if acting else max(min(probe.state.due for probe in probes) - now, 0.0)
        for key, _ in self.sockets.selector.select(timeout):
            ready: Callable[[], Sequence[Probe]] = key.data
            for probe in ready():
                probe.state.due = 0.0

    def _step(self, probe: Probe, now: float) -> float:
        if now >= probe.state.deadline:
            probe.state.expire()
            return now
        try:
            wake = probe.act(now)
        except (OSError, ValueError) as error:
            cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            probe.state.heard, wake = cause, now + REFUSED_AGAIN
            probe.close()
        except MizarError as error:
            probe.state.finish(str(error))  # the source's namespace is gone: waiting does not help
            return now
        return min(wake, probe.state.deadline)

    def _begin(self, request: Request) -> Probe:
        match request.protocol:
            case "icmp":
                return Ping(request, self.ways)
            case "tcp":
                return Tcp(request, self.sockets)
            case "udp":
                return Udp(request, self.sockets)
            case "dns":
                return Dns(request, self.sockets)
            case "connect":
                return Connect(request, self.sockets)
