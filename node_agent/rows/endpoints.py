"""Rows of an endpoint: where it lives, on its subnet's bouncers; its device, on the host that holds it; where it went,
on the host that held it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from node_agent.datapath.layout import EndpointKey, EndpointRow, LocalRow, PortKey, PortRow
from node_agent.model.addresses import endpoint_mac, gateway
from node_agent.model.objects import NetworkEndpoint, Subnet
from node_agent.rows.image import MapImage, mac_bytes, mapped, network, number, row


@dataclass(frozen=True)
class Port:
    """The host side of an endpoint's veth. `queued`: it has a queueing discipline, by which somebody bounds what the
    endpoint receives."""

    ifindex: int
    queued: bool = False


def endpoint_rows(endpoint: NetworkEndpoint, subnet: Subnet, vni: int) -> MapImage:
    """The bouncer's row: only for an endpoint that some host holds, and that nobody is removing. During a move packets
    go to the host that holds it, while both hosts may ask in its name."""
    if not vni or not endpoint.status.host or endpoint.meta.deleting:
        return {}
    status = endpoint.status
    value = EndpointRow(
        host=number(status.host_address),
        subnet=network(subnet.spec.cidr)[0],
        tag=endpoint.tag,
        next=number(status.next_address) if status.next_address else 0,
    )
    return row("endpoints", EndpointKey(vni=vni, addr=mapped(endpoint.spec.address)), value)


def local_rows(endpoint: NetworkEndpoint, subnet: Subnet, vni: int, *, slot: int, port: Port | None) -> MapImage:
    """The holding host's rows. `slot`: flow table of its VPC."""
    if not vni or not slot or port is None:
        return {}
    address, base = mapped(endpoint.spec.address), network(subnet.spec.cidr)[0]
    mac, first = mac_bytes(endpoint_mac(vni, endpoint.spec.address)), number(gateway(subnet.spec.cidr))
    return {
        **row(
            "locals",
            EndpointKey(vni=vni, addr=address),
            LocalRow(
                ifindex=port.ifindex,
                slot=slot,
                subnet=base,
                gateway=first,
                mac=mac,
                tag=endpoint.tag,
                queued=port.queued,
            ),
        ),
        **row(
            "ports",
            PortKey(ifindex=port.ifindex),
            PortRow(
                vni=vni,
                slot=slot,
                addr=address,
                subnet=base,
                gateway=first,
                mac=mac,
                tag=endpoint.tag,
            ),
        ),
    }


def moved_rows(endpoint: NetworkEndpoint, vni: int, host: str) -> MapImage:
    """The row of the host that held the endpoint until just now and has no device of it any more: where it went."""
    status = endpoint.status
    if not vni or status.previous_host != host or not status.host or status.host == host or endpoint.meta.deleting:
        return {}
    return row(
        "locals",
        EndpointKey(vni=vni, addr=mapped(endpoint.spec.address)),
        LocalRow(moved_to=number(status.host_address), tag=endpoint.tag),
    )
