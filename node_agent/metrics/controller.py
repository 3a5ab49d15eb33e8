"""The figures of a stack's controller: what it sees in the store, and that its loop goes round. Called by `server`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

from node_agent.metrics.figures import Figure, Metric
from node_agent.model.objects import NetworkEndpoint, NetworkHost, NetworkService, Object, Subnet, Vpc
from node_agent.store.base import Store


class Turns:
    """Counts the turns of a loop, as the question "stopped?" that it asks before each."""

    def __init__(self, stopped: Callable[[], bool], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stopped, self._monotonic = stopped, monotonic
        self.number, self.at = 0, monotonic()

    def __call__(self) -> bool:
        self.number += 1
        self.at = self._monotonic()
        return self._stopped()

    @property
    def age(self) -> float:
        """Seconds since the last turn began."""
        return self._monotonic() - self.at


class ControllerFigures:
    """Any thread may ask."""

    def __init__(self, store: Store, turns: Turns, *, wall: Callable[[], float] = time.time) -> None:
        self._store, self._turns, self._wall = store, turns, wall

    def __call__(self) -> list[Metric]:
        """Raises what the store may raise."""
        found: dict[type[Object], list[Object]] = {
            cls: list(self._store.list(cls)) for cls in (Vpc, Subnet, NetworkEndpoint, NetworkService, NetworkHost)
        }
        objects = [obj for group in found.values() for obj in group]
        turning: list[Metric] = [
            Figure("counter", "mizar_controller_turns", "Turns of the loop", (), [((), float(self._turns.number))]),
            Figure("gauge", "mizar_controller_turn_age_seconds", "Since the last turn began", (),
                   [((), self._turns.age)]),
        ]  # fmt: skip
        kinds = {cls.kind: len(group) for cls, group in found.items()}
        return turning + seen(objects, kinds, self._wall())


def seen(objects: Iterable[Object], kinds: dict[str, int], now: float) -> list[Metric]:
    """What the objects say. `kinds`: kind -> number; `now`: seconds since the epoch. Pure."""
    hosts = [obj for obj in objects if isinstance(obj, NetworkHost)]
    vpcs = [obj for obj in objects if isinstance(obj, Vpc)]
    members = Counter((vpc.name, member.state) for vpc in vpcs for member in vpc.status.members)
    deleting = Counter(obj.kind for obj in objects if obj.meta.deleting)
    ages = [((host.name,), max(0.0, now - host.status.heartbeat)) for host in hosts if host.status.heartbeat]
    return [
        _gauge("mizar_objects", "Objects in the store", ("kind",), [((k,), n) for k, n in kinds.items()]),
        _gauge("mizar_objects_deleting", "Objects that are being removed", ("kind",),
               [((k,), deleting[k]) for k in kinds]),
        _gauge("mizar_heartbeat_age_seconds", "Age of a host's heartbeat in the store", ("host",), ages),
        _gauge("mizar_host_ready", "1 when the host's agent says that it is ready", ("host",),
               [((host.name,), host.status.ready) for host in hosts]),
        _gauge("mizar_set_members", "Members of VPC sets", ("vpc", "state"),
               [((vpc.name, state), members[vpc.name, state])
                for vpc in vpcs for state in ("active", "joining", "leaving")]),
    ]  # fmt: skip


def _gauge(name: str, told: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float]]) -> Figure:
    return Figure("gauge", name, told, labels, [(values, float(number)) for values, number in samples])
