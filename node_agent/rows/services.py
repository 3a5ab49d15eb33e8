"""Rows of a service, on members of its VPC's set: its ports, the table of its backends, and who may stay one. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from node_agent.datapath.layout import (
    BackendFlag,
    BackendKey,
    BackendRow,
    Limit,
    MaglevKey,
    MaglevRow,
    ServiceFlag,
    ServiceKey,
    ServiceRow,
)
from node_agent.model.objects import NetworkService, ServicePort, Vpc
from node_agent.rows import maglev
from node_agent.rows.image import MapImage, merged, number
from node_agent.rows.vpcs import member

ICMP = 1
PROTOCOLS = {"tcp": 6, "udp": 17}
SHARED = "backends"
"""The map of which one row may be of several services."""
_Address = tuple[str, str]  # of which VPC


def service_rows(service: NetworkService, vpc: Vpc, host: str) -> MapImage:
    """Every port's row with its table and backends, and the row that lets the VIP answer ping.

    Ports with the same backends have the same table, so a client that sticks to one does so on all of them.
    """
    vni, vip = vpc.status.vni, number(service.spec.vip)
    if not vni or member(vpc, host) is None:
        return {}
    flags, outside = ServiceFlag.AFFINITY if service.spec.affinity == "client" else 0, _outside(service)
    services = {ServiceKey(vni=vni, vip=vip, port=0, proto=ICMP).pack(): ServiceRow().pack()}
    tables: dict[bytes, bytes] = {}
    made: dict[frozenset[str], tuple[str, ...]] = {}  # backends -> their table
    for port in service.spec.ports:
        proto, targets = PROTOCOLS[port.protocol], _targets(service, port)
        ready = frozenset(
            each.address for each in service.spec.backends if each.state == "ready" and each.address in targets
        )
        if ready not in made:
            made[ready] = maglev.table(ready, Limit.MAGLEV_SIZE)
        key = ServiceKey(vni=vni, vip=vip, port=port.port, proto=proto)
        services[key.pack()] = ServiceRow(size=len(made[ready]), flags=flags).pack()
        rows = {
            address: MaglevRow(addr=number(address), port=targets[address], flags=outside.get(address, 0)).pack()
            for address in ready
        }
        tables |= {
            MaglevKey(vni=vni, vip=vip, port=port.port, proto=proto, slot=slot).pack(): rows[address]
            for slot, address in enumerate(made[ready])
        }
    backends = merged(_backend_rows(service, vni, vip, port) for port in service.spec.ports)
    return merged(({"services": services, "maglev": tables}, backends))


def _outside(service: NetworkService) -> dict[str, int]:
    """Address -> flag, of the backends that are outside of every VPC."""
    return {backend.address: BackendFlag.EGRESS for backend in service.spec.backends if backend.egress}


def _targets(service: NetworkService, port: ServicePort) -> dict[str, int]:
    """Address -> where the port arrives there, of the backends that have it."""
    found = {backend.address: port.target_port for backend in service.spec.backends if not backend.ports}
    for backend in service.spec.backends:
        own = {(each.protocol, each.port): each.target_port for each in backend.ports}
        if target := own.get((port.protocol, port.port)):
            found[backend.address] = target
    return found


def _backend_rows(service: NetworkService, vni: int, vip: int, port: ServicePort) -> MapImage:
    """Who may keep its connections, per VIP, and, with VIP 0, that it is a backend of some service at all: that row is
    the same whichever service it comes from, in whatever state the backend is there. One that is outside of the VPC has
    no such row: its address may be an endpoint's in here."""
    rows: dict[bytes, bytes] = {}
    proto, outside = PROTOCOLS[port.protocol], _outside(service)
    for text, target in _targets(service, port).items():
        address = number(text)
        mine = BackendKey(vni=vni, addr=address, vip=vip, port=target, vip_port=port.port, proto=proto)
        rows[mine.pack()] = BackendRow(flags=outside.get(text, 0)).pack()
        if text not in outside:
            rows[BackendKey(vni=vni, addr=address, port=target, proto=proto).pack()] = BackendRow().pack()
    return {SHARED: rows}


class Claims:
    """Who names which address, as VIP or as backend, while services come and go: rows that two of them share.

    A VIP should have one service; when two claim it (one is being renamed), the first by name has it.
    """

    def __init__(self, services: Iterable[NetworkService] = ()) -> None:
        self._services: dict[str, NetworkService] = {}
        self._vips: dict[_Address, set[str]] = {}
        self._backends: dict[_Address, set[str]] = {}
        for service in services:
            self.add(service)

    def add(self, service: NetworkService) -> None:
        self._services[service.name] = service
        for index, address in self._of(service):
            index.setdefault(address, set()).add(service.name)

    def remove(self, service: NetworkService) -> None:
        self._services.pop(service.name, None)
        for index, address in self._of(service):
            names = index.get(address, set())
            names.discard(service.name)
            if not names:
                index.pop(address, None)

    def rivals(self, service: NetworkService) -> set[str]:
        """Names of the services of its VIP: whichever comes or goes, another may get or lose it."""
        return set(self._vips.get(_vip(service), ()))

    def peers(self, service: NetworkService) -> set[str]:
        """Names of the services that have a backend in common with this one, or with a rival."""
        known = [self._services[name] for name in self.rivals(service)]
        return {name for one in (service, *known) for at in _backends(one) for name in self._backends.get(at, ())}

    def has_vip(self, service: NetworkService) -> bool:
        return service.name == min(self._vips[_vip(service)])

    def _of(self, service: NetworkService) -> list[tuple[dict[_Address, set[str]], _Address]]:
        return [(self._vips, _vip(service)), *((self._backends, address) for address in _backends(service))]


def _vip(service: NetworkService) -> _Address:
    return service.spec.vpc, service.spec.vip


def _backends(service: NetworkService) -> list[_Address]:
    return [(service.spec.vpc, backend.address) for backend in service.spec.backends]
