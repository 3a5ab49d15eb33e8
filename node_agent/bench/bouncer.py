"""What a bouncer's answer costs: queries a second beside a bare reflector on the same rig. Called by `scenarios`.

    namespace "asker" --veth-- namespace "bouncer"      one core makes, carries, answers and swallows every query

The bouncer runs the real transit program over the maps of a host that bounces a subnet of a million endpoints. Source
and destination of every query are drawn anew; the source check is part of the answer, and the sink counts only verdicts
that allow. Native XDP is what a machine's NIC would run; generic is how the local stack stands.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from node_agent.bench.bed import UNDERLAY, Bed
from node_agent.bench.frames import OTHERS, VERDICTS, Frames, mac_bytes, pinned, tunnelled, udp_packet
from node_agent.datapath import libbpf, programs, ticks
from node_agent.datapath.layout import EndpointRow, WireType
from node_agent.datapath.maps import HostMaps
from node_agent.emulation import endpoints, hosts
from node_agent.kernel import features, filters, links, netns
from node_agent.model.addresses import GRO_VNI
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Permanent
from node_agent.model.objects import SetMember, Subnet, SubnetSpec, SubnetStatus, Vpc, VpcSpec, VpcStatus
from node_agent.rows.config import config_rows
from node_agent.rows.image import merged, number
from node_agent.rows.subnets import subnet_rows
from node_agent.rows.vpcs import vpc_rows

Draw = Literal["hot", "random"]
Mode = Literal["native", "generic"]

ENDPOINTS, HOT = 1_000_000, 1024
STRIDE = 977  # between two hot endpoints, so that they lie all over the map
VNI = 100
CIDR = "10.64.0.0/12"
ASKERS, ASKERS_AT = 64, "198.18.0.64"  # hosts that ask; as in bench.bpf.c
SELF = "198.18.0.250"
OUT, UPLINK = "asker0", hosts.UPLINK
_BATCH = 1 << 16


class Bouncer:
    """The rig. `close` lets go of programs; namespaces and pins go with the stack."""

    def __init__(self, bed: Bed) -> None:
        self._places = bed.places
        self._asker, self._own = (self._places.netns_path(name) for name in ("asker", "bouncer"))
        self._frames = Frames(bed.programs)
        pins = self._places.host("bouncer").pins
        self._transit = programs.ensure_loaded(bed.programs, pins)
        self._macs = self._wire()
        with HostMaps(pins / "maps") as maps:
            self._maps = pins / "maps"
            _fill(maps)
        self._ticks = ticks.verified(bed.programs / "clock.bpf.o")
        self._objects = bed.programs

    def close(self) -> None:
        self._transit.close()
        self._frames.close()

    def measure(self, subject: Literal["bouncer", "reflector"], mode: Mode, draw: Draw, seconds: float) -> float:
        """Millions of queries a second that come back; the bouncer's as verdicts that allow. Raises Permanent when
        something else comes back."""
        program = self._transit[programs.TRANSIT_XDP].fd if subject == "bouncer" else self._frames.program("reflect")
        which, other = (VERDICTS, OTHERS) if subject == "bouncer" else (OTHERS, VERDICTS)
        self._configure(mode, draw)
        with self._attached(program, mode), netns.enter(self._asker), pinned():
            strange = self._frames.counted(other)
            rate = self._frames.rate("send_query", which, seconds)
            strange = self._frames.counted(other) - strange
        if strange > rate * 1e6 * seconds / 100 or not rate:
            raise Permanent(f"measure {subject} in {mode} mode: {strange} of its answers are not what they should be")
        return rate

    # --- inside ---

    def _wire(self) -> tuple[str, str]:
        """The veth between the two; returns the MACs of both ends."""
        for name in ("asker", "bouncer"):
            endpoints.make(self._places, name)
        with links.opened(self._own) as net, links.opened(self._asker) as there:
            net.ensure_veth(UPLINK, peer_netns=self._asker, peer=OUT, mtu=1500)
            net.ensure_vxlan(hosts.GRO_DEVICE, GRO_VNI, hosts.TUNNEL_PORT)  # as on any host
            for side, name in ((net, UPLINK), (there, OUT)):
                features.ensure(side, name, features.GRO)
                side.ensure(name, up=True)
            net.ensure(hosts.GRO_DEVICE, up=True)
            return there.need(OUT).mac, net.need(UPLINK).mac

    def _configure(self, mode: Mode, draw: Draw) -> None:
        redirect = mode == "native"
        config = AgentConfig(
            host="bouncer", stack_id="", address=SELF, uplink=UPLINK, underlay_prefixes=(UNDERLAY,), store="", pins="",
            socket="", bpf_objects="",
        )  # fmt: skip
        with links.opened(self._own) as net, links.opened(self._asker) as there:
            index, out = net.need(UPLINK).index, there.need(OUT).index
        with HostMaps(self._maps) as maps:
            maps.put("config", config_rows(config, self._ticks.of, index, 1500, redirect=redirect)["config"])
        self._frames.configure(
            out=out,
            redirect=redirect,
            endpoints=HOT if draw == "hot" else ENDPOINTS,
            stride=STRIDE if draw == "hot" else 1,
            base=number(CIDR.partition("/")[0]),
            askers=number(ASKERS_AT),
            frame=query_frame(*self._macs),
        )

    @contextlib.contextmanager
    def _attached(self, program: int, mode: Mode) -> Iterator[None]:
        """The program answers, and a sink at the other end swallows what comes back."""
        native = mode == "native"
        with links.opened(self._own) as net, links.opened(self._asker) as there, contextlib.ExitStack() as held:
            flags = libbpf.XDP_DRV_MODE if native else libbpf.XDP_SKB_MODE
            held.enter_context(_link(self._own, program, net.need(UPLINK).index, flags))
            if native:
                held.enter_context(
                    _link(self._asker, self._frames.program("sink_queries"), there.need(OUT).index, flags)
                )
            else:
                filters.attach(there, OUT, "ingress", self._frames.program("sink_queries_tc"), "sink_queries_tc")
                held.callback(filters.detach, there, OUT, "ingress")
            yield


@contextlib.contextmanager
def _link(path: Path, program: int, index: int, flags: int) -> Iterator[None]:
    with netns.enter(path):
        link = libbpf.link_xdp(program, index, flags)
    try:
        yield
    finally:
        os.close(link)


def query_frame(source: str, destination: str) -> bytes:
    """The query whose variable parts the generator fills in: 98 bytes, MACs of the two ends."""
    inner = udp_packet(bytes(4), bytes(4), 34, (0, 8080))
    ethernet = mac_bytes(destination) + mac_bytes(source) + b"\x08\x00"
    own = ipaddress.IPv4Address(SELF).packed
    return ethernet + tunnelled(inner, VNI, own, WireType.QUERY << 3)


def _fill(maps: HostMaps) -> None:
    """What a bouncer of the subnet knows; its endpoints by the million, so not one by one through the model."""
    member = SetMember(place=0, host="bouncer", address=SELF)
    vpc = Vpc(name="v", spec=VpcSpec(cidr="10.0.0.0/8", set_size=2), status=VpcStatus(vni=VNI, members=(member,)))
    subnet = Subnet(name="s", spec=SubnetSpec(vpc="v", cidr=CIDR), status=SubnetStatus(bouncers=(0,)))
    for name, rows in merged(
        [vpc_rows(vpc, "bouncer", slot=0, listed=True), subnet_rows(subnet, vpc, "bouncer", local=False, listed=True)]
    ).items():
        maps.put(name, rows)
    base, first = number(CIDR.partition("/")[0]), number(ASKERS_AT)
    values = [EndpointRow(host=first + n, subnet=base, tag=1).pack() for n in range(ASKERS)]
    prefix = struct.pack("=I", VNI) + bytes(10) + b"\xff\xff"
    for at in range(0, ENDPOINTS, _BATCH):
        numbers = range(at, min(at + _BATCH, ENDPOINTS))
        maps.put("endpoints", {prefix + (base + n).to_bytes(4, "big"): values[n % ASKERS] for n in numbers})
