"""Which hosts serve which VPC and bounce which subnet. Pure; called by `plan`.

Rendezvous hashing: every (VPC, host) has a score, and empty places go to the highest scores. Who holds a place keeps
it while it lives and is not drained, so a new host changes nothing, and a host that dies costs each VPC it served
exactly one exchange.

A member that comes while others serve is *joining* until every host with rows of the VPC knows it (nobody asks it
before), one that goes is *leaving* for a while (it still answers). Room is made first and surplus leaves afterwards:
that one rule carries drains, smaller sets and rebalancing (`balance`).
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from node_agent.controller.liveness import Host
from node_agent.model.objects import ALL_BOUNCE, MemberState, SetMember, Vpc

PLACES = 16
"""Places are bits of a 16-bit mask on the wire side of things."""


def score(owner: str, host: str) -> int:
    """Rendezvous score of a host for a VPC or a subnet; the same in every process and on every day."""
    return int.from_bytes(hashlib.blake2b(f"{owner}/{host}".encode(), digest_size=8).digest(), "big")


def choose(
    owner: str,
    candidates: Iterable[Host],
    number: int,
    beside: Iterable[Host] = (),
    *,
    rank: Callable[[Host], tuple[int, ...]] = lambda host: (),
) -> list[Host]:
    """At most `number` of the candidates, best first: those in the zones least used (also by `beside`), among these
    the lowest ranks, among these the highest scores."""
    if number <= 0:
        return []  # the usual case, and scores cost time
    contenders = _contenders(candidates, number, rank)
    left = sorted(contenders, key=lambda host: (rank(host), -score(owner, host.name), host.name))
    zones = Counter(host.zone for host in beside)
    chosen: list[Host] = []
    while left and len(chosen) < number:
        best = min(left, key=lambda host: zones[host.zone])  # the first of the least: order of scores
        left.remove(best)
        zones[best.zone] += 1
        chosen.append(best)
    return chosen


def _contenders(candidates: Iterable[Host], number: int, rank: Callable[[Host], tuple[int, ...]]) -> list[Host]:
    """Without those that cannot be chosen whatever their scores: where so many of their own zone rank lower. Scores
    cost far more than ranks."""
    zones: dict[str, list[tuple[tuple[int, ...], Host]]] = {}
    for host in candidates:
        zones.setdefault(host.zone, []).append((rank(host), host))
    found = []
    for ranked in zones.values():
        last = max(heapq.nsmallest(number, (each for each, _ in ranked)))
        found += [host for each, host in ranked if each <= last]
    return found


def place(
    vpc: Vpc,
    hosts: Mapping[str, Host],
    *,
    known: Collection[int] = (),
    spent: Collection[int] = (),
    frozen: bool = False,
) -> tuple[SetMember, ...]:
    """The VPC set that is to stand now, by place.

    `known`: places of joining members that every host knows by now. `spent`: places of leaving members whose time is
    over. `frozen`: a set that exists stays as it is.
    """
    members = {member.place: member for member in vpc.status.members}
    if members and frozen:
        return vpc.status.members
    members = _advance(members, hosts, known, spent)
    members = _fill(vpc, members, hosts)
    return _by_place(_dismiss(vpc, members, hosts))


def bouncers(
    subnet: str,
    vpc: Vpc,
    members: Collection[SetMember],
    current: Collection[int],
    hosts: Mapping[str, Host],
    *,
    frozen: bool = False,
) -> tuple[int, ...]:
    """Places of the members that know the subnet's endpoints, ascending.

    Of those that are to stay all, while these are no more than three. Else the VPC's `bouncers` of them: those that
    bounce it already, the rest by rendezvous. A drained member stays besides, until it is leaving, and whoever leaves
    or will leave knows what it knew to its last moment: some hosts hear late that it is not to be asked.
    """
    standing = {member.place: member for member in members}
    if frozen and current and standing.keys() >= set(current):
        return tuple(sorted(current))
    replaced = {member.replaces for member in members}
    standing = {p: m for p, m in standing.items() if m.state != "leaving" and p not in replaced}
    departing = {member.place for member in members if member.place not in standing} & set(current)
    if len(standing) <= ALL_BOUNCE:
        return tuple(sorted({*standing, *departing}))

    def rank(place: int) -> tuple[int, str]:
        return -score(subnet, standing[place].host), standing[place].host

    alive = {p for p, m in standing.items() if (host := hosts.get(m.host)) and host.alive}
    drained = {p for p, m in standing.items() if (host := hosts.get(m.host)) and host.drain}
    kept = sorted(set(current) & (alive - drained), key=rank)[: vpc.spec.bouncers]
    fresh = sorted(
        standing.keys() - kept - drained,
        key=lambda place: (place not in alive, standing[place].state != "active", *rank(place)),
    )
    chosen = {*kept, *fresh[: vpc.spec.bouncers - len(kept)], *(set(current) & drained)}
    return tuple(sorted(chosen | departing))


def _advance(
    members: dict[int, SetMember], hosts: Mapping[str, Host], known: Collection[int], spent: Collection[int]
) -> dict[int, SetMember]:
    """Without the removed and the departed; with new addresses; joining ones active where they are known."""
    after = {}
    for place, member in members.items():
        host = hosts.get(member.host)
        if host is None or (member.state == "leaving" and (place in spent or not host.alive)):
            continue
        if member.address != host.address:
            state: MemberState = "leaving" if member.state == "leaving" else "joining"
            member = replace(member, address=host.address, state=state)
        elif member.state == "joining" and place in known:
            member = replace(member, state="active")
        after[place] = member
    return _serving(_forgetting(after, lambda place: place not in after), hosts)


def _fill(vpc: Vpc, members: dict[int, SetMember], hosts: Mapping[str, Host]) -> dict[int, SetMember]:
    """New members into the places of dead ones and into empty ones. Drained members do not count as members, so that
    their successors join beside them. A dead member that nobody can replace stays: it may come back."""
    standing = {p: m for p, m in members.items() if m.state != "leaving"}
    counted = [m for m in standing.values() if hosts[m.host].alive and not hosts[m.host].drain]
    names = {member.host for member in members.values()}
    chosen = choose(
        vpc.name,
        (host for host in hosts.values() if host.eligible and host.name not in names),
        vpc.spec.set_size - len(counted),
        [hosts[m.host] for m in counted],
    )
    dead = [p for p in sorted(standing) if not hosts[standing[p].host].alive]
    free = [p for p in range(PLACES) if p not in members]
    # A set with all places taken cannot make before it breaks: there a successor gets the drained one's place.
    drained = [p for p in sorted(standing) if p not in dead and hosts[standing[p].host].drain]
    new = {member.place: member for member in joining([*dead, *free, *drained], chosen)}
    return _serving(_forgetting(members, lambda place: place in new) | new, hosts)


def joining(places: Iterable[int], hosts: Iterable[Host]) -> list[SetMember]:
    """Joining members for the hosts in these places, while there are both."""
    return [
        SetMember(place=place, host=host.name, address=host.address, state="joining")
        for place, host in zip(places, hosts, strict=False)
    ]


def _forgetting(members: dict[int, SetMember], gone: Callable[[int], bool]) -> dict[int, SetMember]:
    """Without the memory of whom a member came for, where that one's place is empty or another's by now."""
    return {p: replace(m, replaces=-1) if m.replaces >= 0 and gone(m.replaces) else m for p, m in members.items()}


def _serving(members: dict[int, SetMember], hosts: Mapping[str, Host]) -> dict[int, SetMember]:
    """Where nobody that lives is active there is nobody to wait for: joining members serve at once."""
    if any(member.state == "active" and hosts[member.host].alive for member in members.values()):
        return members
    return {p: replace(m, state="active") if m.state == "joining" else m for p, m in members.items()}


def _dismiss(vpc: Vpc, members: dict[int, SetMember], hosts: Mapping[str, Host]) -> dict[int, SetMember]:
    """Surplus members leave, once nobody is joining any more: drained ones first, then those that others came for,
    then those that an empty cluster would not have chosen, the lowest scores first. Where there are fewer hosts than
    places, a drained member leaves without a successor, unless nobody else that lives serves."""
    standing = [member for member in members.values() if member.state != "leaving"]
    if any(member.state == "joining" for member in standing):
        return members
    surplus = len(standing) - vpc.spec.set_size
    if surplus <= 0:
        # No drained member waits for hosts that do not exist: there may be as many members as hosts that stay.
        surplus = len(standing) - sum(not host.drain for host in hosts.values())
        others = [member for member in standing if not hosts[member.host].drain]
        if surplus <= 0 or not any(hosts[member.host].alive for member in others):
            return members
        standing = [member for member in standing if hosts[member.host].drain]
    ideal, replaced = _ideal(vpc, members, hosts), {member.replaces for member in standing}

    def worth(member: SetMember) -> tuple[bool, bool, bool, bool, int]:
        host = hosts[member.host]
        wanted = member.place not in replaced
        return host.alive, not host.drain, wanted, member.host in ideal, score(vpc.name, member.host)

    leaving = {member.place for member in sorted(standing, key=worth)[:surplus]}
    return {p: replace(m, state="leaving") if p in leaving else m for p, m in members.items()}


def _ideal(vpc: Vpc, members: Mapping[int, SetMember], hosts: Mapping[str, Host]) -> list[str]:
    """Names of the hosts that would serve the VPC if it were new; its living members may be chosen again."""
    names = {member.host for member in members.values() if member.state != "leaving"}
    candidates = [
        host for host in hosts.values() if host.eligible or (host.name in names and host.alive and not host.drain)
    ]
    return [host.name for host in choose(vpc.name, candidates, vpc.spec.set_size)]


def _by_place(members: Mapping[int, SetMember]) -> tuple[SetMember, ...]:
    return tuple(members[place] for place in sorted(members))
