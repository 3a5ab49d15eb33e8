"""Hosts of a cluster are its nodes: the controller makes a NetworkHost for each, and removes it after the node.

Why not each agent its own: docs/adr/0009-hosts-from-nodes.md. `steps` is pure; `HostKeeper` does them, between two
turns of the controller's loop. What was on a host whose node is gone has ended with it: its endpoints are released.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from node_agent.controller.log import Log
from node_agent.model.errors import AlreadyExists, Conflict, NotFound, Temporary
from node_agent.model.objects import NetworkEndpoint, NetworkHost, NetworkHostSpec
from node_agent.store.base import Store
from node_agent.store.kubernetes_nodes import Node

GRACE = 40.0
"""Seconds from the end of a node to that of its host. Kubernetes itself waits so long before it removes the pods of a
node that is gone; a node that comes back meanwhile finds everything as it was."""
LOOK = 1.0
"""Seconds between two looks."""


class Source(Protocol):
    """`store.kubernetes_nodes.Nodes`."""

    def nodes(self) -> Mapping[str, Node] | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What to do, and since when each host has had no node. `removals`: hosts whose grace is over."""

    creates: tuple[NetworkHost, ...] = ()
    updates: tuple[tuple[NetworkHost, NetworkHostSpec], ...] = ()
    removals: tuple[NetworkHost, ...] = ()
    missing: Mapping[str, float]


def steps(nodes: Mapping[str, Node], hosts: Collection[NetworkHost], missing: Mapping[str, float], now: float) -> Steps:
    """Pure. `missing`: of the last steps; `now`: seconds of the same clock."""
    known = {host.name: host for host in hosts}
    creates, updates = [], []
    for node in nodes.values():
        host = known.get(node.name)
        if not node.address:
            continue
        if host is None:
            spec = NetworkHostSpec(address=node.address, zone=node.zone)
            creates.append(NetworkHost(name=node.name, spec=spec))
        elif (host.spec.address, host.spec.zone) != (node.address, node.zone):
            updates.append((host, dataclasses.replace(host.spec, address=node.address, zone=node.zone)))
    gone = {name: missing.get(name, now) for name in known if name not in nodes}
    removals = tuple(known[name] for name, since in gone.items() if now - since >= GRACE)
    return Steps(creates=tuple(creates), updates=tuple(updates), removals=removals, missing=gone)


class HostKeeper:
    """`clock`: seconds. One thread: the controller's."""

    def __init__(self, source: Source, store: Store, clock: Callable[[], float], log: Log) -> None:
        self._source, self._store, self._clock, self._log = source, store, clock, log
        self._hosts = store.watch(NetworkHost)
        self._known: dict[str, NetworkHost] = {}
        self._missing: Mapping[str, float] = {}
        self._due = float("-inf")

    def turn(self) -> None:
        """Look, when it is time, and do what is due. What fails is tried again."""
        now = self._clock()
        if now < self._due <= now + LOOK:
            return
        self._due = now + LOOK
        try:
            self._turn(now)
        except Temporary:
            pass  # the controller's own loop says what is wrong with the store
        except (Conflict, NotFound, AlreadyExists) as error:
            self._log.say("write refused, reading again", "info", cause=str(error))

    def close(self) -> None:
        self._hosts.close()
        self._source.close()

    def _turn(self, now: float) -> None:
        for event in self._hosts.poll():
            self._known.pop(event.object.name, None)
            if event.type == "put" and isinstance(event.object, NetworkHost):
                self._known[event.object.name] = event.object
        nodes = self._source.nodes()
        if nodes is None:
            return
        due = steps(nodes, self._known.values(), self._missing, now)
        self._missing = due.missing
        for host in due.creates:
            self._store.create(host)
            self._log.say("host made of its node", host=host.name, address=host.spec.address)
        for host, spec in due.updates:
            self._store.put_spec(NetworkHost, host.name, spec)
            self._log.say("host follows its node", host=host.name, address=spec.address, zone=spec.zone)
        for host in due.removals:
            self._remove(host)

    def _remove(self, host: NetworkHost) -> None:
        for endpoint in self._store.list(NetworkEndpoint, {"spec.host": host.name}):
            self._store.delete(NetworkEndpoint, endpoint.name, uid=endpoint.meta.uid)
        # Last: from now on the controller lifts the finalizers that this host's agent will not.
        self._store.delete(NetworkHost, host.name, uid=host.meta.uid)
        self._log.say("host removed after its node", host=host.name)
