"""Rows of a service, on members of its VPC's set: its ports, the table of its backends, and who may stay one. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from node_agent.datapath.layout import (
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
_Address = tuple[str, str]  # of which VPC


def service_rows(service: NetworkService, vpc: Vpc, host: str) -> MapImage:
    """Every port's row with its table and backends, and the row that lets the VIP answer ping.

    The same backends have the same table on every port, so a client that sticks to one does so on all of them.
    """
    vni, vip = vpc.status.vni, number(service.spec.vip)
    if not vni or member(vpc, host) is None:
        return {}
    ready = (backend.address for backend in service.spec.backends if backend.state == "ready")
    slots = [number(address) for address in maglev.table(ready, Limit.MAGLEV_SIZE)]
    flags = ServiceFlag.AFFINITY if service.spec.affinity == "client" else 0
    value = ServiceRow(size=len(slots), flags=flags).pack()
    services = {
        ServiceKey(vni=vni, vip=vip, port=port.port, proto=PROTOCOLS[port.protocol]).pack(): value
        for port in service.spec.ports
    }
    services[ServiceKey(vni=vni, vip=vip, port=0, proto=ICMP).pack()] = ServiceRow().pack()
    tables = {
        MaglevKey(vni=vni, vip=vip, port=port.port, proto=PROTOCOLS[port.protocol], slot=slot).pack(): MaglevRow(
            addr=address, port=port.target_port
        ).pack()
        for port in service.spec.ports
        for slot, address in enumerate(slots)
    }
    backends = merged(_backend_rows(service, vni, vip, port) for port in service.spec.ports)
    return merged(({"services": services, "maglev": tables}, backends))


def _backend_rows(service: NetworkService, vni: int, vip: int, port: ServicePort) -> MapImage:
    """Who may keep its connections, per VIP, and, with VIP 0, that it is a backend of some service at all: that row is
    the same whichever service it comes from, in whatever state the backend is there."""
    rows: dict[bytes, bytes] = {}
    for backend in service.spec.backends:
        address, proto = number(backend.address), PROTOCOLS[port.protocol]
        mine = BackendKey(vni=vni, addr=address, vip=vip, port=port.target_port, vip_port=port.port, proto=proto)
        any_service = BackendKey(vni=vni, addr=address, port=port.target_port, proto=proto)
        rows |= {key.pack(): BackendRow().pack() for key in (mine, any_service)}
    return {"backends": rows}


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

    def peers(self, service: NetworkService) -> set[str]:
        """Names of the services that have rows in common with this one, or with one that gets or loses its VIP."""
        rivals = [self._services[name] for name in self._vips.get(_vip(service), ())]
        return {name for one in (service, *rivals) for index, at in self._of(one) for name in index.get(at, ())}

    def has_vip(self, service: NetworkService) -> bool:
        return service.name == min(self._vips[_vip(service)])

    def _of(self, service: NetworkService) -> list[tuple[dict[_Address, set[str]], _Address]]:
        backends = [(self._backends, (service.spec.vpc, backend.address)) for backend in service.spec.backends]
        return [(self._vips, _vip(service)), *backends]


def _vip(service: NetworkService) -> _Address:
    return service.spec.vpc, service.spec.vip
