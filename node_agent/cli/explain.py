"""What one run of a program did to a packet, in words: from its maps before and after, and what came out. Pure.

Called by `trace`. Nothing here guesses: a sentence stands for a counter that rose, an entry that appeared, or a field
of the message that left.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from node_agent.cli.flows import address
from node_agent.cli.names import Names
from node_agent.cli.packets import TCP, UDP, Message
from node_agent.cli.stage import Snapshot
from node_agent.datapath.layout import (
    Action,
    AskedEntry,
    AskedState,
    Counter,
    DropReason,
    FlowEntry,
    FlowFlag,
    FlowKey,
    NatEntry,
    NatKind,
    WireType,
)
from node_agent.datapath.reasons import phrase

ANSWERS = {
    Action.ALLOW: "yes",
    Action.DENY: "policy refuses it",
    Action.UNKNOWN: "nobody in the VPC has that address",
    Action.NOT_SERVING: "cannot say: it does not know all endpoints that it would have to",
    Action.RETRY: "cannot say: it does not know the sender there yet",
    Action.BUSY: "too busy: it was asked too much",
    Action.HERE: "the address is a service's; the asking host answers the ping itself",
    Action.KEEP: "the backend may be kept",
    Action.GONE: "the service has no backend, or that one is gone",
    Action.EGRESS: "yes, outside of every VPC",
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One run. `came`, `went`: messages of the tunnel that came in and left; `handed`: address of the local endpoint
    that the packet was given to; `passed_up`: left to the next program; `bouncers`: underlay addresses of those of the
    sender's subnet, on the sender's host."""

    host: str
    program: str
    key: FlowKey
    before: Snapshot
    after: Snapshot
    came: Message | None = None
    went: Message | None = None
    handed: str = ""
    passed_up: bool = False
    bouncers: tuple[str, ...] = ()

    def rose(self, counter: Counter) -> int:
        return self.after.counters.get(counter, 0) - self.before.counters.get(counter, 0)

    @property
    def hit(self) -> bool:
        """The sender's host had an entry, and used it."""
        raw = self.key.pack()
        known = raw in self.before.flows or raw in self.before.nats
        return known and self.came is None and self.dropped is None and not self.rose(Counter.QUERIES_SENT)

    @property
    def answered(self) -> bool:
        """It was an echo request that the host answered, for a gateway or a service."""
        return bool(self.handed) and self.rose(Counter.GATEWAY_REPLIES) > 0

    @property
    def left(self) -> str:
        """Where it went, "address:port", if it left the VPC."""
        entry = self.after.nats.get(self.key.pack())
        if not self.rose(Counter.EGRESS_SENT) or entry is None:
            return ""
        pair = NatEntry.unpack(entry)
        return f"{ipaddress.IPv4Address(pair.dst)}:{pair.dport}"

    @property
    def dropped(self) -> DropReason | None:
        """Why it was dropped, if it was."""
        for which, packets in self.after.drops.items():
            if packets > self.before.drops.get(which, 0):
                return which[1]
        return None


def sentences(seen: Seen, known: Names) -> list[str]:
    """One per thing that happened, in the order in which it happens."""
    told = [*_found(seen, known), *_asked(seen, known), *_answered(seen, known), *_installed(seen, known)]
    told += [*_moved(seen, known), *_ended(seen, known)]
    if not told:
        told = ["leaves it to the program behind it" if seen.passed_up else "does nothing to it"]
    return told


def entry(found: FlowEntry, known: Names) -> str:
    """Where an entry sends, in words."""
    kind = "LEARNED" if found.flags & FlowFlag.LEARNED else "ASKED"
    return f"{kind}, to {known.host(str(ipaddress.IPv4Address(found.host)))}"


def _found(seen: Seen, known: Names) -> list[str]:
    """What the sender's host already knew."""
    if seen.came or seen.answered:
        return []
    raw = seen.key.pack()
    if not seen.hit:
        again = ", and its question has no answer yet" if raw in seen.before.asked else ""
        return [f"miss: no entry in its flow table{again}"] if seen.rose(Counter.QUERIES_SENT) or _noted(seen) else []
    if raw not in seen.before.flows:
        pair = NatEntry.unpack(seen.before.nats[raw])
        return [
            f"hit: NAT entry {entry(pair.flow[0], known)}, as {_backend(pair)}",
            *_due(pair.flow[0], seen.after.nats.get(raw)),
        ]
    before = FlowEntry.unpack(seen.before.flows[raw])
    return [f"hit: entry {entry(before, known)}", *_due(before, seen.after.flows.get(raw))]


def _due(before: FlowEntry, after: bytes | None) -> list[str]:
    """`after`: the entry, or a NAT entry that begins with it."""
    if after and FlowEntry.unpack(after[: FlowEntry.SIZE]).asked and not before.asked:
        return ["the entry is old: a copy of the packet would ask about it again"]
    return []


