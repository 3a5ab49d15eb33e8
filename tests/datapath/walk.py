"""A network of hosts that are only programs and maps: packets walk from one BPF_PROG_TEST_RUN to the next.

Each Host has its own pinned maps and loaded programs; `Net.walk` takes a frame that an endpoint sends and carries it
from host to host until an endpoint gets it or a program drops it. What was decided on the way is in the returned Walk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from node_agent.datapath import programs
from node_agent.datapath.layout import DropReason, Limit, WireType
from node_agent.model.addresses import OUTLET_ADDRESS
from tests.datapath.host import Endpoint, Host, mac_bytes

Drops = dict[tuple[int, DropReason], int]
TC_OK, TC_SHOT, TC_REDIRECT, TC_UNSPEC = 0, 2, 7, 0xFFFFFFFF
XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3
OUTER = 14 + 20 + 8  # bytes before the VXLAN header
GATEWAY_MAC = "02:6d:7a:00:00:01"


def check_outer(ether: Ether) -> None:
    """The outer headers are as they would be if scapy had made them."""
    frame = bytes(ether)
    fixed = Ether(frame[:OUTER])  # apart: scapy would count what is behind an inner datagram's end as nobody's
    del fixed[IP].chksum, fixed[IP].len, fixed[UDP].len
    fixed = Ether(bytes(fixed / Raw(frame[OUTER:])))
    assert (ether[IP].chksum, ether[IP].len, ether[UDP].len, ether[UDP].chksum) == (
        fixed[IP].chksum,
        fixed[IP].len,
        fixed[UDP].len,
        0,
    )


@dataclass
class Hop:
    host: str
    program: str
    code: int
    type: WireType | None


@dataclass
class Walk:
    """How a packet fared: `delivered` is the endpoint's name, `dropped` the reason, `reply` what came straight back,
    `left` what went out of every VPC; `passed`: left to the machine."""

    hops: list[Hop] = field(default_factory=list)
    delivered: str = ""
    frame: bytes = b""
    dropped: DropReason | None = None
    reply: bytes = b""
    left: bytes = b""
    passed: bool = False

    @property
    def wire(self) -> list[tuple[str, WireType]]:
        """(sending host, message) of everything that went over the wire."""
        return [(h.host, h.type) for h in self.hops if h.type is not None]


class Net:
    def __init__(self, hosts: list[Host]) -> None:
        self.hosts = {h.address: h for h in hosts}
        self.endpoints: dict[str, tuple[Host, Endpoint]] = {}

    def place(self, e: Endpoint, host: Host) -> None:
        host.holds(e)
        self.endpoints[e.name] = (host, e)

    def frame(self, sender: str, payload: object) -> bytes:
        """The Ethernet frame in which this endpoint sends an IP packet."""
        return bytes(Ether(src=self.endpoints[sender][1].mac, dst=GATEWAY_MAC) / payload)

    def walk(self, sender: str, payload: object, mark: int = 0) -> Walk:
        """`mark`: the frame is a clone that only asks."""
        host, e = self.endpoints[sender]
        return self._carry(host, programs.ENDPOINT_TC, self.frame(sender, payload), e.port, mark)

    def emerge(self, at: Host, frame: bytes, outlet: int) -> Walk:
        """What the host's own stack sends to endpoints, behind its outlet."""
        return self._carry(at, programs.TRANSIT_TC, frame, outlet)

    def arrive(self, at: Host, frame: bytes) -> Walk:
        """Inject a frame of the wire at a host's uplink."""
        return self._carry(at, programs.TRANSIT_XDP if at.xdp else programs.TRANSIT_TC, frame, 1)

    def _carry(self, host: Host, program: str, frame: bytes, ifindex: int, mark: int = 0) -> Walk:
        walk = Walk()
        for _ in range(80):  # nine rounds of query and not-here are the longest legal way
            before = host.maps.drops()
            result = host.run(program, frame, ifindex, mark)
            hop = Hop(host.name, program, result.code, None)
            walk.hops.append(hop)
            if result.code == XDP_PASS and program == programs.TRANSIT_XDP:
                program, frame = programs.TRANSIT_TC, result.data
                continue
            if result.code == TC_UNSPEC and program == programs.TRANSIT_TC:
                walk.frame, walk.passed = result.data, True
                return walk
            if result.code not in (TC_REDIRECT, XDP_TX):
                walk.dropped = self._reason(before, host.maps.drops())
                return walk
            frame = result.data
            ether = Ether(frame)
            if not (ether.haslayer(UDP) and ether[UDP].dport == Limit.WIRE_PORT and ether[IP].src in self.hosts):
                self._finish(walk, host, frame, program, ifindex)
                return walk
            assert ether[IP].src == host.address, "a host sent another host's address"
            check_outer(ether)
            hop.type = WireType(frame[14 + 28 + 1] >> 3 & 7)
            host = self.hosts[ether[IP].dst]
            program, ifindex, mark = (programs.TRANSIT_XDP if host.xdp else programs.TRANSIT_TC), 1, 0
        raise AssertionError(f"the packet goes round and round: {walk.wire}")

    def _finish(self, walk: Walk, host: Host, frame: bytes, program: str, ifindex: int) -> None:
        walk.frame = frame
        if Ether(frame)[IP].src in (host.address, OUTLET_ADDRESS):
            walk.left = frame
            return
        for e in host.locals.values():
            if frame[:6] == mac_bytes(e.mac):
                if program == programs.ENDPOINT_TC and e.port == ifindex:
                    walk.reply = frame
                else:
                    walk.delivered = e.name
                return
        raise AssertionError(f"{host.name} handed a frame to nobody: {Ether(frame).summary()}")

    @staticmethod
    def _reason(before: Drops, after: Drops) -> DropReason | None:
        risen = [reason for (vni, reason), n in after.items() if n > before.get((vni, reason), 0)]
        assert len(risen) <= 1, f"one packet counted as several drops: {risen}"
        return risen[0] if risen else None
