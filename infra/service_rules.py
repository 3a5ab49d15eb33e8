"""Rules of services: where a VIP may lie, what may stand behind it. Called by `infra.settings.examine`, after `rules`.

As there, what could not be read at all has its mistake already and is left out here.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from infra import rules
from infra.schema import Mistakes
from infra.wanted import NOWHERE, ServiceSettings, Settings, VpcSettings
from node_agent.model.addresses import MAX_BACKENDS, vip_mistakes


def check(settings: Settings, mistakes: Mistakes) -> None:
    """Add every broken rule to `mistakes`."""
    names: dict[str, str] = {}
    for i, vpc in enumerate(settings.vpcs):
        vips: dict[IPv4Address, str] = {}
        inside = endpoints_of(settings, vpc)
        for j, service in enumerate(vpc.services):
            field = f"vpcs[{i}].services[{j}]"
            if service.name:
                holder = names.setdefault(service.name, f"{field}.name")
                if holder != f"{field}.name":
                    mistakes.add(f"{field}.name", service.name, f"the name is taken already by {holder}")
            _vip(field, vpc, service, vips, mistakes)
            _ports(field, service, mistakes)
            _backends(field, vpc, service, inside, mistakes)


def endpoints_of(settings: Settings, vpc: VpcSettings) -> dict[str, str]:
    """Name -> subnet, of all endpoints of the VPC."""
    subnets = {subnet.name for subnet in vpc.subnets if subnet.name}
    generated = {name: one.name for one in vpc.subnets for name in rules.generated_names(one, settings.hosts)}
    return generated | {one.name: one.subnet for one in settings.endpoints if one.subnet in subnets}


def _vip(
    field: str, vpc: VpcSettings, service: ServiceSettings, taken: dict[IPv4Address, str], mistakes: Mistakes
) -> None:
    vip = service.vip
    if vip is None:
        return
    holder = taken.setdefault(vip, service.name)
    if holder != service.name:
        mistakes.add(f"{field}.vip", vip, f"is the address of service {holder}")
    if vpc.cidr == NOWHERE:
        return
    subnets = [str(subnet.cidr) for subnet in vpc.subnets if subnet.cidr != NOWHERE]
    mistakes.extend(vip_mistakes(f"{field}.vip", str(vip), str(vpc.cidr), subnets))


def _ports(field: str, service: ServiceSettings, mistakes: Mistakes) -> None:
    if not service.ports:
        mistakes.add(f"{field}.ports", [], "must be a list of at least one {protocol, port, targetPort}")
    seen = set()
    for k, port in enumerate(service.ports):
        if port.port and (port.protocol, port.port) in seen:
            mistakes.add(f"{field}.ports[{k}].port", port.port, f"{port.protocol} port {port.port} is listed twice")
        seen.add((port.protocol, port.port))


def _backends(
    field: str, vpc: VpcSettings, service: ServiceSettings, inside: dict[str, str], mistakes: Mistakes
) -> None:
    field = f"{field}.backends"
    if service.subnet and service.subnet not in {subnet.name for subnet in vpc.subnets}:
        known = ", ".join(sorted(subnet.name for subnet in vpc.subnets)) or "none"
        mistakes.add(f"{field}.subnet", service.subnet, f"unknown subnet of VPC {vpc.name}; known are {known}")
    for k, name in enumerate(service.backends):
        if name not in inside:
            mistakes.add(f"{field}[{k}]", name, f"is no endpoint of VPC {vpc.name}")
        elif name in service.backends[:k]:
            mistakes.add(f"{field}[{k}]", name, "is listed twice")
    behind = set(service.backends) | {name for name, subnet in inside.items() if subnet == service.subnet}
    if len(behind) > MAX_BACKENDS:
        mistakes.add(field, len(behind), f"a service has at most {MAX_BACKENDS} backends")