def _asked(seen: Seen, known: Names) -> list[str]:
    told = []
    if seen.rose(Counter.BOUNCERS_SKIPPED):
        told.append("gives up a bouncer that does not answer")
    if seen.came and seen.came.type == WireType.QUERY:
        told.append(f"is asked by {known.host(seen.came.asker)}" + (" by way of a divider" if seen.came.passed else ""))
    if seen.came and seen.came.type == WireType.VERDICT and seen.rose(Counter.VERDICTS_APPLIED):
        told.append(f"takes the answer of {known.host(seen.came.sender)}{_action(seen.came)}")
    times = seen.rose(Counter.QUERIES_SENT)
    if times:
        told += [
            f"skips {known.host(bouncer)}, a bouncer of the sender's subnet that leaves questions unanswered"
            for bouncer in seen.bouncers
            if bouncer in seen.after.silent
        ]
        query = seen.went if seen.went and seen.went.type == WireType.QUERY and not seen.went.passed else None
        itself = times - (1 if query else 0)
        told += ["asks itself, being a bouncer of the sender's subnet"] * (1 if itself else 0)
        if query:
            told.append(f"asks {known.host(query.receiver)}, a bouncer of the sender's subnet")
    return told


def _answered(seen: Seen, known: Names) -> list[str]:
    told = []
    if seen.rose(Counter.QUERIES_REFUSED_BUSY):
        told.append("is too busy to look it up")
    if seen.rose(Counter.QUERIES_PASSED) and seen.went:
        told.append(
            f"does not know the endpoints of the destination's subnet: passes the question on to "
            f"{known.host(seen.went.receiver)}"
        )
    if seen.went and seen.went.type == WireType.VERDICT:
        told.append(f"answers {known.host(seen.went.receiver)}{_action(seen.went)}{_where(seen.went, known)}")
    return told


def _installed(seen: Seen, known: Names) -> list[str]:
    told = []
    new = [(key, value) for key, value in seen.after.flows.items() if key not in seen.before.flows]
    for key, value in sorted(new, key=lambda one: FlowEntry.unpack(one[1]).flags & FlowFlag.LEARNED):
        made = FlowEntry.unpack(value)
        learned = made.flags & FlowFlag.LEARNED
        what = "learns an entry for the reply" if learned else "installs an entry"
        told.append(f"{what}: {_ends(FlowKey.unpack(key))} {entry(made, known)}")
    for key, value in seen.after.nats.items():
        pair = NatEntry.unpack(value)
        if key not in seen.before.nats and pair.kind & NatKind.FORWARD:
            told.append(
                f"installs a NAT pair: {_ends(FlowKey.unpack(key))} becomes {_backend(pair)}, "
                f"{entry(pair.flow[0], known)}"
            )
    gone = [key for key in seen.before.flows if key not in seen.after.flows]
    told += [f"removes the entry {_ends(FlowKey.unpack(key))}" for key in gone]
    for key, value in seen.after.asked.items():
        state = AskedEntry.unpack(value).state
        if value != seen.before.asked.get(key) and state in (AskedState.NEGATIVE, AskedState.DENIED):
            told.append("remembers the refusal for a moment, so that the next packets need not ask")
    return told


def _moved(seen: Seen, known: Names) -> list[str]:
    told = []
    if seen.rose(Counter.NOT_HERE_RECEIVED):
        sender = known.host(seen.came.sender) if seen.came else seen.host
        told.append(f"hears from {sender} that the destination is not there")
    if seen.went and seen.went.type == WireType.NOT_HERE:
        moved = f", it moved to {known.host(seen.went.target)}" if seen.went.target else ""
        told.append(f"has no such endpoint{moved}: sends the packet back to {known.host(seen.went.receiver)}")
    if seen.went and seen.went.type == WireType.DATA:
        told.append(f"sends it to {known.host(seen.went.receiver)}")
    return told


def _ended(seen: Seen, known: Names) -> list[str]:
    if seen.dropped is not None:
        told = [f"DROPS it: {seen.dropped.name.lower()}: {phrase(seen.dropped)}"]
        return told + (["tells the sender so: a reset, or an ICMP error"] if seen.handed else [])
    if seen.left:
        return [f"SENDS it out of the VPC, to {seen.left}"]
    if not seen.handed:
        return []
    name = known.endpoints.get((seen.key.vni, seen.handed), seen.handed)
    whose = address(seen.key.dst)
    return [f"ANSWERS {name} itself, in the name of {whose}" if seen.answered else f"DELIVERS it to {name}"]


def _backend(pair: NatEntry) -> str:
    return f"{ipaddress.IPv4Address(pair.src)}:{pair.sport} -> {ipaddress.IPv4Address(pair.dst)}:{pair.dport}"


def _noted(seen: Seen) -> bool:
    """The question was noted, whether it was sent or not."""
    return seen.after.asked != seen.before.asked


def _action(message: Message) -> str:
    return f": {ANSWERS[message.action]}" if message.action in ANSWERS else ""


def _where(message: Message, known: Names) -> str:
    where = f", it is on {known.host(message.target)}" if message.target else ""
    return where + (f", backend {message.nat}" if message.nat else "")


def _ends(key: FlowKey) -> str:
    ported = key.proto in (TCP, UDP)
    src, dst = (
        f"{address(a)}:{port}" if ported else address(a) for a, port in ((key.src, key.sport), (key.dst, key.dport))
    )
    return f"{src} -> {dst}"
