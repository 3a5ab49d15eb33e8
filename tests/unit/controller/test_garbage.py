from __future__ import annotations

import pytest

from node_agent.controller.garbage import orphans, unused
from node_agent.controller.liveness import Host
from node_agent.model.objects import (
    Meta,
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkService,
    NetworkServiceSpec,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
)
from node_agent.model.users import FINALIZERS

HOSTS = {"alive": Host(name="alive", address="a"), "dead": Host(name="dead", address="b", alive=False)}


def endpoint(wanted: str, held: str = "", deleting: bool = True, finalizer: bool = True) -> NetworkEndpoint:
    spec = NetworkEndpointSpec(vpc="blue", subnet="web", address="10.0.0.2", host=wanted, container_id="c")
    return NetworkEndpoint(
        name="e",
        spec=spec,
        status=NetworkEndpointStatus(host=held),
        meta=Meta(deleting=deleting, finalizers=FINALIZERS["NetworkEndpoint"] if finalizer else ()),
    )


@pytest.mark.parametrize(
    ("which", "frozen", "lifted"),
    [
        (endpoint("dead"), False, True),
        (endpoint("dead"), True, False),
        (endpoint("removed"), True, True),
        (endpoint("alive"), False, False),
        (endpoint("alive", held="dead"), False, True),
        (endpoint("dead", held="alive"), False, False),
        (endpoint("dead", deleting=False), False, False),
        (endpoint("dead", finalizer=False), False, False),
    ],
)
def test_orphans(which: NetworkEndpoint, frozen: bool, lifted: bool) -> None:
    lifts = orphans([which], HOSTS, frozen=frozen)
    assert [lift.finalizer for lift in lifts] == (["mizar.com/endpoint"] if lifted else [])


def test_unused() -> None:
    def vpc(name: str, deleting: bool = True) -> Vpc:
        return Vpc(
            name=name, spec=VpcSpec(cidr="10.0.0.0/16"), meta=Meta(deleting=deleting, finalizers=FINALIZERS["Vpc"])
        )

    def subnet(name: str, of: str, deleting: bool = True) -> Subnet:
        return Subnet(
            name=name,
            spec=SubnetSpec(vpc=of, cidr="10.0.0.0/24"),
            meta=Meta(deleting=deleting, finalizers=FINALIZERS["Subnet"]),
        )

    service = NetworkService(name="svc", spec=NetworkServiceSpec(vpc="serving", vip="10.0.9.9"))
    follows = NetworkService(name="a.b.empty", spec=NetworkServiceSpec(vpc="empty", vip="10.96.0.9", source="a/b"))
    lifts = unused(
        [vpc("blue"), vpc("empty"), vpc("serving"), vpc("wanted", deleting=False), vpc("divided")],
        [
            subnet("web", "blue"),
            subnet("part", "divided", deleting=False),
            subnet("bare", "blue"),
            subnet("kept", "blue", deleting=False),
        ],
        [endpoint("alive", deleting=False)],
        [service, follows],
    )
    assert [(lift.object.kind, lift.object.name) for lift in lifts] == [("Subnet", "bare"), ("Vpc", "empty")]
