"""Whether a flow takes the direct path: a look into the flow table of the source's host. Called by the health gate.

It reads what the programs installed, not what an agent says of itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from node_agent.datapath.layout import FlowEntry, FlowFlag, FlowKey, VpcKey, VpcRow
from node_agent.datapath.maps import HostMaps, Maps
from node_agent.model.errors import MizarError
from node_agent.model.objects import NetworkEndpoint
from node_agent.model.places import StackPlaces

ICMP, TCP, UDP = 1, 6, 17
_NAMES = {ICMP: "ICMP", TCP: "TCP", UDP: "UDP"}


def direct_path(
    places: StackPlaces,
    src: NetworkEndpoint,
    dst: NetworkEndpoint,
    proto: int,
    *,
    sport: int | None = None,
    dport: int | None = None,
) -> str | None:
    """None when the source's host has an entry for src -> dst that names the destination's host; else why not.

    `sport`, `dport`: None matches any (ICMP echo: the id as both). Never raises what reading maps may raise.
    """
    try:
        with HostMaps(places.host(src.status.host).maps) as maps:
            return judged(maps, src, dst, proto, sport=sport, dport=dport)
    except MizarError as error:
        return f"host {src.status.host}: {error}"


def judged(
    maps: Maps,
    src: NetworkEndpoint,
    dst: NetworkEndpoint,
    proto: int,
    *,
    sport: int | None = None,
    dport: int | None = None,
) -> str | None:
    """As `direct_path`, on the maps of the source's host."""
    vni = int(src.name.partition("-")[0])
    flow = f"{_NAMES.get(proto, f'protocol {proto}')} {src.spec.address} to {dst.spec.address}"
    raw = maps.read("vpcs").get(VpcKey(vni=vni).pack())
    if raw is None:
        return f"host {src.status.host} has no row for VNI {vni}"
    slot = VpcRow.unpack(raw).slot
    if not slot:
        return f"host {src.status.host} has no flow table for VNI {vni}"
    entries = _matching(maps.read_flows(slot), vni, src, dst, proto, sport, dport)
    if not entries:
        return f"host {src.status.host} has no entry for {flow}: the verdict was not installed"
    wanted = int(ipaddress.IPv4Address(dst.status.host_address)) if dst.status.host_address else 0
    if any(entry.host == wanted for entry in entries):
        return None
    found = ", ".join(sorted({str(ipaddress.IPv4Address(entry.host)) for entry in entries}))
    return f"host {src.status.host} sends {flow} to {found} instead of {dst.status.host_address or 'nobody'}"


def _matching(
    flows: Mapping[bytes, bytes],
    vni: int,
    src: NetworkEndpoint,
    dst: NetworkEndpoint,
    proto: int,
    sport: int | None,
    dport: int | None,
) -> list[FlowEntry]:
    ends = _mapped(src.spec.address), _mapped(dst.spec.address)
    found = []
    for raw, value in flows.items():
        key, entry = FlowKey.unpack(raw), FlowEntry.unpack(value)
        if (
            (key.vni, key.src, key.dst, key.proto) == (vni, *ends, proto)
            and sport in (None, key.sport)
            and dport in (None, key.dport)
            and entry.flags & (FlowFlag.ASKED | FlowFlag.LEARNED)
        ):
            found.append(entry)
    return found


def _mapped(address: str) -> bytes:
    return ipaddress.IPv6Address(f"::ffff:{address}").packed
