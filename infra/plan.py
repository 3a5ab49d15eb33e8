"""What will exist, decided before anything is made. Pure: Settings -> Plan.

Called by `infra.program` and by the renderers; components take parts of it and decide nothing themselves. Adding hosts
or appending endpoints does not change the address, host or name of what was there (limits: `infra.addressing`); an
endpoint that names no host goes round robin, so it may move when hosts are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from infra import addressing, rules
from infra.wanted import EndpointSettings, ServiceSettings, Settings, VpcSettings
from node_agent.model.addresses import Usable, gateway
from node_agent.model.config import UplinkMode
from node_agent.model.objects import Affinity, ServicePort
from node_agent.model.places import StackPlaces

CONTROL = "control-1"


@dataclass(frozen=True, kw_only=True)
class HostPlan:
    """`address`: underlay IPv4; `prefix`: length of the underlay prefix; `netns`: name below /run/netns."""

    name: str
    address: str
    prefix: int
    netns: str


@dataclass(frozen=True, kw_only=True)
class VpcPlan:
    name: str
    cidr: str
    set_size: int
    bouncers: int
    host_reachable: bool = False


@dataclass(frozen=True, kw_only=True)
class SubnetPlan:
    name: str
    vpc: str
    cidr: str
    gateway: str


@dataclass(frozen=True, kw_only=True)
class EndpointPlan:
    name: str
    vpc: str
    subnet: str
    address: str
    host: str
    netns: str


@dataclass(frozen=True, kw_only=True)
class BackendPlan:
    """An endpoint behind a service."""

    name: str
    address: str


@dataclass(frozen=True, kw_only=True)
class ServicePlan:
    name: str
    vpc: str
    vip: str
    affinity: Affinity
    ports: tuple[ServicePort, ...]
    backends: tuple[BackendPlan, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stack, whole. `control`: the host of a cluster's control plane, where there is a cluster. MTUs in bytes."""

    stack_id: str
    control: HostPlan
    underlay: str
    mtu: int
    mode: UplinkMode
    flow_entries: int
    health_seconds: int
    hosts: tuple[HostPlan, ...]
    vpcs: tuple[VpcPlan, ...]
    subnets: tuple[SubnetPlan, ...]
    endpoints: tuple[EndpointPlan, ...]
    services: tuple[ServicePlan, ...]

    @property
    def places(self) -> StackPlaces:
        return StackPlaces(self.stack_id)


def make(settings: Settings, identity: str) -> Plan:
    """The plan of checked settings for the stack with this id."""
    places = StackPlaces(identity)
    names = rules.host_names(settings)
    endpoints = [endpoint for vpc in settings.vpcs for endpoint in _endpoints(settings, vpc, names, places)]

    def host(name: str, number: int) -> HostPlan:
        return HostPlan(
            name=name,
            address=str(addressing.host_address(settings.underlay, number)),
            prefix=settings.underlay.prefixlen,
            netns=places.netns(name),
        )

    return Plan(
        stack_id=identity,
        control=host(CONTROL, 0),
        underlay=str(settings.underlay),
        mtu=settings.mtu,
        mode=settings.mode,
        flow_entries=settings.flow_entries,
        health_seconds=settings.health_seconds,
        hosts=tuple(host(name, number) for number, name in enumerate(names, start=1)),
        vpcs=tuple(
            VpcPlan(
                name=vpc.name,
                cidr=str(vpc.cidr),
                set_size=vpc.set_size,
                bouncers=vpc.bouncers,
                host_reachable=vpc.host_reachable,
            )
            for vpc in settings.vpcs
        ),
        subnets=tuple(
            SubnetPlan(name=subnet.name, vpc=vpc.name, cidr=str(subnet.cidr), gateway=gateway(str(subnet.cidr)))
            for vpc in settings.vpcs
            for subnet in vpc.subnets
        ),
        endpoints=tuple(endpoints),
        services=tuple(_service(vpc, service, endpoints) for vpc in settings.vpcs for service in vpc.services),
    )


def _endpoints(settings: Settings, vpc: VpcSettings, hosts: tuple[str, ...], places: StackPlaces) -> list[EndpointPlan]:
    found = []
    for subnet in vpc.subnets:

        def entry(name: str, address: str, host: str, subnet_name: str = subnet.name) -> EndpointPlan:
            return EndpointPlan(
                name=name, vpc=vpc.name, subnet=subnet_name, address=address, host=host, netns=places.netns(name)
            )

        room = Usable(str(subnet.cidr))
        taken: set[str] = set()
        for number, name in enumerate(rules.generated_names(subnet, settings.hosts), start=1):
            address = room[number - 1]
            taken.add(address)
            found.append(entry(name, address, hosts[(number - 1) // subnet.per_host]))
        named = [endpoint for endpoint in settings.endpoints if endpoint.subnet == subnet.name]
        taken.update(str(endpoint.address) for endpoint in named if endpoint.address is not None)
        for endpoint in named:
            address = str(endpoint.address or addressing.automatic(room, endpoint.name, taken))
            taken.add(address)
            found.append(entry(endpoint.name, address, endpoint.host or _spread(settings, endpoint, hosts)))
    return found


def _service(vpc: VpcSettings, service: ServiceSettings, endpoints: Sequence[EndpointPlan]) -> ServicePlan:
    """Backends in the order of the endpoints."""
    assert service.vip is not None, "checked settings have one"
    behind = [one for one in endpoints if one.name in service.backends or service.subnet == one.subnet]
    return ServicePlan(
        name=service.name,
        vpc=vpc.name,
        vip=str(service.vip),
        affinity=service.affinity,
        ports=service.ports,
        backends=tuple(BackendPlan(name=one.name, address=one.address) for one in behind),
    )


def _spread(settings: Settings, endpoint: EndpointSettings, hosts: tuple[str, ...]) -> str:
    """Round robin over the hosts, in the order of the list."""
    return hosts[settings.endpoints.index(endpoint) % len(hosts)]
