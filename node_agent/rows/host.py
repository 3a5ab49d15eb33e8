"""Everything a host's maps should hold, and which part of it an event changes. Pure; called by the agent.

`Desired` keeps the image and recomputes, for one event, the rows of the object and, only when it changed what they are
made of, those of its children and parents; a test holds that equal to the image made anew. What an agent need not know
costs nothing: rows come from the objects it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from node_agent.model.objects import NetworkEndpoint, NetworkService, Subnet, Vpc
from node_agent.rows import slots as slot_table
from node_agent.rows.diff import Change, diff
from node_agent.rows.endpoints import Port, endpoint_rows, local_rows, moved_rows
from node_agent.rows.image import MapImage, merged
from node_agent.rows.services import SHARED, Claims, service_rows
from node_agent.rows.subnets import bounces, subnet_rows
from node_agent.rows.vpcs import member, vpc_rows

Known = Vpc | Subnet | NetworkEndpoint | NetworkService
Key = tuple[str, str]  # kind and name of an object
VPC, SUBNET, ENDPOINT, SERVICE = Vpc.kind, Subnet.kind, NetworkEndpoint.kind, NetworkService.kind


@dataclass(frozen=True)
class World:
    """What one host's agent knows.

    `links`: by endpoint name, for the endpoints held here. `slots`: VNI -> flow table.
    `listed`: lists that were seen completely: (VPC, name) its subnets, (SERVICE, name of a VPC) its services, (SUBNET,
    name) its endpoints. `stale`: names of subnets whose endpoints could not be watched for a while. `awaited`: VNIs of
    which an endpoint is being made.
    """

    host: str
    vpcs: Mapping[str, Vpc] = field(default_factory=dict)
    subnets: Mapping[str, Subnet] = field(default_factory=dict)
    endpoints: Mapping[str, NetworkEndpoint] = field(default_factory=dict)
    services: Mapping[str, NetworkService] = field(default_factory=dict)
    links: Mapping[str, Port] = field(default_factory=dict)
    slots: Mapping[int, int] = field(default_factory=dict)
    listed: frozenset[Key] = frozenset()
    stale: frozenset[str] = frozenset()
    awaited: frozenset[int] = frozenset()


def local_vnis(world: World) -> set[int]:
    """VNIs of which an endpoint lives here, or is about to: these need a flow table."""
    held = (world.endpoints[name] for name in world.links if name in world.endpoints)
    vpcs = (world.vpcs[endpoint.spec.vpc] for endpoint in held if endpoint.spec.vpc in world.vpcs)
    awaited = world.awaited & {vpc.status.vni for vpc in world.vpcs.values()} if world.awaited else frozenset()
    return {vpc.status.vni for vpc in vpcs if vpc.status.vni} | awaited


def bounced(world: World) -> set[str]:
    """Names of the subnets whose endpoints this host must know."""
    return {name for name in world.subnets if _bounces(world, name)}


class Desired:
    """The image of a world that changes event by event. Its verbs return the steps that follow the change.

    Not for several threads at once. `world` is a view: its mappings change with every event.
    """

    def __init__(self, world: World) -> None:
        self._vpcs, self._subnets = dict(world.vpcs), dict(world.subnets)
        self._endpoints, self._links = dict(world.endpoints), dict(world.links)
        self._services = dict(world.services)
        self.world = replace(
            world,
            vpcs=self._vpcs,
            subnets=self._subnets,
            endpoints=self._endpoints,
            services=self._services,
            links=self._links,
            slots=slot_table.assign(world.slots, local_vnis(world)),
        )
        self._below: dict[Key, set[Key]] = {}
        self._claims = Claims(self._services.values())
        children: list[Child] = [*self._subnets.values(), *self._endpoints.values(), *self._services.values()]
        for obj in children:
            self._below.setdefault(_parent(obj), set()).add((obj.kind, obj.name))
        self._facts = {key: _facts(self.world, key) for key in _keys(self.world)}
        self._rows = {key: _rows(self.world, self._claims, key) for key in _keys(self.world)}

    def image(self) -> MapImage:
        """All rows, except `config` and `listed`, which no object says (rows.config, rows.listed)."""
        return merged(self._rows.values())

    def rows_of(self, obj: Known) -> MapImage:
        """The rows of one object."""
        return self._rows.get((obj.kind, obj.name), {})

    def put(self, obj: Known) -> list[Change]:
        """An object is new or changed."""
        key = (obj.kind, obj.name)
        dirty, beside = self._unlist(key)
        match obj:
            case Vpc():
                self._vpcs[obj.name] = obj
            case Subnet():
                self._subnets[obj.name] = obj
            case NetworkEndpoint():
                self._endpoints[obj.name] = obj
            case NetworkService():
                self._services[obj.name] = obj
                self._claims.add(obj)
        if not isinstance(obj, Vpc):
            self._below.setdefault(_parent(obj), set()).add(key)
        return self._settle(dirty | {key} | self._above(key) | self._rivals(key), beside | self._beside(key))

    def gone(self, kind: str, name: str) -> list[Change]:
        """An object is no more, or no concern of this host's any more. Absent is fine."""
        dirty, beside = self._unlist((kind, name))
        objects: dict[str, dict[str, Any]] = {
            VPC: self._vpcs,
            SUBNET: self._subnets,
            ENDPOINT: self._endpoints,
            SERVICE: self._services,
        }
        objects[kind].pop(name, None)
        return self._settle(dirty | {(kind, name)}, beside)

    def link(self, name: str, port: Port | None) -> list[Change]:
        """An endpoint has its veth here now; None: it has none any more."""
        key = (ENDPOINT, name)
        dirty = self._above(key) | {key}
        if port:
            self._links[name] = port
        else:
            self._links.pop(name, None)
        return self._settle(dirty | self._above(key))

    def wait_for(self, vnis: Iterable[int]) -> list[Change]:
        """Of which VNIs an endpoint is being made."""
        self.world = replace(self.world, awaited=frozenset(vnis))
        return self._settle(set())

    def know(self, listed: Iterable[Key], stale: Iterable[str] = ()) -> list[Change]:
        """Which lists are complete, and which are old."""
        listed, stale = frozenset(listed), frozenset(stale)
        dirty = {(VPC if kind == SERVICE else kind, name) for kind, name in listed ^ self.world.listed}
        dirty |= {(SUBNET, name) for name in stale ^ self.world.stale}
        self.world = replace(self.world, listed=listed, stale=stale)
        return self._settle(dirty)

    # --- inside ---

    def _settle(self, dirty: set[Key], beside: Iterable[Key] = ()) -> list[Change]:
        """Recompute what is dirty and what that makes dirty; the changes of all of it as one ordered list. `beside`:
        services whose rows stay as they are, and with them every row of a backend that they share with a dirty one."""
        dirty = self._spread(dirty | self._reslot())
        shared = merged({SHARED: self._rows.get(key, {}).get(SHARED, {})} for key in set(beside) - dirty)
        before = merged((shared, *(self._rows.get(key, {}) for key in dirty)))
        for key in dirty:
            self._rows[key] = _rows(self.world, self._claims, key)
            if not self._rows[key]:
                del self._rows[key]
        return diff(before, merged((shared, *(self._rows.get(key, {}) for key in dirty))))

    def _spread(self, dirty: set[Key]) -> set[Key]:
        """Adds the children of objects whose facts changed: theirs are made of them."""
        found, todo = set(dirty), list(dirty)
        while todo:
            key = todo.pop()
            facts = _facts(self.world, key)
            if facts == self._facts.get(key, _NONE):
                continue
            self._facts[key] = facts
            if facts == _NONE:
                del self._facts[key]
            for child in self._below.get(key, set()) - found:
                found.add(child)
                todo.append(child)
        return found

    def _reslot(self) -> set[Key]:
        """Flow tables for exactly the VPCs that live here; returns whose rows name another table now."""
        old, needed = self.world.slots, local_vnis(self.world)
        if needed == set(old):
            return set()
        new = slot_table.assign(old, needed)
        self.world = replace(self.world, slots=new)
        moved = {vni for vni in {*old, *new} if old.get(vni) != new.get(vni)}
        names = {name for name, vpc in self._vpcs.items() if vpc.status.vni in moved}
        return {(VPC, name) for name in names} | {
            (ENDPOINT, name)
            for name in self._links
            if name in self._endpoints and self._endpoints[name].spec.vpc in names
        }

    def _above(self, key: Key) -> set[Key]:
        """The subnet of an endpoint held here: its row exists because of it."""
        endpoint = self._endpoints.get(key[1]) if key[0] == ENDPOINT and key[1] in self._links else None
        return {(SUBNET, endpoint.spec.subnet)} if endpoint else set()

    def _rivals(self, key: Key) -> set[Key]:
        """The services of the same VIP: which of them has it may change."""
        service = self._services.get(key[1]) if key[0] == SERVICE else None
        return {(SERVICE, name) for name in self._claims.rivals(service)} if service else set()

    def _beside(self, key: Key) -> set[Key]:
        """The services that may share rows with this one: none of these goes while another needs it."""
        service = self._services.get(key[1]) if key[0] == SERVICE else None
        return {(SERVICE, name) for name in self._claims.peers(service)} if service else set()

    def _unlist(self, key: Key) -> tuple[set[Key], set[Key]]:
        """Takes the object as it was from its parent's children; returns the others whose rows that may change, and
        those beside."""
        kind, name = key
        old: Child | None = None
        if kind == SUBNET:
            old = self._subnets.get(name)
        elif kind == ENDPOINT:
            old = self._endpoints.get(name)
        elif kind == SERVICE:
            old = self._services.get(name)
        others = self._above(key) | self._rivals(key), self._beside(key)
        if isinstance(old, NetworkService):
            self._claims.remove(old)
        if old is not None:
            below = self._below.get(_parent(old), set())
            below.discard(key)
            if not below:
                self._below.pop(_parent(old), None)
        return others


