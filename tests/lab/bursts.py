"""Many first packets at once, counted at their receivers. Used by tests here and in tests/soak.

A packet that the rig itself dropped, before any program of ours saw it, is told apart: that is nobody's fault.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node_agent.emulation import hosts
from node_agent.kernel import netns
from tests.lab import traffic
from tests.lab.frames import SINK, ethernet, ip, raw, udp
from tests.lab.network import Network, Pod

Sending = tuple[Pod, str, int]  # from whom, to which address, from which port
TRIES = 5


@dataclass(frozen=True)
class Burst:
    """`seconds`: that sending took. `arrived`: different packets at the receivers. `drops`: before and after, as
    Network.drops tells."""

    seconds: float
    arrived: int
    drops: str


def ways(pods: Sequence[Pod], targets: Sequence[str], number: int, *, port: int) -> list[Sending]:
    """So many different flows, from each pod to each target in turn; source ports from `port` on."""
    pairs = [(pod, target) for pod in pods for target in targets if target != pod.address]
    return [(*pairs[n % len(pairs)], port + n // len(pairs)) for n in range(number)]


def send(network: Network, receivers: Sequence[Pod], packets: Sequence[Sending]) -> Burst:
    """Send each as one packet, the first of its flow; again from other ports where the rig dropped any."""
    span = 1 + max(port for _, _, port in packets) - min(port for _, _, port in packets)
    for number in range(TRIES):
        lost = _dropped_by_the_rig(network)
        found = _send(network, receivers, [(pod, target, port + number * span) for pod, target, port in packets])
        lost = _dropped_by_the_rig(network) - lost
        if not lost:
            return found
        print(f"\nthe kernel dropped {lost} packets before any program of ours saw them: once more")
    raise AssertionError(f"the rig's fault: it dropped packets in each of {TRIES} tries")


def _send(network: Network, receivers: Sequence[Pod], packets: Sequence[Sending]) -> Burst:
    frames = [
        (pod.name, ethernet(pod.mac, 0x0800) + ip(pod.address, target, udp(b"%08d" % number, sport)))
        for number, (pod, target, sport) in enumerate(packets)
    ]
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(traffic.udp_socket(pod.netns, SINK)) for pod in receivers]
        senders = {pod.name: pod for pod, _, _ in packets}.values()
        sockets = {pod.name: stack.enter_context(contextlib.closing(raw(pod.netns))) for pod in senders}
        for sink in sinks:
            sink.setblocking(False)
        drops = network.drops()
        began = time.monotonic()
        for name, frame in frames:
            sockets[name].send(frame)
        took, seen = time.monotonic() - began, set[bytes]()

        def all_here() -> bool:
            for sink in sinks:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        seen.add(sink.recv(100))
            return len(seen) == len(packets)

        end = time.monotonic() + traffic.ANSWER
        while not all_here() and time.monotonic() < end:
            time.sleep(0.01)
        return Burst(took, len(seen), f"before {drops}, after {network.drops()}")


def _dropped_by_the_rig(network: Network) -> int:
    """Packets that the kernel dropped before any program of ours: full backlogs, and queues of the hosts' devices."""
    backlog = sum(int(line.split()[1], 16) for line in Path("/proc/net/softnet_stat").read_text().splitlines())
    for host in network.hosts:
        with netns.enter(network.places.netns_path(host)):
            rows = [line.split() for line in Path("/proc/thread-self/net/dev").read_text().splitlines() if ":" in line]
        backlog += sum(int(row[4]) + int(row[12]) for row in rows if row[0].startswith(hosts.UPLINK))
    return backlog
