"""Who uses an object, and which finalizers keep it until nobody does. Pure.

Called by the providers (which refuse to delete what is used, naming the users), by the agents (which make endpoints)
and by the controller (which lifts the finalizers of VPCs and subnets). A check before a delete cannot see a user that
comes into being in that same moment; the finalizer closes the gap: the object stays, marked as deleting, until the
last user has gone, and whoever finds its parent deleting makes no new user.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from node_agent.model.objects import NetworkEndpoint, NetworkHost, NetworkService, Object, Subnet, Vpc

T = TypeVar("T", bound=Object)

VPC_FINALIZER = "mizar.com/vpc"
SUBNET_FINALIZER = "mizar.com/subnet"
ENDPOINT_FINALIZER = "mizar.com/endpoint"
"""Lifted by the agent that holds the endpoint; by the controller when that agent's host is dead or removed."""

FINALIZERS: dict[str, tuple[str, ...]] = {
    Vpc.kind: (VPC_FINALIZER,),
    Subnet.kind: (SUBNET_FINALIZER,),
    NetworkEndpoint.kind: (ENDPOINT_FINALIZER,),
}


def guarded(obj: T) -> T:
    """The object with the finalizers of its kind: what is handed to Store.create."""
    meta = dataclasses.replace(obj.meta, finalizers=FINALIZERS.get(obj.kind, ()))
    return dataclasses.replace(obj, meta=meta)


def users_of(obj: Object, objects: Iterable[Object]) -> tuple[str, ...]:
    """Those of `objects` that need `obj`, as sorted "<kind> <name>".

    A VPC is used by its subnets, endpoints and services, except those that end with it, a subnet by its endpoints, a
    host by the endpoints that are meant for it or held by it.
    """
    return tuple(sorted(f"{other.kind} {other.name}" for other in objects if _uses(other, obj)))


def where_users(obj: Vpc | Subnet) -> Sequence[tuple[type[Object], Mapping[str, str]]]:
    """(kind, selector of `Store.list`) that together find all users of the object, so that nobody has to list a whole
    store for them. `users_of` leaves out those that do not count."""
    if isinstance(obj, Subnet):
        return [(NetworkEndpoint, {"spec.subnet": obj.name})]
    return [(kind, {"spec.vpc": obj.name}) for kind in (Subnet, NetworkEndpoint, NetworkService)]


def ends_with_vpc(obj: Object) -> bool:
    """Whether it is no user of its VPC: what the controller makes of a cluster's Services goes when the VPC does."""
    return isinstance(obj, NetworkService) and bool(obj.spec.source)


def _uses(other: Object, obj: Object) -> bool:
    match obj:
        case Vpc():
            user = isinstance(other, Subnet | NetworkEndpoint | NetworkService) and other.spec.vpc == obj.name
            return user and not ends_with_vpc(other)
        case Subnet():
            return isinstance(other, NetworkEndpoint) and other.spec.subnet == obj.name
        case NetworkHost():
            return isinstance(other, NetworkEndpoint) and obj.name in (other.spec.host, other.status.host)
    return False
