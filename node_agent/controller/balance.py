"""Sets in which every host has as many roles as any other, give or take one. Pure; called by `rebalance`.

Each VPC in its turn takes the hosts with the fewest places in other VPCs' sets, its own members first where there is a
tie, until nobody wants to change: then no two hosts differ by more than one place (if they did, some VPC has the one
and not the other, and would change). What `placement` does by rendezvous is even only for many VPCs, and moves nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from node_agent.controller import placement
from node_agent.controller.liveness import Host
from node_agent.model.objects import SetMember, Vpc

ROUNDS = 50
"""Far more than it takes; zones come before evenness, and so might send two VPCs round and round."""


def balance(
    vpcs: Sequence[Vpc], wanted: Collection[str], hosts: Mapping[str, Host]
) -> dict[str, tuple[SetMember, ...]]:
    """Members to write, by VPC name, for those of the `wanted` VPCs whose set should change; the others' sets count
    but stay. A VPC with a member that is joining or leaving is left alone.

    New members are *joining*, and each names the place of the member it comes for: that one serves until nobody is
    joining any more, and then `placement.place` dismisses it. A set without room for all of it at once takes several
    calls.
    """
    stay = {vpc.name: _staying(vpc.status.members) for vpc in vpcs}
    moving = [vpc for vpc in sorted(vpcs, key=lambda vpc: vpc.name) if vpc.name in wanted and _rests(vpc)]
    load = Counter(host for names in stay.values() for host in names)
    for _ in range(ROUNDS):
        changed = False
        for vpc in moving:
            own = stay[vpc.name]
            load.subtract(own)
            stay[vpc.name] = _best(vpc, own, hosts, load)
            load.update(stay[vpc.name])
            changed = changed or stay[vpc.name] != own
        if not changed:
            break
    planned = {vpc.name: _written(vpc, stay[vpc.name], hosts) for vpc in moving}
    return {vpc.name: planned[vpc.name] for vpc in moving if planned[vpc.name] != vpc.status.members}


def _rests(vpc: Vpc) -> bool:
    return bool(vpc.status.members) and all(member.state == "active" for member in vpc.status.members)


def _staying(members: Collection[SetMember]) -> frozenset[str]:
    """Hosts of the set once everything that is on its way has happened."""
    replaced = {member.replaces for member in members}
    return frozenset(m.host for m in members if m.state != "leaving" and m.place not in replaced)


def _best(vpc: Vpc, own: Collection[str], hosts: Mapping[str, Host], load: Mapping[str, int]) -> frozenset[str]:
    """The hosts that would serve the VPC if it could choose anew. `own`: its own, which may be chosen again; `load`:
    places that hosts have in other sets."""
    serving = {member.host for member in vpc.status.members}
    candidates = [
        host for host in hosts.values() if host.eligible or (host.name in serving and host.alive and not host.drain)
    ]

    def rank(host: Host) -> tuple[int, bool]:
        return load.get(host.name, 0), host.name not in own

    return frozenset(host.name for host in placement.choose(vpc.name, candidates, vpc.spec.set_size, rank=rank))


def _written(vpc: Vpc, stay: Collection[str], hosts: Mapping[str, Host]) -> tuple[SetMember, ...]:
    members = vpc.status.members
    serving, used = {member.host for member in members}, {member.place for member in members}
    # In the order of the hosts' names: the same from the same state, whoever asks.
    new = [hosts[name] for name in sorted(stay) if name not in serving]
    going = [member.place for member in members if member.host not in stay]
    free = [place for place in range(placement.PLACES) if place not in used]
    joining = [
        replace(member, replaces=going[number] if number < len(going) else -1)
        for number, member in enumerate(placement.joining(free, new))
    ]
    return tuple(sorted((*members, *joining), key=lambda member: member.place))
