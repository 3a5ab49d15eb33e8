"""`mizar rebalance`: VPC sets chosen anew on request, by the controller, so that roles are even over hosts.

A request is a Watermark object named `rebalance-<VPC>`: the person creates it, the controller deletes it when the set
is as `balance` would have it. It outlives a restart of the controller, and asking twice is asking once.

Called by `__main__` between two turns of the loop, in its thread, so that one process and one thread at a time write a
VPC's status; the resource version of what was read goes with every write. Here new members only join: `plan` makes them
active once every host knows them, and dismisses those they came for. The CLI calls `request` and `foreseen`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from node_agent.controller import placement
from node_agent.controller.balance import balance
from node_agent.controller.liveness import Host, Pulse, feel, frozen, view
from node_agent.controller.log import Log
from node_agent.controller.plan import Change, bounced
from node_agent.model.config import ControllerConfig
from node_agent.model.errors import AlreadyExists, Conflict, NotFound, Temporary
from node_agent.model.objects import NetworkHost, SetMember, Subnet, Vpc, Watermark
from node_agent.store.base import Store, Watch

PREFIX = "rebalance-"
LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Bouncers:
    """Hosts that bounce a subnet now, and those that would afterwards."""

    subnet: str
    now: tuple[str, ...]
    then: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What rebalancing a VPC would do: hosts of its set now, those that would join and those that would leave.
    `waits`: why nothing would happen yet, "" when it would begin at once."""

    vpc: str
    set: tuple[str, ...]
    join: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    waits: str = ""
    bouncers: tuple[Bouncers, ...] = ()


def request(store: Store, vpc: str) -> bool:
    """Ask the controller to rebalance the VPC; False: it was asked already."""
    try:
        store.create(Watermark(name=PREFIX + vpc))
    except AlreadyExists:
        return False
    return True


def foreseen(
    wanted: Collection[str],
    vpcs: Sequence[Vpc],
    subnets: Sequence[Subnet],
    hosts: Sequence[NetworkHost],
    now: float,
    config: ControllerConfig,
) -> list[Foreseen]:
    """For each VPC, if only the `wanted` are rebalanced. `now`: seconds since the epoch; hosts are taken to live as
    far as their heartbeats tell now, which is all that a bystander sees. Pure."""
    by_name = {host.name: host for host in hosts}
    pulses = feel({}, by_name, now, config)
    # Someone who just came in takes no host for dead; a heartbeat that is old already says so to a person.
    pulses = {
        name: replace(pulse, dead=bool(pulse.heartbeat) and now - pulse.heartbeat > config.dead_after)
        for name, pulse in pulses.items()
    }
    seen = view(by_name, pulses, now, config)
    halted = frozen(pulses, seen)
    planned = {} if halted else balance([vpc for vpc in vpcs if not vpc.meta.deleting], wanted, seen)
    return [
        _foreseen(
            vpc,
            planned.get(vpc.name, vpc.status.members),
            [one for one in subnets if one.spec.vpc == vpc.name],
            seen,
            halted=halted,
        )
        for vpc in vpcs
    ]


