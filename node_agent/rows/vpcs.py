"""Rows of a VPC: its set of members, and that this host knows all of its subnets and services. Pure."""

from __future__ import annotations

from node_agent.datapath.layout import Limit, ServingRow, SubnetKey, VpcKey, VpcRow
from node_agent.model.objects import SetMember, Vpc
from node_agent.rows.image import MapImage, merged, number, row


def member(vpc: Vpc, host: str) -> SetMember | None:
    """The place this host has in the VPC set, in whatever state; None: it has none."""
    return next((m for m in vpc.status.members if m.host == host), None)


def vpc_rows(vpc: Vpc, host: str, *, slot: int, listed: bool) -> MapImage:
    """The set's row on members and on hosts with an endpoint of the VPC (those have a flow table: `slot` is not 0).

    A joining or leaving member's word counts, but nobody is to ask it. `listed`: the agent has seen all subnets and
    services of the VPC, so a member may say that an address belongs to none.
    """
    vni, own = vpc.status.vni, member(vpc, host)
    if not vni or not (own or slot):
        return {}
    ask = accept = 0
    members = [0] * Limit.SET_PLACES
    for m in vpc.status.members:
        accept |= 1 << m.place
        ask |= (m.state == "active") << m.place
        members[m.place] = number(m.address)
    rows = [row("vpcs", VpcKey(vni=vni), VpcRow(slot=slot, ask=ask, accept=accept, members=tuple(members)))]
    if own and listed:
        rows.append(row("serving", SubnetKey(vni=vni, subnet=0), ServingRow()))
    return merged(rows)
