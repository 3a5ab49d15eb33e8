from __future__ import annotations

import pytest

from node_agent.model.errors import Invalid
from node_agent.model.objects import (
    KINDS,
    Meta,
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
)
from node_agent.model.resources import camel, camel_path, from_resource, part_to_resource, to_resource

OBJECTS: list[Object] = [
    Vpc(
        name="blue",
        spec=VpcSpec(cidr="10.0.0.0/16", set_size=5),
        status=VpcStatus(vni=7, members=(SetMember(place=1, host="h", address="198.18.0.11", state="joining"),)),
    ),
    Subnet(name="web", spec=SubnetSpec(vpc="blue", cidr="10.0.1.0/24"), status=SubnetStatus(bouncers=(0, 2))),
    NetworkService(
        name="shop",
        spec=NetworkServiceSpec(
            vpc="blue",
            vip="10.0.9.9",
            ports=(ServicePort(protocol="tcp", port=80, target_port=8080),),
            backends=(ServiceBackend(address="10.0.1.2"),),
        ),
    ),
    NetworkHost(
        name="h",
        spec=NetworkHostSpec(address="198.18.0.11"),
        status=NetworkHostStatus(
            heartbeat=12.5,
            programs=(ProgramStatus(device="eth0", hook="xdp", mode="native", tag="t"),),
            generations={"blue_green": 4},
        ),
    ),
]


@pytest.mark.parametrize("obj", OBJECTS, ids=lambda obj: obj.kind)
def test_there_and_back(obj: Object) -> None:
    raw = to_resource(obj)
    raw["status"] = part_to_resource(obj.status)
    assert from_resource(type(obj), raw) == obj


def test_spelling() -> None:
    assert (camel("mtu"), camel("container_id"), camel_path("spec.container_id")) == (
        "mtu",
        "containerId",
        "spec.containerId",
    )
    host = OBJECTS[3]
    assert part_to_resource(host.status)["generations"] == {"blue_green": 4}, "keys of mappings are nobody's fields"
    [port] = part_to_resource(OBJECTS[2].spec)["ports"]
    assert port["targetPort"] == 8080


def test_meta_is_the_servers() -> None:
    metadata = {
        "name": "blue",
        "uid": "u",
        "resourceVersion": "12",
        "generation": 3,
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["a/b"],
        "managedFields": [{}],
    }
    found = from_resource(Vpc, {"metadata": metadata, "spec": {"cidr": "10.0.0.0/16"}})
    assert found.meta == Meta(uid="u", resource_version=12, generation=3, deleting=True, finalizers=("a/b",))
    assert found.status == VpcStatus()


def test_what_a_newer_program_wrote_is_left_out_and_what_is_wrong_is_told() -> None:
    raw = {"metadata": {"name": "blue"}, "spec": {"cidr": "10.0.0.0/16", "colour": 1}, "status": {"conditions": []}}
    assert from_resource(Vpc, raw) == Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16"))
    with pytest.raises(Invalid) as caught:
        from_resource(Vpc, {"metadata": {"name": "blue"}, "spec": {"cidr": 7}, "status": {"vni": "x"}})
    assert [mistake.split(":")[0] for mistake in caught.value.mistakes] == ["Vpc blue", "Vpc blue"]


def test_every_kind_has_an_empty_status_to_begin_with() -> None:
    for cls in KINDS.values():
        assert cls.__dataclass_fields__["status"].default is not None
