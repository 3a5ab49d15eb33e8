"""What the controller does about the state of the network: state and memory in, writes and memory out. Pure.

`loop` reads the state, calls `plan`, and writes. Everything that is lost when the controller dies is in Memory, and
all of it may be lost: timers start anew (later, never earlier), and a host that came back from the dead just before
is believed at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from node_agent.controller import conditions, usage
from node_agent.controller.garbage import Lift, orphans, unused
from node_agent.controller.liveness import Host, Pulse, feel, frozen, view
from node_agent.controller.placement import bouncers, place
from node_agent.controller.vnis import MARK, assign
from node_agent.model.config import ControllerConfig
from node_agent.model.objects import (
    NetworkEndpoint,
    NetworkHost,
    NetworkService,
    SetMember,
    Subnet,
    SubnetStatus,
    Vpc,
    VpcStatus,
    Watermark,
)

JOINING = 60.0
"""Seconds after which a member is active even though some host has not reported to know it."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything that the controller watches, by name."""

    vpcs: Mapping[str, Vpc] = field(default_factory=dict)
    subnets: Mapping[str, Subnet] = field(default_factory=dict)
    endpoints: Mapping[str, NetworkEndpoint] = field(default_factory=dict)
    services: Mapping[str, NetworkService] = field(default_factory=dict)
    hosts: Mapping[str, NetworkHost] = field(default_factory=dict)
    marks: Mapping[str, Watermark] = field(default_factory=dict)


# A member in one of its states: uid of its VPC, and itself.
MemberKey = tuple[str, SetMember]


