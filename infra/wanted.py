"""What the user asked for, as frozen data: made by `infra.settings`, checked by the rules, used by plan and targets."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from node_agent.model.config import UplinkMode
from node_agent.model.objects import Affinity, ServicePort

UNDERLAY = IPv4Network("198.18.0.0/24")
# Stands for a prefix that could not be read.
NOWHERE = IPv4Network("0.0.0.0/32")


@dataclass(frozen=True, kw_only=True)
class SubnetSettings:
    """`per_host`: how many endpoints the plan makes in this subnet on every host."""

    name: str
    cidr: IPv4Network
    per_host: int = 1


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """`vip` None: it could not be read. Behind it stand the endpoints named in `backends`, or all of `subnet`."""

    name: str
    vip: IPv4Address | None
    affinity: Affinity = "none"
    ports: tuple[ServicePort, ...] = ()
    backends: tuple[str, ...] = ()
    subnet: str = ""


@dataclass(frozen=True, kw_only=True)
class VpcSettings:
    """`set_size` hosts serve the VPC, `bouncers` of them each subnet. `host_reachable`: hosts and its endpoints reach
    each other."""

    name: str
    cidr: IPv4Network
    set_size: int = 3
    bouncers: int = 2
    host_reachable: bool = False
    subnets: tuple[SubnetSettings, ...] = ()
    services: tuple[ServiceSettings, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """An endpoint that the user named. `host` "" and `address` None leave the choice to the plan."""

    name: str
    subnet: str
    host: str = ""
    address: IPv4Address | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One stack. `target`: which of `infra.targets`. MTU in bytes; `bpf_objects`: folder of compiled programs, relative
    to the project; `flow_entries`: size of one VPC's flow table on one host; `health_seconds`: patience of the health
    gate."""

    target: str = "local"
    hosts: int = 3
    underlay: IPv4Network = UNDERLAY
    mtu: int = 1500
    mode: UplinkMode = "generic"
    flow_entries: int = 16384
    bpf_objects: str = "bpf/build"
    health_seconds: int = 30
    vpcs: tuple[VpcSettings, ...] = ()
    endpoints: tuple[EndpointSettings, ...] = ()
