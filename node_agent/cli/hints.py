"""What a person who traces a packet may have overlooked, one sentence each. Pure; called by `trace`."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from node_agent.model.objects import NetworkEndpoint, NetworkService, Vpc


def hints(
    source: NetworkEndpoint,
    target: str,
    protocol: str,
    port: int,
    *,
    vpcs: Sequence[Vpc],
    endpoints: Sequence[NetworkEndpoint],
    services: Sequence[NetworkService],
) -> list[str]:
    """About a packet from the source to the address `target` in its VPC; `port` 0 for ICMP."""
    vpc = source.spec.vpc
    if target == source.spec.address:
        return ["a packet to oneself never leaves the endpoint: its own kernel delivers it"]
    held = [one for one in endpoints if (one.spec.vpc, one.spec.address) == (vpc, target)]
    service = next((one for one in services if (one.spec.vpc, one.spec.vip) == (vpc, target)), None)
    told = []
    if service:
        offered = sorted({f"{one.protocol} {one.port}" for one in service.spec.ports})
        if port and f"{protocol} {port}" not in offered:
            told.append(f"service {service.name} has no {protocol} port {port}; it has {', '.join(offered) or 'none'}")
        if not service.spec.backends:
            told.append(f"service {service.name} has no backend")
    if held and not held[0].status.host:
        told.append(f"no host holds {held[0].spec.workload or held[0].name} yet")
    if not held and not service:
        told += _elsewhere(vpc, target, vpcs, endpoints, services)
    return told


def _elsewhere(
    vpc: str,
    target: str,
    vpcs: Sequence[Vpc],
    endpoints: Sequence[NetworkEndpoint],
    services: Sequence[NetworkService],
) -> list[str]:
    """Nobody in the VPC has the address: who has it?"""
    told = [
        f"VPC {one.spec.vpc} has it ({one.spec.workload or one.name}), which VPC {vpc} cannot reach"
        for one in endpoints
        if one.spec.address == target
    ]
    told += [
        f"VPC {one.spec.vpc} has it (service {one.name}), which VPC {vpc} cannot reach"
        for one in services
        if one.spec.vip == target
    ]
    prefix = next((one.spec.cidr for one in vpcs if one.name == vpc), "")
    if prefix and ipaddress.ip_address(target) not in ipaddress.ip_network(prefix):
        told.append(f"{target} is outside of VPC {vpc}, which is {prefix}")
    return told