@dataclass(frozen=True, kw_only=True)
class Since:
    """When a joining or leaving member was first seen so, and the VPC's resource version of that moment."""

    at: float
    resource_version: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Starts empty."""

    pulses: Mapping[str, Pulse] = field(default_factory=dict)
    members: Mapping[MemberKey, Since] = field(default_factory=dict)
    frozen: bool = False


@dataclass(frozen=True, kw_only=True)
class Change:
    """A new status for one VPC and for subnets of it. `loop` knows their order; a refusal ends the group."""

    vpc: Vpc
    status: VpcStatus
    subnets: tuple[tuple[Subnet, SubnetStatus], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A subnet whose VPC is not seen, and what it is to be told if there is none."""

    subnet: Subnet
    status: SubnetStatus


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Writes in their order: the watermark, then the changes, the lost, the lifts. `loop` looks again before it does
    the last two. `notes`: what a person should know of the rest."""

    memory: Memory
    mark: int | None = None
    changes: tuple[Change, ...] = ()
    lost: tuple[Lost, ...] = ()
    lifts: tuple[Lift, ...] = ()
    notes: tuple[dict[str, Any], ...] = ()


def plan(state: State, memory: Memory, now: float, config: ControllerConfig) -> Plan:
    """The writes that bring the network from `state` to what it should be. Doing them leaves nothing to do, until
    something happens or a timer ends."""
    pulses = feel(memory.pulses, state.hosts, now, config)
    hosts = view(state.hosts, pulses, now, config)
    is_frozen = frozen(pulses, hosts)
    since = _since(state, memory, now)
    vnis, mark = _vnis(state)
    holders = _holders(state)
    subnets_of = defaultdict(list)
    for subnet in state.subnets.values():
        subnets_of[subnet.spec.vpc].append(subnet)

    users = usage.users(state.subnets.values(), state.endpoints.values(), state.services.values())

    changes = []
    for vpc in state.vpcs.values():
        if vpc.meta.deleting and not vpc.status.members:
            continue  # one that serves is kept working for the users that still hold it
        known, spent = _progress(vpc, state, hosts, holders[vpc.name], since, now, config)
        members = place(vpc, hosts, known=known, spent=spent, frozen=is_frozen)
        status = VpcStatus(
            vni=vnis.get(vpc.name, vpc.status.vni), members=members, observed_generation=vpc.meta.generation
        )
        in_use = usage.in_use(vpc, users, conditions.stamp(now))
        status = replace(status, conditions=conditions.of_vpc(vpc, status, now) + in_use)
        subnets = bounced(vpc, subnets_of[vpc.name], members, hosts, now, users, frozen=is_frozen)
        if status != vpc.status or subnets:
            changes.append(Change(vpc=vpc, status=status, subnets=subnets))

    lifts = orphans(state.endpoints.values(), hosts, frozen=is_frozen)
    lifts += unused(state.vpcs.values(), state.subnets.values(), state.endpoints.values(), state.services.values())
    return Plan(
        memory=Memory(pulses=pulses, members=since, frozen=is_frozen),
        mark=mark,
        changes=tuple(changes),
        lost=tuple(_lost(state, subnets_of, users, now)),
        lifts=tuple(lifts),
        notes=tuple(_notes(memory, pulses, is_frozen, changes)),
    )


def _vnis(state: State) -> tuple[dict[str, int], int | None]:
    """VNIs for VPCs without one, the older VPC first, and the watermark to write before, if any."""
    waiting = sorted(
        (vpc for vpc in state.vpcs.values() if not vpc.status.vni and not vpc.meta.deleting),
        key=lambda vpc: (vpc.meta.resource_version, vpc.name),
    )
    if not waiting:
        return {}, None
    found = state.marks.get(MARK)
    used = {vpc.status.vni for vpc in state.vpcs.values()}
    vnis, mark = assign(len(waiting), used, found.status.value if found else None)
    return {vpc.name: vni for vpc, vni in zip(waiting, vnis, strict=False)}, mark


def _holders(state: State) -> defaultdict[str, set[str]]:
    """Per VPC, the hosts with an endpoint of it, or about to get one."""
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for endpoint in state.endpoints.values():
        holders[endpoint.spec.vpc] |= {endpoint.spec.host, endpoint.status.host} - {""}
    return holders


def _since(state: State, memory: Memory, now: float) -> dict[MemberKey, Since]:
    """One entry per member that is joining or leaving, older ones kept."""
    since = {}
    for vpc in state.vpcs.values():
        for member in vpc.status.members:
            if member.state != "active":
                key = (vpc.meta.uid, member)
                fresh = Since(at=now, resource_version=vpc.meta.resource_version)
                since[key] = memory.members.get(key, fresh)
    return since


def _progress(
    vpc: Vpc,
    state: State,
    hosts: Mapping[str, Host],
    holders: Collection[str],
    since: Mapping[MemberKey, Since],
    now: float,
    config: ControllerConfig,
) -> tuple[set[int], set[int]]:
    """Places of joining members that all who must know them do, and of leaving ones whose time is over.

    Who must know: living hosts with an endpoint of the VPC, and living members. They report the VPC's resource version
    whose rows they hold.
    """
    known: set[int] = set()
    spent: set[int] = set()
    moving = [member for member in vpc.status.members if member.state != "active"]
    if not moving:
        return known, spent
    names = {*holders, *(member.host for member in vpc.status.members)}
    alive = [state.hosts[name] for name in names if name in hosts and hosts[name].alive]
    reported = min((host.status.generations.get(vpc.name, 0) for host in alive), default=0)
    for member in moving:
        begun = since[vpc.meta.uid, member]
        if member.state == "leaving":
            if now - begun.at >= config.leaving:
                spent.add(member.place)
        elif reported >= begun.resource_version or now - begun.at >= JOINING:
            known.add(member.place)
    return known, spent


def bounced(
    vpc: Vpc,
    subnets: Collection[Subnet],
    members: Collection[SetMember],
    hosts: Mapping[str, Host],
    now: float,
    users: Mapping[usage.Key, Sequence[usage.User]] | None = None,
    *,
    frozen: bool = False,
) -> tuple[tuple[Subnet, SubnetStatus], ...]:
    """New status of those subnets of the VPC that need one once it has these members. `users`: None leaves what is
    said of them. Called by `rebalance` too."""
    changes = []
    mistakes = conditions.mistakes(vpc, subnets)
    for subnet in subnets:
        wrong = mistakes.get(subnet.name)
        chosen = () if wrong else bouncers(subnet.name, vpc, members, subnet.status.bouncers, hosts, frozen=frozen)
        in_use = usage.said(subnet) if users is None else usage.in_use(subnet, users, conditions.stamp(now))
        status = replace(
            subnet.status,
            bouncers=chosen,
            observed_generation=subnet.meta.generation,
            conditions=conditions.of_subnet(subnet, chosen, wrong, now) + in_use,
        )
        if status != subnet.status and not subnet.meta.deleting:
            changes.append((subnet, status))
    return tuple(changes)


def _lost(
    state: State,
    subnets_of: Mapping[str, Collection[Subnet]],
    users: Mapping[usage.Key, Sequence[usage.User]],
    now: float,
) -> list[Lost]:
    """Subnets that name no VPC, where that is still to be said. Their bouncers stay what they were: nobody bounces for
    a VPC without rows."""
    found = []
    for name in sorted(subnets_of.keys() - state.vpcs.keys()):
        for subnet in subnets_of[name]:
            told = conditions.no_vpc(subnet, now) + usage.in_use(subnet, users, conditions.stamp(now))
            status = replace(subnet.status, observed_generation=subnet.meta.generation, conditions=told)
            if status != subnet.status and not subnet.meta.deleting:
                found.append(Lost(subnet=subnet, status=status))
    return found


def _notes(
    memory: Memory, pulses: Mapping[str, Pulse], is_frozen: bool, changes: Collection[Change]
) -> list[dict[str, Any]]:
    """Fields of one log line each."""
    notes: list[dict[str, Any]] = []
    for name, pulse in pulses.items():
        before = memory.pulses.get(name)
        if pulse.dead and not (before and before.dead):
            notes.append({"event": "host dead", "host": name})
        elif before and before.dead and not pulse.dead:
            notes.append({"event": "host returned", "host": name})
    if is_frozen != memory.frozen:
        notes.append(
            {
                "event": "placement frozen: more than a third of the hosts look dead"
                if is_frozen
                else "placement no longer frozen"
            }
        )
    for change in changes:
        if not change.status.vni:
            notes.append({"event": "no VNI is free", "level": "error", "vpc": change.vpc.name})
        if change.status != change.vpc.status:
            set_now = {str(m.place): f"{m.host} {m.state}" for m in change.status.members}
            notes.append({"event": "vpc", "vpc": change.vpc.name, "vni": change.status.vni, "set": set_now})
        notes += [
            {"event": "subnet", "subnet": subnet.name, "bouncers": list(status.bouncers)}
            for subnet, status in change.subnets
        ]
    return notes
