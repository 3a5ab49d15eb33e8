"""Claiming an address without an allocator: creating the endpoint's object is the claim. Called by `endpoints`.

Each host begins in its own stretch of a subnet, so that hosts seldom meet; after a few conflicts it reads the subnet's
names instead of guessing on. Requests of one host at the same time meet in `Trying`, before they meet in the store.
"""

from __future__ import annotations

import contextlib
import random
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

from node_agent.model.addresses import Usable, claim_mistakes
from node_agent.model.errors import AlreadyExists, Invalid, NotFound, Permanent, Temporary
from node_agent.model.objects import NetworkEndpoint, NetworkEndpointSpec, Subnet, endpoint_name
from node_agent.model.places import veth_name
from node_agent.model.users import guarded
from node_agent.store.base import Store

GUESSES = 4  # each goes on from another place: a host that was met once would be met at each step
LISTINGS = 8  # between reading the names and creating one, others may be quicker
_STRETCH = 64  # addresses: how far apart two hosts begin at least, in a subnet that is large enough


class Exhausted(Permanent):
    """Every address of the subnet is taken."""


def order(cidr: str, host: str, taken: Collection[str] = ()) -> Iterator[str]:
    """The subnet's addresses in the order in which this host tries them, without those in `taken`. Pure."""
    usable = Usable(cidr)
    if not usable:
        return
    stretch = min(_STRETCH, max(1, len(usable) // 16))
    start = zlib.crc32(f"{host}/{cidr}".encode()) * stretch
    for i in range(len(usable)):
        address = usable[(start + i) % len(usable)]
        if address not in taken:
            yield address


def veth(endpoint: NetworkEndpoint) -> str:
    """Name of the host side of the endpoint's veth. Pure."""
    return veth_name(endpoint.spec.container_id, endpoint.spec.interface)


def of(store: Store, host: str) -> list[NetworkEndpoint]:
    """The endpoints that the host has, is to have, or had until just now; some perhaps twice."""
    return [
        endpoint
        for field in ("spec.host", "status.host", "status.previous_host")
        for endpoint in store.list(NetworkEndpoint, {field: host})
    ]


def find(store: Store, host: str, container_id: str, interface: str) -> list[NetworkEndpoint]:
    """The endpoints that this (host, container, interface) has claimed: none or one, unless something went wrong."""
    return list(
        store.list(NetworkEndpoint, {"spec.host": host, "spec.container_id": container_id, "spec.interface": interface})
    )


class Trying:
    """Names of the endpoints that requests of this process are about to create. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: set[str] = set()

    @contextlib.contextmanager
    def first(self, names: Iterable[str]) -> Iterator[str]:
        """The first that nobody else tries, this request's for the block; "" when there is none."""
        with self._lock:
            found = next((name for name in names if name not in self._names), "")
            self._names.add(found)
        try:
            yield found
        finally:
            with self._lock:
                self._names.discard(found)


@contextlib.contextmanager
def claimed(
    store: Store, vni: int, subnet: Subnet, spec: NetworkEndpointSpec, trying: Trying, taken: Callable[[str], bool]
) -> Iterator[NetworkEndpoint]:
    """The endpoint of this spec, created. `spec.address` "": the first free one; `taken`: whether the endpoint of this
    name is known to be there, which it must be for this one once the block ends.

    Raises Invalid (the address is not the subnet's to give), Permanent (it is somebody else's), Exhausted, Temporary.
    """
    if spec.address:
        if mistakes := claim_mistakes("address", spec.address, subnet.spec.cidr):
            raise Invalid(mistakes)
        made = _create(store, vni, spec, spec.address)
        if made is None:
            raise _taken(store, vni, spec)
        yield made
        return
    met = set[str]()  # taken, as the store said just now
    for turn in range(GUESSES + LISTINGS):
        if turn < GUESSES:
            addresses = order(subnet.spec.cidr, f"{spec.host}/{turn}" if turn else spec.host)
            names: Iterator[str] = (
                name for a in addresses if (name := endpoint_name(vni, a)) not in met and not taken(name)
            )
        else:
            names = _left(store, vni, subnet, spec.host, shuffled=turn > GUESSES)
        with trying.first(names) as name:
            made = _create(store, vni, spec, name.partition("-")[2]) if name else None
            if made:
                yield made
                return
            met.add(name)
    raise Temporary(f"claim address in {subnet.name}: others were quicker {LISTINGS} times")


def _left(store: Store, vni: int, subnet: Subnet, host: str, *, shuffled: bool) -> Iterator[str]:
    """Names of the endpoints that are not there, by the store's word. `shuffled`: two hosts that met would meet at
    each step again. Raises Exhausted."""
    names = {e.spec.address for e in store.list(NetworkEndpoint, {"spec.subnet": subnet.name})}
    left = list(order(subnet.spec.cidr, host, names))
    if not left:
        raise Exhausted(
            f"claim address in {subnet.name}: all {len(Usable(subnet.spec.cidr))} of {subnet.spec.cidr} are taken"
        )
    if shuffled:
        random.shuffle(left)
    return (endpoint_name(vni, address) for address in left)


def _create(store: Store, vni: int, spec: NetworkEndpointSpec, address: str) -> NetworkEndpoint | None:
    """The new object; None: the address is taken."""
    wanted = replace(spec, address=address)
    try:
        return store.create(guarded(NetworkEndpoint(name=endpoint_name(vni, address), spec=wanted)))
    except AlreadyExists:
        return None


def _taken(store: Store, vni: int, spec: NetworkEndpointSpec) -> Permanent | Temporary:
    what = f"claim address {spec.address} in {spec.subnet}"
    try:
        other = store.get(NetworkEndpoint, endpoint_name(vni, spec.address))
    except NotFound:
        return Temporary(f"{what}: it was taken until just now", delay=0.1)
    whose = f"{other.spec.workload or other.spec.container_id} on {other.spec.host}"
    if other.meta.deleting:
        return Temporary(f"{what}: {whose} is giving it back")
    return Permanent(f"{what}: {whose} has it")
