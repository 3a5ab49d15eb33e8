"""Rows of a subnet: who bounces it, which addresses are its own, and that this host answers for it. Pure."""

from __future__ import annotations

from node_agent.datapath.layout import RouteKey, RouteRow, ServingRow, SubnetKey, SubnetRow
from node_agent.model.objects import Subnet, Vpc, refused
from node_agent.rows.image import MapImage, mapped, merged, network, row
from node_agent.rows.vpcs import member

_ROUTE_BITS = 32 + 96  # of a route's key before the prefix's own: the VNI and the mapping of IPv4 addresses


def bounces(subnet: Subnet, vpc: Vpc | None, host: str) -> bool:
    """Whether this host knows the subnet's endpoints; a joining member does before anyone asks it."""
    own = member(vpc, host) if vpc else None
    return own is not None and own.place in subnet.status.bouncers


def subnet_rows(subnet: Subnet, vpc: Vpc, host: str, *, local: bool, listed: bool, stale: bool = False) -> MapImage:
    """The bouncers' row on members of the VPC set and where an endpoint of the subnet lives (`local`).

    `listed`: the agent has seen all endpoints of the subnet; `stale`: it could not watch them for a while.
    """
    vni, divides = vpc.status.vni, member(vpc, host) is not None
    if not vni or not (divides or local) or refused(subnet):
        return {}
    base, length = network(subnet.spec.cidr)
    key = SubnetKey(vni=vni, subnet=base)
    rows = [
        row(
            "subnets",
            key,
            SubnetRow(
                bouncers=sum(1 << place for place in set(subnet.status.bouncers)),
                mask=(0xFFFFFFFF << 32 - length) & 0xFFFFFFFF,
            ),
        )
    ]
    if divides:
        prefix = RouteKey(prefixlen=_ROUTE_BITS + length, vni=vni, addr=mapped(subnet.spec.cidr.partition("/")[0]))
        rows.append(row("routes", prefix, RouteRow(subnet=base)))
    if listed and bounces(subnet, vpc, host):
        rows.append(row("serving", key, ServingRow(stale=int(stale))))
    return merged(rows)
