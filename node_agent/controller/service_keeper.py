"""Keeps the NetworkServices of a cluster's Services: reads what changed, judges whom it concerns, writes what differs.

Turned by `__main__` between two turns of the controller's loop. What to make of a service is `services.judge`'s to say;
here stands who has to be judged again. A verdict names all that it depends on, and only those of whom something changed
are looked at: the cost of a change does not grow with the number of services. Nothing is remembered that a restart
would lose: what was made is known by its `source`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol, TypeVar

from node_agent.controller import conditions
from node_agent.controller.log import Log
from node_agent.controller.services import (
    ADDRESS,
    EVERY_VPC,
    NAMESPACE,
    OBJECT,
    SUBNET,
    VPC,
    WORKLOAD,
    Key,
    Network,
    Verdict,
    judge,
    steps,
)
from node_agent.model.config import ControllerConfig
from node_agent.model.errors import AlreadyExists, Conflict, MizarError, NotFound, Permanent, Temporary
from node_agent.model.objects import NetworkEndpoint, NetworkService, Subnet, Vpc
from node_agent.model.wishes import Wish
from node_agent.store.base import Store
from node_agent.store.kubernetes_services import News, Service, Slice

K = TypeVar("K")
T = TypeVar("T")

REST = 1.0
"""Seconds without a try after one that failed."""
SPELL = 0.25
"""Seconds that one turn may take where there is more to do: the rest of the controller has its turns too."""
PATIENCE = 5.0
"""Seconds that something must be wrong before it is told: what comes up at once is seen in no particular order."""


class Source(Protocol):
    """`store.kubernetes_services.Services`."""

    def take(self) -> News | None: ...

    def tell(self, service: Service, message: str) -> None: ...

    def close(self) -> None: ...


class ServiceKeeper:
    """`clock`: seconds since the epoch. One thread: the controller's."""

    def __init__(
        self, source: Source, store: Store, config: ControllerConfig, clock: Callable[[], float], log: Log
    ) -> None:
        self._source, self._store, self._clock, self._log = source, store, clock, log
        self._kinds = (Vpc, Subnet, NetworkEndpoint, NetworkService)
        self._watches = [store.watch(kind) for kind in self._kinds]
        self._synced = False
        self._rest = float("-inf")
        # What services are judged by.
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, Slice]] = {}  # of a service
        self._service_of: dict[str, str] = {}  # of a slice
        self._namespaces: dict[str, Wish] = {}
        self._vpcs: dict[str, Vpc] = {}
        self._subnets: dict[str, str] = {}
        self._endpoints: dict[str, NetworkEndpoint] = {}
        self._workloads: dict[str, dict[str, NetworkEndpoint]] = {}
        self._addresses: dict[tuple[str, str], str] = {}
        self._network = Network(
            namespaces=self._namespaces,
            vpcs=self._vpcs,
            subnets=self._subnets,
            workloads=self._workloads,
            addresses=self._addresses,
            default=Wish(whose="default of the controller", vpc=config.vpc, subnet=config.subnet),
            listed=frozenset(config.listed),
        )
        # What was made of them, and who has to be looked at when something changes.
        self._known: dict[str, NetworkService] = {}
        self._made: dict[str, dict[str, NetworkService]] = {}  # of a service, by name
        self._depends: dict[str, frozenset[Key]] = {}
        self._concerned: dict[Key, dict[str, None]] = {}
        self._dirty: dict[str, None] = {}
        self._said: dict[str, tuple[str, ...]] = {}
        self._untold: dict[str, float] = {}  # since when
        self._meant: dict[str, set[str]] = {}  # of a service, what was said already

    def turn(self) -> None:
        """Take in what changed and do what is due. What fails is tried again."""
        now = self._clock()
        if now < self._rest <= now + REST:
            return
        try:
            self._read()
            if self._synced:
                self._work(now)
        except Temporary:
            self._rest = now + REST  # the controller's own loop says what is wrong with the store
        self._tell(now)

    def close(self) -> None:
        for watch in self._watches:
            watch.close()
        self._source.close()

    # --- what changed, and for whom ---

    def _read(self) -> None:
        for watch in self._watches:
            for event in watch.poll():
                obj = event.object
                self._note(obj.kind, obj.name, obj if event.type == "put" else None)
        news = self._source.take()
        if news is None:
            return
        self._synced = True  # all watches have told what there is
        for name, wish in news.namespaces.items():
            _put(self._namespaces, name, wish)
            self._touch((NAMESPACE, name))
        for key, service in news.services.items():
            _put(self._services, key, service)
            self._dirty[key] = None
        for key, each in news.slices.items():
            before = self._service_of.pop(key, "")
            if before:
                _drop(self._slices, before, key)
                self._dirty[before] = None
            if each is not None:
                self._service_of[key] = each.service
                self._slices.setdefault(each.service, {})[key] = each
                self._dirty[each.service] = None

    def _note(self, kind: str, name: str, obj: object) -> None:
        """An object of ours as it is now, None: it is gone."""
        if kind == Vpc.kind:
            before = self._vpcs.get(name)
            now = obj if isinstance(obj, Vpc) else None
            _put(self._vpcs, name, now)
            if (before and before.meta.deleting) != (now and now.meta.deleting):
                self._touch((VPC, name), EVERY_VPC)
        elif kind == Subnet.kind:
            _put(self._subnets, name, obj.spec.vpc if isinstance(obj, Subnet) else None)
            self._touch((SUBNET, name))
        elif kind == NetworkEndpoint.kind:
            self._note_endpoint(name, obj if isinstance(obj, NetworkEndpoint) else None)
        else:
            self._note_service(name, obj if isinstance(obj, NetworkService) else None)

    def _note_endpoint(self, name: str, now: NetworkEndpoint | None) -> None:
        before = self._endpoints.get(name)
        if before and now and (before.spec, before.meta.deleting) == (now.spec, now.meta.deleting):
            return  # who holds it is nothing to services
        _put(self._endpoints, name, now)
        for each in (before, now):
            if each is None:
                continue
            own, address = each.spec, (each.spec.vpc, each.spec.address)
            if each is now:
                self._workloads.setdefault(own.workload, {})[name] = each
                self._addresses[address] = name
            else:
                _drop(self._workloads, own.workload, name)
                if self._addresses.get(address) == name:
                    del self._addresses[address]
            self._touch((WORKLOAD, own.workload), (ADDRESS, "/".join(address)))

    def _note_service(self, name: str, now: NetworkService | None) -> None:
        before = self._known.get(name)
        _put(self._known, name, now)
        if before and before.spec.source:
            _drop(self._made, before.spec.source, name)
        if now and now.spec.source:
            self._made.setdefault(now.spec.source, {})[name] = now
            self._dirty[now.spec.source] = None
        self._touch((OBJECT, name))

    def _touch(self, *keys: Key) -> None:
        for key in keys:
            self._dirty |= dict.fromkeys(self._concerned.get(key, ()))

    # --- what is to be done ---

    def _work(self, now: float) -> None:
        for source in list(self._dirty):
            try:
                self._settle(source, now)
            except (Conflict, NotFound, AlreadyExists) as error:  # somebody was quicker: its watch will tell
                self._rest = now + REST
                self._log.say("write refused, reading again", "info", cause=str(error))
                continue
            except Permanent as error:
                self._log.say("service refused", "error", service=source, cause=str(error))
            del self._dirty[source]
            if self._clock() - now > SPELL:
                break

    def _settle(self, source: str, now: float) -> None:
        """One service made as it should be. Raises the store's errors."""
        service, had = self._services.get(source), self._made.get(source, {})
        slices = self._slices.get(source, {}).values()
        verdict = judge(service, slices, self._network, had.values()) if service else Verdict()
        self._depend(source, verdict.depends | {(OBJECT, name) for name in verdict.specs})
        known = {name: self._known[name] for name in verdict.specs if name in self._known}
        due = steps(verdict.specs, source, {**had, **known})
        said = (*verdict.said, *(f"service {name} is somebody else's, and left alone" for name in due.foreign))
        self._say(source, said if service else (), now)
        self._mention(source, verdict.meant, forget=service is None)
        kept = dict(had)
        for each in due.creates:
            kept[each.name] = self._store.create(each)
            self._log.say("service made", service=each.name, vip=each.spec.vip)
        for found, spec in due.updates:
            version = found.meta.resource_version
            kept[found.name] = self._store.put_spec(NetworkService, found.name, spec, resource_version=version)
        for found in due.removals:
            self._store.delete(NetworkService, found.name, uid=found.meta.uid)
            self._log.say("service removed", service=found.name)
            del kept[found.name]
        for each in kept.values():
            self._judge_made(each, (*said, *verdict.meant))

    def _judge_made(self, service: NetworkService, said: Iterable[str]) -> None:
        """Say in its status how it is."""
        found = conditions.of_service(service, said, self._clock())
        status = replace(service.status, observed_generation=service.meta.generation, conditions=found)
        if status != service.status:
            self._store.put_status(NetworkService, service.name, status, uid=service.meta.uid)

    def _depend(self, source: str, keys: frozenset[Key]) -> None:
        before = self._depends.pop(source, frozenset())
        for key in before - keys:
            _drop(self._concerned, key, source)
        for key in keys - before:
            self._concerned.setdefault(key, {})[source] = None
        if keys:
            self._depends[source] = keys

    # --- what is said ---

    def _say(self, source: str, said: tuple[str, ...], now: float) -> None:
        if said == self._said.get(source, ()):
            return
        self._untold.pop(source, None)
        if said:
            self._said[source] = said
            self._untold[source] = now
        else:
            del self._said[source]

    def _mention(self, source: str, meant: Iterable[str], *, forget: bool) -> None:
        """In the log, each phrase once, however often the pods of the service come and go."""
        if forget:
            self._meant.pop(source, None)
        for phrase in meant:
            known = self._meant.setdefault(source, set())
            if phrase not in known:
                known.add(phrase)
                self._log.say("service in part", service=source, cause=phrase)

    def _tell(self, now: float) -> None:
        """What has been wrong for a while: in the log, and among the events of the service."""
        for source in [each for each, since in self._untold.items() if not since <= now < since + PATIENCE]:
            del self._untold[source]
            message = "; ".join(self._said[source])
            self._log.say("service is not as asked", "warning", service=source, cause=message)
            if service := self._services.get(source):
                try:
                    self._source.tell(service, message)
                except MizarError as error:
                    self._log.say("event not told", "info", service=source, cause=str(error))


def _put(known: dict[str, T], key: str, now: T | None) -> None:
    if now is None:
        known.pop(key, None)
    else:
        known[key] = now


def _drop(index: dict[K, dict[str, T]], key: K, name: str) -> None:
    """Takes a name from an index, which keeps no empty places."""
    names = index.get(key, {})
    names.pop(name, None)
    if not names:
        index.pop(key, None)