Child = Subnet | NetworkEndpoint | NetworkService
_NONE: tuple[object, ...] = ()


def _keys(world: World) -> list[Key]:
    return (
        [(VPC, name) for name in world.vpcs]
        + [(SUBNET, name) for name in world.subnets]
        + [(ENDPOINT, name) for name in world.endpoints]
        + [(SERVICE, name) for name in world.services]
    )


def _parent(obj: Child) -> Key:
    return (SUBNET, obj.spec.subnet) if isinstance(obj, NetworkEndpoint) else (VPC, obj.spec.vpc)


def _bounces(world: World, name: str) -> bool:
    subnet = world.subnets[name]
    return bounces(subnet, world.vpcs.get(subnet.spec.vpc), world.host)


def _facts(world: World, key: Key) -> tuple[object, ...]:
    """What the rows of an object's children are made of, besides themselves."""
    kind, name = key
    if kind == VPC and name in world.vpcs:
        vpc = world.vpcs[name]
        own = member(vpc, world.host)
        return vpc.status.vni, own.place if own else None
    if kind == SUBNET and name in world.subnets:
        subnet = world.subnets[name]
        vni = world.vpcs[subnet.spec.vpc].status.vni if subnet.spec.vpc in world.vpcs else 0
        return vni, subnet.spec.cidr, _bounces(world, name)
    return _NONE