class Rebalancer:
    """The requests and the hosts as the controller has seen them. `clock`: seconds since the epoch. `write`: the
    loop's (`Controller.write`), which knows in which order a VPC and its subnets are written. One thread."""

    def __init__(
        self,
        config: ControllerConfig,
        store: Store,
        clock: Callable[[], float],
        log: Log,
        write: Callable[[Change], None],
    ) -> None:
        self._config, self._store, self._clock, self._log, self._write = config, store, clock, log, write
        self._watches: dict[type[Watermark] | type[NetworkHost], Watch] = {
            cls: store.watch(cls) for cls in (Watermark, NetworkHost)
        }
        self._wishes: dict[str, Watermark] = {}
        self._hosts: dict[str, NetworkHost] = {}
        self._pulses: Mapping[str, Pulse] = {}
        self._due = float("-inf")

    def turn(self) -> None:
        """Look at the requests, when it is time. What may pass is left for the next time: nothing is lost by it."""
        now = self._clock()
        if now < self._due <= now + LOOK_EVERY:
            return
        self._due = now + LOOK_EVERY
        try:
            self._read()
            self._pulses = feel(self._pulses, self._hosts, now, self._config)
            self._serve(now)
        except Temporary:
            return  # the loop meets the same and says so
        except (Conflict, NotFound) as error:
            self._log.say("write refused, reading again", "info", cause=str(error))

    def close(self) -> None:
        for watch in self._watches.values():
            watch.close()

    # --- inside ---

    def _read(self) -> None:
        for watch in self._watches.values():
            for event in watch.poll():
                known: dict[str, Watermark] | dict[str, NetworkHost]
                known = self._wishes if isinstance(event.object, Watermark) else self._hosts
                known.pop(event.object.name, None)
                if event.type == "put" and isinstance(event.object, NetworkHost):
                    self._hosts[event.object.name] = event.object
                elif event.type == "put" and isinstance(event.object, Watermark) and _is_wish(event.object):
                    self._wishes[event.object.name] = event.object

    def _serve(self, now: float) -> None:
        """One step for every VPC: nothing while its set moves, then members that join, at last no request any more."""
        if not self._wishes:
            return
        vpcs = {vpc.name: vpc for vpc in self._store.list(Vpc) if not vpc.meta.deleting}
        hosts = view(self._hosts, self._pulses, now, self._config)
        halted = frozen(self._pulses, hosts)
        wishes = {wish.name.removeprefix(PREFIX): wish for wish in self._wishes.values()}
        planned = {} if halted else balance(list(vpcs.values()), wishes, hosts)
        for name, wish in wishes.items():
            vpc = vpcs.get(name)
            if vpc and name in planned:
                self._write(self._joined(vpc, planned[name], hosts, now))
                self._log.say("rebalancing", vpc=name, joining=_names(m for m in planned[name] if m.state == "joining"))
            elif not vpc or not vpc.status.members or not _waits(vpc, halted=halted):
                self._store.delete(Watermark, wish.name, uid=wish.meta.uid)
                self._log.say("rebalanced", vpc=name, set=_names(vpc.status.members if vpc else ()))

    def _joined(self, vpc: Vpc, members: tuple[SetMember, ...], hosts: Mapping[str, Host], now: float) -> Change:
        subnets = self._store.list(Subnet, {"spec.vpc": vpc.name})
        status = replace(vpc.status, members=members)
        return Change(vpc=vpc, status=status, subnets=bounced(vpc, subnets, members, hosts, now))


def _foreseen(
    vpc: Vpc, members: Sequence[SetMember], subnets: Sequence[Subnet], hosts: Mapping[str, Host], *, halted: bool
) -> Foreseen:
    """`members`: what would be written."""
    names = _names(vpc.status.members)
    waits = _waits(vpc, halted=halted)
    if waits:
        return Foreseen(vpc=vpc.name, set=names, waits=waits, bouncers=_bouncers(subnets, vpc, vpc, hosts))
    if tuple(members) == vpc.status.members:
        return Foreseen(vpc=vpc.name, set=names, bouncers=_bouncers(subnets, vpc, vpc, hosts))
    join = tuple(m.host for m in members if m.state == "joining")
    settled = replace(vpc, status=replace(vpc.status, members=tuple(replace(m, state="active") for m in members)))
    final = placement.place(settled, hosts)
    then = replace(vpc, status=replace(vpc.status, members=tuple(m for m in final if m.state != "leaving")))
    leave = tuple(m.host for m in final if m.state == "leaving")
    return Foreseen(vpc=vpc.name, set=names, join=join, leave=leave, bouncers=_bouncers(subnets, vpc, then, hosts))


def _bouncers(subnets: Sequence[Subnet], now: Vpc, then: Vpc, hosts: Mapping[str, Host]) -> tuple[Bouncers, ...]:
    """Of the VPC's subnets as they are, and with the set of `then`."""
    here, there = ({m.place: m.host for m in vpc.status.members} for vpc in (now, then))
    found = []
    for subnet in subnets:
        current = subnet.status.bouncers
        chosen = current if now is then else placement.bouncers(subnet.name, then, then.status.members, current, hosts)
        found.append(
            Bouncers(
                subnet=subnet.name,
                now=tuple(here[place] for place in current if place in here),
                then=tuple(there[place] for place in chosen if place in there),
            )
        )
    return tuple(found)


def _waits(vpc: Vpc, *, halted: bool) -> str:
    """Why the set is left alone now; "" when it may be changed."""
    if vpc.meta.deleting or not vpc.status.members:
        return "it has no set"
    if halted:
        return "placement is frozen: more than a third of the hosts are silent"
    moving = _names(m for m in vpc.status.members if m.state != "active")
    return f"members are joining or leaving: {', '.join(moving)}" if moving else ""


def _is_wish(mark: Watermark) -> bool:
    return mark.name.startswith(PREFIX)


def _names(members: Iterable[SetMember]) -> tuple[str, ...]:
    return tuple(member.host for member in members)
