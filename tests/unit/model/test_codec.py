from __future__ import annotations

import json
from typing import Any

import pytest

from node_agent.model.codec import canonical, decode, decode_as, decode_part, encode
from node_agent.model.errors import Invalid
from node_agent.model.objects import (
    KINDS,
    Meta,
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkHost,
    NetworkHostSpec,
    NetworkHostStatus,
    NetworkService,
    NetworkServiceSpec,
    Object,
    ProgramStatus,
    ServiceBackend,
    ServicePort,
    SetMember,
    Subnet,
    SubnetSpec,
    SubnetStatus,
    Vpc,
    VpcSpec,
    VpcStatus,
    Watermark,
    WatermarkStatus,
)

META = Meta(uid="u", resource_version=7, generation=2, deleting=True, finalizers=("mizar.com/vpc",))
OBJECTS: list[Object] = [
    Vpc(
        name="blue",
        spec=VpcSpec(cidr="10.0.0.0/16"),
        meta=META,
        status=VpcStatus(vni=1000, members=(SetMember(place=0, host="h", address="198.18.0.11", state="joining"),)),
    ),
    Subnet(name="s", spec=SubnetSpec(vpc="blue", cidr="10.0.0.0/24"), status=SubnetStatus(bouncers=(0, 2))),
    NetworkEndpoint(
        name="1000-10.0.0.2",
        status=NetworkEndpointStatus(host="h"),
        spec=NetworkEndpointSpec(vpc="blue", subnet="s", address="10.0.0.2", host="h", container_id="c"),
    ),
    NetworkService(
        name="svc",
        spec=NetworkServiceSpec(
            vpc="blue",
            vip="10.0.9.9",
            ports=(ServicePort(protocol="tcp", port=80, target_port=8080, name="http"),),
            backends=(ServiceBackend(address="10.0.0.2", state="terminating"), ServiceBackend(address="10.0.0.3")),
            affinity="client",
        ),
    ),
    NetworkHost(
        name="h",
        spec=NetworkHostSpec(address="198.18.0.11"),
        status=NetworkHostStatus(
            heartbeat=1.5,
            generations={"blue": 3},
            problems=("p",),
            programs=(ProgramStatus(device="uplink0", hook="xdp", mode="generic", tag="t"),),
        ),
    ),
    Watermark(name="vni", status=WatermarkStatus(value=1000)),
]


def raw_vpc(**changes: Any) -> dict[str, Any]:
    return {"kind": "Vpc", "name": "blue", "spec": {"cidr": "10.0.0.0/16"}} | changes


def test_every_kind_is_tried() -> None:
    assert {obj.kind for obj in OBJECTS} == set(KINDS)


@pytest.mark.parametrize("obj", OBJECTS, ids=lambda obj: str(obj.kind))
def test_there_and_back_through_json(obj: Object) -> None:
    raw = json.loads(json.dumps(encode(obj)))
    assert list(raw) == ["kind", "name", "spec", "status", "meta"]
    assert decode(raw) == obj
    assert decode_as(type(obj), raw) == obj
    assert decode_part(type(obj), "spec", raw["spec"]) == obj.spec


def test_what_may_be_left_out() -> None:
    assert decode(raw_vpc()) == Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16"))


def test_every_mistake_at_once() -> None:
    raw = raw_vpc(
        name="",
        spec={"cdir": "x", "set_size": "3", "bouncers": True},
        extra=1,
        meta={"finalizers": "x"},
        status={"members": [{"place": 0, "host": "h", "address": "a", "state": "gone"}, 5]},
    )
    with pytest.raises(Invalid) as caught:
        decode(raw)
    assert sorted(caught.value.mistakes) == sorted(
        [
            "extra: unknown key of an object",
            "name: '' is no text of at least one character",
            "spec.cdir: unknown key",
            "spec.cidr: missing",
            "spec.set_size: '3' is not of type int",
            "spec.bouncers: True is not of type int",
            "status.members[0].state: 'gone' is none of joining, active, leaving",
            "status.members[1]: 5 is no mapping",
            "meta.finalizers: 'x' is no list",
        ]
    )


def test_every_mistake_of_a_service() -> None:
    ports = [{"protocol": "sctp", "port": "80", "target_port": 8080}, {"port": 53}]
    with pytest.raises(Invalid) as caught:
        decode_part(
            NetworkService,
            "spec",
            {"vpc": "blue", "vip": 7, "ports": ports, "backends": [{"state": "dead"}], "affinity": "host"},
        )
    assert sorted(caught.value.mistakes) == sorted(
        [
            "spec.vip: 7 is not of type str",
            "spec.ports[0].protocol: 'sctp' is none of tcp, udp",
            "spec.ports[0].port: '80' is not of type int",
            "spec.ports[1].protocol: missing",
            "spec.ports[1].target_port: missing",
            "spec.backends[0].state: 'dead' is none of ready, serving, terminating",
            "spec.backends[0].address: missing",
            "spec.affinity: 'host' is none of none, client",
        ]
    )


@pytest.mark.parametrize("raw", [None, [], "Vpc", {}, {"kind": "Vcp", "name": "x"}, raw_vpc(kind=["Vpc"])])
def test_what_is_no_object(raw: object) -> None:
    with pytest.raises(Invalid):
        decode(raw)


def test_another_kind_than_asked_for() -> None:
    with pytest.raises(Invalid) as caught:
        decode_as(Subnet, raw_vpc())
    assert "kind: 'Vpc' is not Subnet" in caught.value.mistakes
    with pytest.raises(Invalid, match="spec: missing"):
        decode({"kind": "Vpc", "name": "blue"})


def test_numbers() -> None:
    host = decode_part(NetworkHost, "status", {"heartbeat": 3})
    assert (host.heartbeat, type(host.heartbeat)) == (3.0, float)
    with pytest.raises(Invalid, match=r"status.pid: nothing is not of type int"):
        decode_part(NetworkHost, "status", {"pid": None})
    with pytest.raises(Invalid, match=r"status.generations.blue: 1.5 is not of type int"):
        decode_part(NetworkHost, "status", {"generations": {"blue": 1.5}})


def test_canonical_text_is_equal_for_equal_values() -> None:
    one = NetworkHostStatus(generations={"a": 1, "b": 2})
    other = NetworkHostStatus(generations={"b": 2, "a": 1})
    assert canonical(one) == canonical(other)
    assert canonical(SubnetSpec(vpc="v", cidr="c")) == '{"cidr":"c","vpc":"v"}'