def _rows(world: World, claims: Claims, key: Key) -> MapImage:
    """The rows of one object; with its helpers the only place that knows which functions make them."""
    match key:
        case (Vpc.kind, name):
            return _rows_of_vpc(world, name)
        case (Subnet.kind, name):
            return _rows_of_subnet(world, name)
        case (NetworkService.kind, name):
            service = world.services.get(name)
            vpc = world.vpcs.get(service.spec.vpc) if service else None
            if service is None or vpc is None or not claims.has_vip(service):
                return {}
            return service_rows(service, vpc, world.host)
    return _rows_of_endpoint(world, key[1])


def _rows_of_vpc(world: World, name: str) -> MapImage:
    vpc = world.vpcs.get(name)
    if vpc is None:
        return {}
    listed = {(VPC, name), (SERVICE, name)} <= world.listed
    return vpc_rows(vpc, world.host, slot=world.slots.get(vpc.status.vni, 0), listed=listed)


def _rows_of_subnet(world: World, name: str) -> MapImage:
    subnet = world.subnets.get(name)
    vpc = world.vpcs.get(subnet.spec.vpc) if subnet else None
    if subnet is None or vpc is None:
        return {}
    listed, stale = (SUBNET, name) in world.listed, name in world.stale
    local = any(other in world.endpoints and world.endpoints[other].spec.subnet == name for other in world.links)
    return subnet_rows(subnet, vpc, world.host, local=local, listed=listed, stale=stale)


def _rows_of_endpoint(world: World, name: str) -> MapImage:
    endpoint = world.endpoints.get(name)
    subnet = world.subnets.get(endpoint.spec.subnet) if endpoint else None
    vpc = world.vpcs.get(endpoint.spec.vpc) if endpoint else None
    if endpoint is None or subnet is None or vpc is None:
        return {}
    vni = vpc.status.vni
    known = endpoint_rows(endpoint, subnet, vni) if bounces(subnet, vpc, world.host) else {}
    held = local_rows(endpoint, subnet, vni, slot=world.slots.get(vni, 0), port=world.links.get(name))
    return merged((known, held or moved_rows(endpoint, vni, world.host)))
