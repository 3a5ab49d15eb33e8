"""The walk of a trace: which program of which host runs next, with what the one before sent.

Each host that the packet comes to is put on a stage (`stage`), and where the live network would lose the packet on the
way there (`footing`), the walk says so. A question that is lost costs a flow its packet, and the flow's next packet
asks another bouncer: the walk goes on with that one, as a sender would.

Called by `trace`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from node_agent.cli import explain, flows, footing, packets, stage
from node_agent.cli.explain import Seen
from node_agent.cli.flows import address
from node_agent.cli.footing import Ground
from node_agent.cli.names import Names
from node_agent.cli.packets import Message
from node_agent.cli.stage import Stage, Traced
from node_agent.datapath import programs
from node_agent.datapath.layout import EndpointKey, FlowKey, LocalRow, WireType
from node_agent.datapath.maps import HostMaps
from node_agent.datapath.reasons import phrase
from node_agent.model.errors import MizarError, Permanent
from node_agent.model.places import StackPlaces

RUNS = 80  # nine rounds of query and not-here are the longest legal way
_PACKETS = 8  # as many tries as the wire can number
_TC_REDIRECT, _XDP_PASS, _XDP_TX, _XDP_REDIRECT = 7, 2, 3, 4
_WIRE = "underlay"  # what a step names in place of a program
_QUESTION = (WireType.QUERY, WireType.VERDICT)

Outcome = dict[str, str]


class Way:
    """One packet's way. `steps`: what happened, in order. Used once. `new`: the packet begins its flow."""

    def __init__(self, places: StackPlaces, known: Names, key: FlowKey, *, new: bool = True) -> None:
        self._places, self._known, self._key, self._new = places, known, key, new
        self.steps: list[dict[str, Any]] = []
        self._packet = 1
        self._open = False  # the last packet was lost as a question
        self._passed = False

    def walk(self, host: str) -> Outcome:
        """From the source's host to the end: {"result", "detail", "host"}. Raises MizarError."""
        with self._staged():
            self._sender = host
            first = self._on(host)
            if not first.sender:
                raise Permanent(f"trace from {address(self._key.src)}: {host} has no row for its device")
            outcome = self._send(first)
            while outcome["result"] == "lost" and self._open and self._packet < self._tries(first):
                first.wait()
                self._packet += 1
                outcome = self._send(first)
        return outcome

    # --- inside ---

    @contextlib.contextmanager
    def _staged(self) -> Iterator[None]:
        """Stages are set up when the packet first comes to their host, and taken down at the end."""
        with stage.scratch(self._places) as (self._folder, self._bare), contextlib.ExitStack() as self._resources:
            self._stages: dict[str, Stage] = {}
            yield

    def _on(self, host: str) -> Stage:
        if host not in self._stages:
            traced = Traced(self._key.vni, self._key.src)
            folder: Path = self._folder / host
            made = Stage(self._places, host, folder, self._bare, traced)
            self._resources.callback(made.close)
            self._stages[host] = made
        return self._stages[host]

    def _ground(self, at: Stage) -> Ground:
        return Ground(config=at.agent, namespace=self._places.netns_path(at.host), tags=at.tags)

    def _tries(self, first: Stage) -> int:
        """How many packets of the flow ask each bouncer that may be asked once; two legs make more combinations."""
        number = max(1, len(first.bouncers))
        return min(_PACKETS, number * number if self._passed else number)

    def _send(self, first: Stage) -> Outcome:
        """One packet of the endpoint, from its device to its end."""
        assert first.sender is not None
        self._open = False
        if why := self._ground(first).sender(first.device):
            return self._lost(first.host, programs.ENDPOINT_TC, f"it does not run: {why}")
        frame: bytes = packets.frame(first.sender.mac, self._key, first=self._new)
        program, at, came = programs.ENDPOINT_TC, first, None
        for _ in range(RUNS):
            seen, frame = self._run(at, program, frame, came)
            if seen.passed_up:
                program = programs.TRANSIT_TC
                if why := self._ground(at).tc():
                    return self._lost(at.host, program, why)
                continue
            if seen.went is None:
                return self._end(at, seen, frame)
            came = seen.went
            self._open, self._passed = came.type in _QUESTION, self._passed or came.passed
            there = self._known.host(came.receiver)
            for host in (at.host, there):
                if why := self._cut(host):
                    return self._lost(host, _WIRE, why)
            at = self._on(there)
            program = at.arrival
            ground = self._ground(at)
            if why := ground.xdp() if program == programs.TRANSIT_XDP else ground.tc():
                return self._lost(there, program, why)
        raise Permanent(f"trace: the packet goes round and round: {RUNS} runs")

    def _cut(self, host: str) -> str:
        """Why nothing leaves or comes to the host over its uplink; "" when it does."""
        try:
            return footing.cut(self._places, flows.configured(self._places, host))
        except MizarError as error:
            return str(error)

    def _run(self, at: Stage, program: str, frame: bytes, came: Message | None) -> tuple[Seen, bytes]:
        before = at.snapshot()
        result = at.run(program, frame)
        xdp = program == programs.TRANSIT_XDP
        left = result.code in ((_XDP_TX, _XDP_REDIRECT) if xdp else (_TC_REDIRECT,))
        out = packets.message(result.data) if left else None
        if out and out.receiver not in self._known.hosts:
            out = None  # an endpoint's own packet that looks alike
        seen = Seen(
            host=at.host,
            program=program,
            key=self._key,
            before=before,
            after=at.snapshot(),
            came=came,
            went=out,
            handed=self._handed(at, result.data)[0] if left and out is None else "",
            passed_up=xdp and result.code == _XDP_PASS,
            bouncers=at.bouncers,
        )
        did = explain.sentences(seen, self._known)
        if came and program == at.arrival == programs.TRANSIT_TC and at.agent.mode != "tc":
            did = [f"comes straight to TC: {programs.TRANSIT_XDP} is not attached", *did]
        self._add(at.host, program, did, seen, out)
        return seen, result.data

    def _end(self, at: Stage, seen: Seen, frame: bytes) -> Outcome:
        """The packet does not leave this host any more."""
        self._open = False
        if seen.dropped is not None:
            name = seen.dropped.name.lower()
            return {"result": "dropped", "detail": f"{name}: {phrase(seen.dropped)}", "host": at.host}
        if seen.left:
            return {"result": "left", "detail": f"the VPC, to {seen.left}", "host": at.host}
        if not seen.handed:
            return {"result": "ended", "detail": "without a drop", "host": at.host}
        if why := self._ground(at).receiver(self._handed(at, frame)[1]):
            self.steps[-1] |= {"lost": why, "did": [*self.steps[-1]["did"], f"LOST: {why}"]}
            return {"result": "lost", "detail": why, "host": at.host}
        name = self._known.endpoints.get((self._key.vni, seen.handed), seen.handed)
        return {"result": "answered" if seen.answered else "delivered", "detail": f"to {name}", "host": at.host}

    def _handed(self, at: Stage, frame: bytes) -> tuple[str, int]:
        """(address, number of the device) of the local endpoint whose MAC address the frame is for."""
        with HostMaps(self._places.host(at.host).maps) as maps:
            for raw, value in maps.read("locals").items():
                key, row = EndpointKey.unpack(raw), LocalRow.unpack(value)
                if key.vni == self._key.vni and row.mac == frame[:6]:
                    return address(key.addr), row.ifindex
        return "", 0

    def _lost(self, host: str, program: str, why: str) -> Outcome:
        self._add(host, program, [f"LOST: {why}"], lost=why)
        return {"result": "lost", "detail": why, "host": host}

    def _add(
        self,
        host: str,
        program: str,
        did: list[str],
        seen: Seen | None = None,
        out: Message | None = None,
        lost: str = "",
    ) -> None:
        self.steps.append(
            {
                "packet": self._packet,
                "host": host,
                "program": program,
                "hit": bool(seen and seen.hit),
                "did": did,
                "sends": out.type.name.lower() if out else "",
                "to": self._known.host(out.receiver) if out else "",
                "dropped": seen.dropped.name.lower() if seen and seen.dropped is not None else "",
                "lost": lost,
            }
        )
