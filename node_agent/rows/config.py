"""The row of map `config`: what every program of a host must know. Pure; written by the agent at start."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from node_agent.datapath.layout import Config, ConfigFlag, Limit, Prefix
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid
from node_agent.rows.image import MapImage, number

KEY = bytes(4)
HOP_LIMIT = 8  # not-here answers and repeated questions of one packet
PENDING_PACKETS, PENDING_BYTES = 64, 256 * 1024  # what one flow may send while its question is open
FRAGMENT = 2.0  # seconds for which later fragments may borrow the first one's ports


def config_rows(config: AgentConfig, ticks: Callable[[float], int], uplink: int, *, redirect: bool) -> MapImage:
    """`ticks`: seconds to ticks. `uplink`: ifindex. `redirect`: XDP sends back by redirect (native mode on a veth).

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
    timers = config.timers
    value = Config(
        self=number(config.address),
        uplink=uplink,
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
        underlay=tuple(prefixes),
    )
    return {"config": {KEY: value.pack()}}


def _prefix(text: str) -> Prefix:
    parsed = ipaddress.IPv4Network(text)
    return Prefix(address=int(parsed.network_address), mask=int(parsed.netmask))
