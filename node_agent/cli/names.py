"""Names for the numbers in maps, and objects for what a person typed. Called by the commands.

`read` asks the store once; everything else is pure.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from node_agent.cli import kinds
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkEndpoint, NetworkHost, NetworkService, Vpc
from node_agent.model.places import StackPlaces
from node_agent.store.base import Store
from node_agent.store.open import open_store


@dataclass(frozen=True, kw_only=True)
class Names:
    """`vpcs`: VNI -> name. `hosts`: underlay address -> name. `endpoints`: (VNI, address) -> name."""

    vpcs: dict[int, str] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    endpoints: dict[tuple[int, str], str] = field(default_factory=dict)

    def vpc(self, vni: int) -> str:
        """Its name, or its number when the VPC is gone; "-" for 0, which is "before the VPC was known"."""
        return self.vpcs.get(vni, str(vni)) if vni else "-"

    def host(self, address: str) -> str:
        return self.hosts.get(address, address)

    def host_address(self, name: str) -> str:
        """Raises Permanent naming the hosts there are."""
        for address, known in self.hosts.items():
            if known == name:
                return address
        raise Permanent(
            f"find host {name}: there is none; there are {', '.join(sorted(self.hosts.values())) or 'none'}"
        )

    def vni(self, vpc: str) -> int:
        """Raises Permanent naming the VPCs there are."""
        for vni, known in self.vpcs.items():
            if known == vpc:
                return vni
        raise Permanent(f"find VPC {vpc}: there is none; there are {', '.join(sorted(self.vpcs.values())) or 'none'}")


@contextlib.contextmanager
def opened(places: StackPlaces) -> Iterator[Store]:
    """The stack's store for the length of the block: its file, or its cluster."""
    store = open_store(kinds.of(places).store(), create=False)
    try:
        yield store
    finally:
        store.close()


def read(store: Store) -> Names:
    """The names of everything that is in the store now."""
    return Names(
        vpcs={vpc.status.vni: vpc.name for vpc in store.list(Vpc) if vpc.status.vni},
        hosts={host.spec.address: host.name for host in store.list(NetworkHost)},
        endpoints={
            (vni_of(one), one.spec.address): one.spec.workload or one.name for one in store.list(NetworkEndpoint)
        },
    )


def endpoints(places: StackPlaces) -> Sequence[NetworkEndpoint]:
    with opened(places) as store:
        return store.list(NetworkEndpoint)


def endpoint(known: Sequence[NetworkEndpoint], wanted: str) -> NetworkEndpoint:
    """The endpoint with this name, object name or address. Raises Permanent naming those there are."""
    named = {one.spec.workload: one for one in known if one.spec.workload}
    meant = [named[wanted]] if wanted in named else [one for one in known if wanted in (one.name, one.spec.address)]
    if len(meant) != 1:
        what = "there is none" if not meant else f"it is the address of {len(meant)} endpoints"
        raise Permanent(f"find endpoint {wanted}: {what}; there are {', '.join(sorted(named)) or 'none'}")
    return meant[0]


def destination(
    known: Sequence[NetworkEndpoint], services: Sequence[NetworkService], vpc: str, wanted: str
) -> tuple[str, str]:
    """(address, name or "") of what a sender in that VPC means by an endpoint's name, a service's or an address.

    An address and a name are looked up in the sender's VPC first. Raises Permanent.
    """
    for one in known:
        if one.spec.vpc == vpc and wanted in (one.spec.workload, one.name, one.spec.address):
            return one.spec.address, one.spec.workload or one.name
    for service in services:
        if service.spec.vpc == vpc and wanted in (service.name, service.spec.vip):
            return service.spec.vip, service.name
    with contextlib.suppress(ValueError):
        return str(ipaddress.IPv4Address(wanted)), ""
    foreign = [(one.spec.vpc, one.spec.address) for one in known if wanted in (one.spec.workload, one.name)]
    foreign += [(one.spec.vpc, one.spec.vip) for one in services if wanted == one.name]
    if foreign:
        other, address = foreign[0]
        raise Permanent(
            f"find {wanted} in VPC {vpc}: it is in VPC {other}; give its address, {address}, to see what becomes of a "
            f"packet to it in {vpc}"
        )
    there = sorted(one.spec.workload or one.name for one in known if one.spec.vpc == vpc)
    there += sorted(one.name for one in services if one.spec.vpc == vpc)
    raise Permanent(f"find {wanted} in VPC {vpc}: there is none; there are {', '.join(there)}; or give an address")


def vni_of(endpoint: NetworkEndpoint) -> int:
    """The VNI in the object's name."""
    return int(endpoint.name.partition("-")[0])
