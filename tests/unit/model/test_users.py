from __future__ import annotations

from node_agent.model.objects import (
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkHost,
    NetworkHostSpec,
    NetworkService,
    NetworkServiceSpec,
    Object,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
)
from node_agent.model.users import guarded, users_of, where_users
from node_agent.store.selector import selector

BLUE, RED = (Vpc(name=name, spec=VpcSpec(cidr="10.0.0.0/16")) for name in ("blue", "red"))
WEB = Subnet(name="web", spec=SubnetSpec(vpc="blue", cidr="10.0.0.0/24"))
DB = Subnet(name="db", spec=SubnetSpec(vpc="blue", cidr="10.0.1.0/24"))
HOST, OTHER, UNUSED = (NetworkHost(name=f"host-{n}", spec=NetworkHostSpec(address="198.18.0.11")) for n in (1, 2, 3))
ENDPOINT = NetworkEndpoint(
    name="1000-10.0.0.2",
    status=NetworkEndpointStatus(host="host-1"),
    spec=NetworkEndpointSpec(vpc="blue", subnet="web", address="10.0.0.2", host="host-2", container_id="c"),
)
SERVICE = NetworkService(name="svc", spec=NetworkServiceSpec(vpc="blue", vip="10.0.9.9"))
# Made of a Service of the cluster: it ends with the VPC and does not keep it.
FOLLOWS = NetworkService(name="a.b.blue", spec=NetworkServiceSpec(vpc="blue", vip="10.96.0.9", source="a/b"))
ALL: list[Object] = [BLUE, RED, WEB, DB, HOST, OTHER, UNUSED, ENDPOINT, SERVICE, FOLLOWS]


def test_users() -> None:
    assert users_of(BLUE, ALL) == ("NetworkEndpoint 1000-10.0.0.2", "NetworkService svc", "Subnet db", "Subnet web")
    assert users_of(WEB, ALL) == ("NetworkEndpoint 1000-10.0.0.2",)
    assert users_of(HOST, ALL) == users_of(OTHER, ALL) == ("NetworkEndpoint 1000-10.0.0.2",)
    for unused in (RED, DB, UNUSED, ENDPOINT, SERVICE):
        assert users_of(unused, ALL) == ()


def test_selectors_find_all_users_and_little_else() -> None:
    for obj in (BLUE, RED, WEB, DB):
        wanted = [(cls, selector(cls, where)) for cls, where in where_users(obj)]
        found = [one for one in ALL if any(isinstance(one, cls) and fits.matches(one) for cls, fits in wanted)]
        assert users_of(obj, found) == users_of(obj, ALL)
        assert len(found) - len(users_of(obj, found)) == (obj is BLUE), "the one that ends with its VPC"


def test_guarded() -> None:
    assert guarded(BLUE).meta.finalizers == ("mizar.com/vpc",)
    assert guarded(WEB).meta.finalizers == ("mizar.com/subnet",)
    assert guarded(ENDPOINT).meta.finalizers == ("mizar.com/endpoint",)
    assert guarded(HOST) == HOST
