"""The row of map `config`: what every program of a host must know. Pure; written by the agent at start."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from node_agent.datapath.layout import Config, ConfigFlag, Limit, Prefix
from node_agent.model.addresses import OUTLET_ADDRESS
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid
from node_agent.rows.image import MapImage, number

KEY = bytes(4)
HOP_LIMIT = 8  # not-here answers and repeated questions of one packet
PENDING_PACKETS, PENDING_BYTES = 64, 256 * 1024  # what one flow may send while its question is open
REASK = 1.0  # seconds after which a revalidation that nobody answered is repeated
RENEW = 1.0  # seconds without a packet after which a SYN to a service asks anew
SKIP, BUSY = 5.0, 0.1  # seconds for which a silent, and a busy, bouncer is left alone
DEAD_QUERIES = 8
QUERIES = 20_000  # questions a second, and at once, that one endpoint may ask
BOUNCER_KIB = 256 * 1024  # KiB a second, of queries that a bouncer takes of one host and VPC
FRAGMENT = 2.0  # seconds for which later fragments may borrow the first one's ports


def config_rows(
    config: AgentConfig,
    ticks: Callable[[float], int],
    uplink: int,
    mtu: int,
    *,
    redirect: bool,
    link: str = "",
    outlet: int = 0,
) -> MapImage:
    """`ticks`: seconds to ticks. `uplink`: ifindex; `mtu`: its MTU in bytes. `outlet`: ifindex of its program's side.

    `redirect`: XDP sends back by redirect (native mode on a veth). `link`: prefix whose hosts are neighbours on the
    uplink ("198.18.0.0/24"); "": all are found by the routing table.
    Raises Invalid when there are more underlay prefixes than the row holds.
    """
    if len(config.underlay_prefixes) > Limit.UNDERLAY_PREFIXES:
        raise Invalid(
            [
                f"underlay_prefixes: {len(config.underlay_prefixes)} of them, the programs know at most "
                f"{int(Limit.UNDERLAY_PREFIXES)}"
            ]
        )
    prefixes = [_prefix(text) for text in config.underlay_prefixes]
    prefixes += [Prefix()] * (Limit.UNDERLAY_PREFIXES - len(prefixes))
    timers, own = config.timers, _prefix(link) if link else Prefix()
    value = Config(
        self=number(config.address),
        uplink=uplink,
        mtu=mtu,
        flags=ConfigFlag.XDP_REDIRECT if redirect else 0,
        hop_limit=HOP_LIMIT,
        fresh=ticks(timers.fresh),
        idle_tcp=ticks(timers.idle_tcp),
        idle_closed=ticks(timers.idle_closed),
        idle_udp=ticks(timers.idle_udp),
        idle_icmp=ticks(timers.idle_icmp),
        pending=ticks(timers.pending),
        negative=ticks(timers.negative),
        pending_packets=PENDING_PACKETS,
        pending_bytes=PENDING_BYTES,
        fragment=ticks(FRAGMENT),
        reask=ticks(REASK),
        renew=ticks(RENEW),
        skip=ticks(SKIP),
        busy=ticks(BUSY),
        dead_queries=DEAD_QUERIES,
        query_burst=QUERIES,
        query_rate=_per_tick(QUERIES, ticks),
        busy_rate=_per_tick(BOUNCER_KIB, ticks),
        busy_burst=BOUNCER_KIB,
        link=own.address,
        link_mask=own.mask,
        outlet=outlet,
        outlet_address=number(OUTLET_ADDRESS) if outlet else 0,
        underlay=tuple(prefixes),
    )
    return {"config": {KEY: value.pack()}}


def _prefix(text: str) -> Prefix:
    parsed = ipaddress.IPv4Network(text)
    return Prefix(address=int(parsed.network_address), mask=int(parsed.netmask))


def _per_tick(per_second: int, ticks: Callable[[float], int]) -> int:
    """A rate in 1/256 a tick, as the programs' token buckets want it; at least 1."""
    return max(1, per_second * 256 // max(1, ticks(1.0)))
