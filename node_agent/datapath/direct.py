"""Whether one flow takes the direct path: its very entries in the tables of the client's host. Called by the gate.

It reads what the programs installed, not what an agent says of itself. Entries are looked up by the flow's exact key: a
flow of the same endpoints that somebody else began, or an entry that was learned from an arrival, proves nothing about
the verdict.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self

from node_agent.datapath.layout import FlowEntry, FlowFlag, FlowKey, NatEntry, NatKind, VpcKey, VpcRow
from node_agent.datapath.maps import HostMaps, Maps
from node_agent.model.errors import MizarError, Permanent
from node_agent.model.places import StackPlaces

ICMP, TCP, UDP = 1, 6, 17
_NAMES = {ICMP: "ICMP", TCP: "TCP", UDP: "UDP"}


@dataclass(frozen=True, kw_only=True)
class Flow:
    """As its client sends it. ICMP echo: the id as both ports."""

    vni: int
    proto: int
    src: str
    dst: str
    sport: int
    dport: int

    def key(self) -> bytes:
        """Its key in the flow and NAT tables."""
        return FlowKey(
            vni=self.vni,
            src=_mapped(self.src),
            dst=_mapped(self.dst),
            sport=self.sport,
            dport=self.dport,
            proto=self.proto,
        ).pack()

    def __str__(self) -> str:
        ends = (self.src, self.dst) if self.proto == ICMP else (f"{self.src}:{self.sport}", f"{self.dst}:{self.dport}")
        return f"{_NAMES.get(self.proto, f'protocol {self.proto}')} {' to '.join(ends)}"


@dataclass(frozen=True, kw_only=True)
class Question:
    """Does this flow go straight to the host with underlay address `peer`? `backend`: to which address it is to be
    translated on the way, of a client's flow to a service; "": to none."""

    flow: Flow
    peer: str
    backend: str = ""


class HostFlows:
    """The flows of one host, looked up in its maps. `host`: its name, for the reasons."""

    def __init__(self, host: str, maps: Maps) -> None:
        self._host, self._maps = host, maps
        self._slots = {VpcKey.unpack(key).vni: VpcRow.unpack(row).slot for key, row in maps.read("vpcs").items()}

    def answer(self, question: Question) -> str | None:
        """None for yes; else why not."""
        if question.backend:
            return self.translated(question.flow, question.backend, question.peer)
        return self.direct(question.flow, question.peer)

    def direct(self, flow: Flow, peer: str) -> str | None:
        """None when a verdict's entry sends the flow straight to underlay address `peer`; else why not."""
        missing = self._unknown(flow)
        if missing:
            return missing
        raw = self._maps.find_flow(self._slots[flow.vni], flow.key())
        if raw is None:
            return f"host {self._host} has no entry for {flow}: the verdict was not installed"
        entry = FlowEntry.unpack(raw)
        if not entry.flags & FlowFlag.ASKED:
            return f"host {self._host} has only learned {flow} from an answer: the verdict was not installed"
        return self._elsewhere(flow, entry, peer)

    def translated(self, flow: Flow, backend: str, peer: str) -> str | None:
        """None when a verdict's NAT pair turns the flow, of a client to a service, into one to `backend` on the host
        with underlay address `peer`; else why not."""
        missing = self._unknown(flow)
        if missing:
            return missing
        raw = self._maps.find_nat(self._slots[flow.vni], flow.key())
        if raw is None:
            return f"host {self._host} has no NAT pair for {flow}: the verdict was not installed"
        pair = NatEntry.unpack(raw)
        entry = pair.flow[0]
        if not pair.kind & NatKind.FORWARD or not entry.flags & FlowFlag.ASKED:
            return f"host {self._host} has a NAT entry for {flow} that is no client's: the verdict was not installed"
        chosen = str(ipaddress.IPv4Address(pair.dst))
        if chosen != backend:
            return f"host {self._host} sends {flow} to backend {chosen}, and {backend} answered"
        return self._elsewhere(flow, entry, peer)

    def _unknown(self, flow: Flow) -> str | None:
        if flow.vni not in self._slots:
            return f"host {self._host} has no row for VNI {flow.vni}"
        if not self._slots[flow.vni]:
            return f"host {self._host} has no flow table for VNI {flow.vni}"
        return None

    def _elsewhere(self, flow: Flow, entry: FlowEntry, peer: str) -> str | None:
        found = str(ipaddress.IPv4Address(entry.host))
        return None if found == peer else f"host {self._host} sends {flow} by host {found} instead of {peer}"


class StackFlows:
    """The flows of every host of a stack; each host's maps are opened once, when they are first asked for."""

    def __init__(self, places: StackPlaces) -> None:
        self._places = places
        self._maps: dict[str, HostMaps] = {}
        self._hosts: dict[str, HostFlows] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._maps:
            self._maps.popitem()[1].close()
        self._hosts.clear()

    def answer(self, host: str, question: Question) -> str | None:
        """As `HostFlows.answer`. What reading maps may raise is a reason."""
        try:
            return self._of(host).answer(question)
        except MizarError as error:
            return f"host {host}: {error}"

    def _of(self, host: str) -> HostFlows:
        if host not in self._hosts:
            if host not in self._maps:
                self._maps[host] = HostMaps(self._places.host(host).maps)
            self._hosts[host] = HostFlows(host, self._maps[host])
        return self._hosts[host]


def _mapped(address: str) -> bytes:
    try:
        return ipaddress.IPv6Address(f"::ffff:{address}").packed
    except ValueError as error:
        raise Permanent(f"look up flow: {address!r} is no IPv4 address") from error
