"""How many clusters tests have at a time, in all runs of this computer: kubelets and runtimes need inotify instances,
of which a user has few (128 by default) where set-up may not allow more. Used by whatever makes a cluster."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from node_agent.kernel.limits import INOTIFY
from tests.waiting import until

OF_A_CLUSTER = 45  # inotify instances, at most: a control plane and three nodes
SPARE = 20  # for all the rest
PATIENCE = 3600.0  # seconds; the other clusters' tests go on meanwhile

_held: list[socket.socket] = []


@contextlib.contextmanager
def for_a_cluster() -> Iterator[None]:
    """Wait for room for one cluster more. A test that makes a second one beside its own does not wait for itself."""
    if _held:
        yield
        return
    number = max(1, (int(INOTIFY.read_text()) - SPARE) // OF_A_CLUSTER)
    with until(lambda: _free(number), PATIENCE, "room for a cluster", pause=0.2) as slot:
        _held.append(slot)
        try:
            yield
        finally:
            _held.remove(slot)


def _free(number: int) -> socket.socket | None:
    """A name that only one process can have: it leaves no file, and ends with its process."""
    for n in range(number):
        slot = socket.socket(socket.AF_UNIX)
        try:
            slot.bind(f"\0mizar-test-cluster-{n}")
        except OSError:
            slot.close()
        else:
            return slot
    return None
