"""The VPC and subnet that an endpoint is to be made in, and who has to know of it. Called by `endpoints`.

What this host watches is good enough to say yes by, and spares two questions to the store; nothing is refused by it, as
what it lacks may just not have been told yet.
"""

from __future__ import annotations

from collections.abc import Mapping

from node_agent.agent import acknowledge
from node_agent.cni.protocol import Request
from node_agent.model.errors import Invalid, NotFound, Temporary
from node_agent.model.objects import Subnet, Vpc
from node_agent.rows.host import World
from node_agent.store.base import Store, T

Parents = tuple[Vpc, Subnet, Mapping[str, str]]


def parents(request: Request, world: World, store: Store) -> Parents:
    """VPC, subnet, and host -> underlay address of the bouncers that may be asked. Raises Invalid, Temporary, and what
    the store raises."""
    known = world.vpcs.get(request.vpc), world.subnets.get(request.subnet)
    if not _mistakes(request, *known) and (found := _usable(*known)):
        return found
    asked = _get(store, Vpc, request.vpc), _get(store, Subnet, request.subnet)
    if mistakes := _mistakes(request, *asked):
        raise Invalid(mistakes)
    if found := _usable(*asked):
        return found
    vpc = asked[0]
    if vpc and not vpc.status.vni:
        raise Temporary(f"add endpoint to {vpc.name}: the controller has not given it a VNI yet")
    raise Temporary(f"add endpoint to {request.subnet}: none of its bouncers may be asked yet")


def _mistakes(request: Request, vpc: Vpc | None, subnet: Subnet | None) -> list[str]:
    found = []
    if vpc is None:
        found.append(f"vpc: there is no VPC {request.vpc!r}")
    if subnet is None:
        found.append(f"subnet: there is no subnet {request.subnet!r}")
    if subnet and subnet.spec.vpc != request.vpc:
        found.append(f"subnet: {request.subnet} belongs to VPC {subnet.spec.vpc}, not to {request.vpc}")
    found += [f"{obj.kind.lower()}: {obj.name} is being removed" for obj in (vpc, subnet) if obj and obj.meta.deleting]
    return found


def _usable(vpc: Vpc | None, subnet: Subnet | None) -> Parents | None:
    if vpc is None or subnet is None or not vpc.status.vni:
        return None
    asked = acknowledge.bouncers(vpc, subnet)
    return (vpc, subnet, asked) if asked else None


def _get(store: Store, cls: type[T], name: str) -> T | None:
    try:
        return store.get(cls, name)
    except NotFound:
        return None
