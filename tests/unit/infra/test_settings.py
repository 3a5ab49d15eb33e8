"""Every mistake a person can make in the stack's file, each with the sentence it earns."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import plan, settings
from infra.wanted import Settings

ROOT = Path(__file__).resolve().parents[3]


def good(**changes: Any) -> dict[str, Any]:
    """A sound configuration with these top-level keys changed."""
    vpc = {
        "name": "blue",
        "cidr": "10.10.0.0/16",
        "subnets": [{"name": "blue-a", "cidr": "10.10.1.0/24"}, {"name": "blue-b", "cidr": "10.10.2.0/24"}],
    }
    return {"hosts": 3, "vpcs": [vpc], **changes}


def vpc(*subnets: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    return [{"name": "blue", "cidr": "10.10.0.0/16", "subnets": list(subnets), **changes}]


def subnet(cidr: str = "10.10.1.0/24", name: str = "blue-a", **more: Any) -> dict[str, Any]:
    return {"name": name, "cidr": cidr, **more}


def endpoint(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "web", "subnet": "blue-a", **changes}]


def service(*more: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A sound configuration whose VPC has a service with these keys changed, and `more` services."""
    ports = [{"protocol": "tcp", "port": 80, "targetPort": 8080}, {"protocol": "udp", "port": 80}]
    one = {"name": "web", "vip": "10.10.0.10", "ports": ports, "backends": ["blue-a-1", "blue-b-3"]} | changes
    return good(vpcs=[{**good()["vpcs"][0], "services": [one, *more]}])


def mistakes(raw: dict[str, Any]) -> list[str]:
    return settings.examine(raw)[1].found


def parsed(raw: dict[str, Any]) -> Settings:
    """Of a configuration without a mistake."""
    assert mistakes(raw) == []
    return settings.examine(raw)[0]


ONE_MISTAKE = {
    "no hosts": (good(hosts=0), "hosts: 0: must be a whole number from 1 to 4096"),
    "half a host": (good(hosts=1.5), "hosts: 1.5: must be a whole number"),
    "hosts by yes": (good(hosts=True), "hosts: true: must be a whole number"),
    "hosts in words": (good(hosts="three"), "hosts: three: must be a whole number"),
    "small mtu": (good(mtu=500), "mtu: 500: must be a whole number from 1330 to 9000"),
    "strange mode": (good(mode="fast"), "mode: fast: must be one of generic, native, tc"),
    "small flow table": (good(flowEntries=1), "flowEntries: 1: must be a whole number from 256"),
    "unknown key": (good(host=3), "host: 3: unknown key"),
    "unknown key of a VPC": (good(vpcs=vpc(subnet(), mtu=1400)), "vpcs[0].mtu: 1400: unknown key"),
    "unknown key of a subnet": (good(vpcs=vpc(subnet(zone="a"))), "vpcs[0].subnets[0].zone: a: unknown key"),
    "unknown key of an endpoint": (good(endpoints=endpoint(mac="x")), "endpoints[0].mac: x: unknown key"),
    "VPCs as a mapping": (good(vpcs={"blue": {}}), "vpcs: "),
    "a VPC as text": (good(vpcs=["blue"]), "vpcs[0]: blue: must be a mapping"),
    "host bits": (good(vpcs=vpc(cidr="10.10.0.1/16")), "vpcs[0].cidr: 10.10.0.1/16: must be an IPv4 prefix"),
    "no prefix": (good(vpcs=vpc(subnet("10.10.1.0"))), "vpcs[0].subnets[0].cidr: 10.10.1.0: must be an IPv4"),
    "long prefix": (good(hosts=1, vpcs=vpc(subnet("10.10.1.0/31"))), "vpcs[0].subnets[0].cidr: 10.10.1.0/31: must be"),
    "missing prefix": (good(vpcs=[{"name": "blue"}]), "vpcs[0].cidr: null: is missing"),
    "missing name": (good(vpcs=[{"cidr": "10.10.0.0/16"}]), "vpcs[0].name: null: is missing"),
    "capital letters": (good(vpcs=vpc(name="Blue")), "vpcs[0].name: Blue: a name is"),
    "long name": (good(vpcs=vpc(name="b" * 41)), "a name is 1 to 40"),
    "a name that climbs": (good(endpoints=endpoint(name="../x")), "endpoints[0].name: ../x: a name is"),
    "two VPCs of one name": (good(vpcs=vpc() + vpc()), "vpcs[1].name: blue: the name is taken already by vpcs[0].name"),
    "two subnets of one name": (
        good(vpcs=vpc(subnet()) + vpc(subnet(), name="red")),
        "vpcs[1].subnets[0].name: blue-a: the name is taken already by vpcs[0].subnets[0].name",
    ),
    "overlapping subnets": (
        good(vpcs=vpc(subnet(), subnet("10.10.1.128/25", "blue-b"))),
        "vpcs[0].subnets[1].cidr: 10.10.1.128/25: must not overlap subnet blue-a (10.10.1.0/24)",
    ),
    "subnet outside": (
        good(vpcs=vpc(subnet("10.11.1.0/24"))),
        "vpcs[0].subnets[0].cidr: 10.11.1.0/24: must lie inside its VPC blue (10.10.0.0/16)",
    ),
    "overlay over underlay": (
        good(underlay="10.10.9.0/24"),
        "vpcs[0].cidr: 10.10.0.0/16: must not overlap the underlay 10.10.9.0/24",
    ),
    "link-local VPC": (good(vpcs=vpc(cidr="169.254.0.0/24")), "vpcs[0].cidr: 169.254.0.0/24: must not overlap"),
    "multicast underlay": (good(underlay="224.0.0.0/24"), "underlay: 224.0.0.0/24: must not overlap 224.0.0.0/4"),
    "small underlay": (
        good(hosts=5, underlay="198.18.0.0/28"),
        "underlay: 198.18.0.0/28: has room for 4 hosts, but hosts is 5",
    ),
    "small set": (good(vpcs=vpc(setSize=1)), "vpcs[0].setSize: 1: must be a whole number from 2 to 16"),
    "large set": (good(vpcs=vpc(setSize=17)), "vpcs[0].setSize: 17: must be a whole number from 2 to 16"),
    "no bouncers": (good(vpcs=vpc(bouncers=0)), "vpcs[0].bouncers: 0: must be a whole number from 1 to 16"),
    "more bouncers than members": (good(vpcs=vpc(bouncers=4)), "vpcs[0].bouncers: 4: must be at most setSize"),
    "unknown host": (good(endpoints=endpoint(host="host-9")), "endpoints[0].host: host-9: unknown host"),
    "unknown subnet": (good(endpoints=endpoint(subnet="red")), "endpoints[0].subnet: red: unknown subnet; known are"),
    "address outside": (
        good(endpoints=endpoint(address="10.10.2.9")),
        "endpoints[0].address: 10.10.2.9: must lie inside the prefix of its subnet, 10.10.1.0/24",
    ),
    "gateway's address": (good(endpoints=endpoint(address="10.10.1.1")), "endpoints[0].address: 10.10.1.1: network"),
    "last address": (good(endpoints=endpoint(address="10.10.1.255")), "last address of a subnet are reserved"),
    "address of a generated one": (
        good(endpoints=endpoint(address="10.10.1.3")),
        "endpoints[0].address: 10.10.1.3: is the address of endpoint blue-a-2",
    ),
    "one address twice": (
        good(endpoints=endpoint(address="10.10.1.50") + endpoint(name="db", address="10.10.1.50")),
        "endpoints[1].address: 10.10.1.50: is the address of endpoint web",
    ),
    "address in words": (good(endpoints=endpoint(address="ten")), "endpoints[0].address: ten: must be an IPv4 address"),
    "name of a generated one": (
        good(endpoints=endpoint(name="blue-a-1")),
        "endpoints[0].name: blue-a-1: the name is taken already by vpcs[0].subnets[0].endpointsPerHost",
    ),
    "name of a host": (good(endpoints=endpoint(name="host-7")), "endpoints[0].name: host-7: is a name that the stack"),
    "subnet called fabric": (good(vpcs=vpc(subnet(name="fabric"))), "is a name that the stack uses itself"),
    "full subnet": (
        good(hosts=14, vpcs=vpc(subnet("10.10.1.0/28"))),
        "vpcs[0].subnets[0].cidr: 10.10.1.0/28: has room for 13 endpoints, 14 are wanted",
    ),
    "service without VIP": (service(vip=None), "vpcs[0].services[0].vip: null: is missing; must be an IPv4 address"),
    "VIP in words": (service(vip="ten"), "vpcs[0].services[0].vip: ten: must be an IPv4 address"),
    "VIP outside": (
        service(vip="10.11.0.10"),
        "services[0].vip: 10.11.0.10: must lie inside the prefix of its VPC, 10.10.0.0/16",
    ),
    "VIP in a subnet": (
        service(vip="10.10.1.200"),
        "vip: 10.10.1.200: must lie outside of every subnet; 10.10.1.0/24 is for endpoints",
    ),
    "VIP at the end": (
        service(vip="10.10.255.255"),
        "vip: 10.10.255.255: network and last address of a VPC are reserved",
    ),
    "one VIP twice": (
        service({"name": "db", "vip": "10.10.0.10", "ports": [{"port": 1}], "backends": []}),
        "vpcs[0].services[1].vip: 10.10.0.10: is the address of service web",
    ),
    "one service name twice": (
        service({"name": "web", "vip": "10.10.0.11", "ports": [{"port": 1}], "backends": []}),
        "vpcs[0].services[1].name: web: the name is taken already by vpcs[0].services[0].name",
    ),
    "nameless service": (service(name=None), "vpcs[0].services[0].name: null: is missing"),
    "strange affinity": (service(affinity="host"), "vpcs[0].services[0].affinity: host: must be one of none, client"),
    "unknown key of a service": (service(weight=3), "vpcs[0].services[0].weight: 3: unknown key"),
    "service without ports": (service(ports=[]), "vpcs[0].services[0].ports: []: must be a list of at least one"),
    "port 0": (service(ports=[{"port": 0}]), "services[0].ports[0].port: 0: must be a whole number from 1 to 65535"),
    "port missing": (service(ports=[{}]), "services[0].ports[0].port: null: must be a whole number from 1 to 65535"),
    "high target": (service(ports=[{"port": 1, "targetPort": 65536}]), "ports[0].targetPort: 65536: must be a whole"),
    "SCTP": (service(ports=[{"port": 1, "protocol": "sctp"}]), "ports[0].protocol: sctp: must be one of tcp, udp"),
    "one port twice": (
        service(ports=[{"port": 80}, {"port": 80, "targetPort": 1}]),
        "vpcs[0].services[0].ports[1].port: 80: tcp port 80 is listed twice",
    ),
    "unknown key of a port": (service(ports=[{"port": 1, "host": 2}]), "services[0].ports[0].host: 2: unknown key"),
    "service without backends": (
        service(backends=None),
        "services[0].backends: null: must be a list of endpoints' names",
    ),
    "backends as text": (
        service(backends="blue-a"),
        "services[0].backends: blue-a: must be a list of endpoints' names",
    ),
    "a backend that is none": (
        service(backends=["blue-a-1", "blue-a-9"]),
        "vpcs[0].services[0].backends[1]: blue-a-9: is no endpoint of VPC blue",
    ),
    "a backend that is no name": (service(backends=[7]), "vpcs[0].services[0].backends[0]: 7: a name is"),
    "one backend twice": (service(backends=["blue-a-1"] * 2), "services[0].backends[1]: blue-a-1: is listed twice"),
    "unknown subnet of backends": (
        service(backends={"subnet": "red"}),
        "vpcs[0].services[0].backends.subnet: red: unknown subnet of VPC blue; known are blue-a, blue-b",
    ),
    "backends of no subnet": (service(backends={}), "vpcs[0].services[0].backends.subnet: null: is missing"),
    "unknown key of backends": (
        service(backends={"subnet": "blue-a", "host": "x"}),
        "services[0].backends.host: x: unknown key",
    ),
    "too many backends": (
        {**service(backends={"subnet": "blue-a"}), "hosts": 63, "endpointsPerHost": 4},
        "vpcs[0].services[0].backends: 252: a service has at most 251 backends",
    ),
    "a backend of another VPC": (
        good(vpcs=[*service(backends=["red-a-1"])["vpcs"], *vpc(subnet(name="red-a"), name="red")]),
        "vpcs[0].services[0].backends[0]: red-a-1: is no endpoint of VPC blue",
    ),
    "impatient gate": (good(healthSeconds=0), "healthSeconds: 0: must be a whole number from 1 to 600"),
}


@pytest.mark.parametrize("case", ONE_MISTAKE)
def test_one_mistake_is_one_sentence(case: str) -> None:
    raw, sentence = ONE_MISTAKE[case]
    found = mistakes(raw)
    assert len(found) == 1, found
    assert sentence in found[0]


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes(
        {
            "hosts": 0,
            "mtu": 500,
            "colour": "red",
            "vpcs": vpc(
                subnet(), subnet("10.10.1.0/25", "blue-b"), subnet("10.12.0.0/24", "blue-a"), cidr="10.10.0.0/16"
            ),
            "endpoints": endpoint(host="host-2", subnet="green"),
        }
    )
    fields = [sentence.split(":")[0] for sentence in found]
    assert sorted(fields) == sorted(
        [
            "hosts",
            "mtu",
            "colour",
            "vpcs[0].subnets[1].cidr",
            "vpcs[0].subnets[2].cidr",
            "vpcs[0].subnets[2].name",
            "endpoints[0].subnet",
        ]
    )


def test_values_as_pulumi_hands_them_over() -> None:
    raw = good(underlay="198.18.0.0/24", mode="tc", endpoints=endpoint(host="host-3", address="10.10.1.99"))
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in raw.items()}
    assert parsed(settings.plain(texts)) == parsed(raw)


def test_lone_text_that_is_no_json_is_one_mistake() -> None:
    assert mistakes(settings.plain({"hosts": "many"})) == ["hosts: many: must be a whole number from 1 to 4096"]


def test_values_of_a_wrong_type_do_not_hide_other_mistakes() -> None:
    texts = {
        "mizar:hosts": "three",
        "mizar:vpcs": "5",
        "mizar:mtu": "[1500]",
        "mizar:mode": '{"a":1}',
        "mizar:endpoints": "[7]",
        "mizar:hostz": "4",
        "mizr:hosts": "4",
        "Mizar:hosts": "4",
        "aws:region": "eu-west-1",
    }
    known = (
        "bpfObjects, endpoints, endpointsPerHost, flowEntries, healthSeconds, hosts, mode, mtu, target, underlay, vpcs"
    )
    assert settings.examine_all("mizar", texts)[1].found == [
        "hosts: three: must be a whole number from 1 to 4096",
        "mtu: [1500]: must be a whole number from 1330 to 9000",
        'mode: {"a":1}: must be one of generic, native, tc',
        "vpcs: 5: must be a list",
        "endpoints[0]: 7: must be a mapping of keys to values",
        f"hostz: 4: unknown key; known are {known}",
        "Mizar:hosts: 4: unknown namespace Mizar; ours is mizar, as in mizar:hosts",
        "mizr:hosts: 4: unknown namespace mizr; ours is mizar, as in mizar:hosts",
    ]


def test_what_a_target_has_no_use_for_is_a_mistake() -> None:
    one = {"name": "blue-a", "cidr": "10.10.1.0/24", "endpointsPerHost": 2}
    set_up = vpc(one, services=[{**service()["vpcs"][0]["services"][0], "backends": {"subnet": "blue-a"}}])
    told = mistakes(
        {"target": "local-k8s", "vpcs": set_up, "endpoints": endpoint(), "endpointsPerHost": 2, "bpfObjects": "mine"}
    )
    assert [sentence.partition(":")[0] for sentence in told] == [
        "bpfObjects",
        "endpoints",
        "endpointsPerHost",
        "vpcs[0].subnets[0].endpointsPerHost",
        "vpcs[0].services",
    ]
    assert told[0] == (
        "bpfObjects: mine: on Kubernetes, pods have the programs of their image, from bpf/build: leave it out"
    )
    assert mistakes(good(vpcs=vpc(subnet(), hostReachable=True))) == [
        "vpcs[0].hostReachable: true: only on Kubernetes, whose kubelets call pods: leave it out"
    ]


def test_a_default_that_a_target_has_no_use_for_is_none() -> None:
    """The engine hands over those that Pulumi.yaml declares as if they were the user's."""
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    defaults = {key: entry["default"] for key, entry in declared.items()}
    assert parsed({**defaults, "target": "local-k8s", "vpcs": vpc(subnet(endpointsPerHost=0), hostReachable=False)})


def test_no_room_is_wanted_where_no_endpoints_are_planned() -> None:
    small = vpc(subnet("10.10.1.0/27"))
    assert any("has room for" in one for one in mistakes({"hosts": 40, "vpcs": small}))
    made = parsed({"target": "local-k8s", "hosts": 40, "vpcs": small})
    assert not plan.make(made, "local-k8s-abc123").endpoints


def test_two_vpcs_may_use_one_prefix() -> None:
    made = parsed(good(vpcs=vpc(subnet()) + vpc(subnet(name="red-a"), name="red")))
    assert [one.name for one in made.vpcs] == ["blue", "red"]


def test_two_vpcs_may_have_one_vip() -> None:
    red = vpc(subnet(name="red-a"), name="red", services=[{**service()["vpcs"][0]["services"][0], "name": "red-web"}])
    red[0]["services"][0]["backends"] = {"subnet": "red-a"}
    made = parsed(good(vpcs=service()["vpcs"] + red))
    assert [(one.services[0].vip, one.services[0].subnet) for one in made.vpcs] == [
        (IPv4Address("10.10.0.10"), ""),
        (IPv4Address("10.10.0.10"), "red-a"),
    ]
    ports = made.vpcs[0].services[0].ports
    assert [(one.protocol, one.port, one.target_port) for one in ports] == [("tcp", 80, 8080), ("udp", 80, 80)]


def test_pulumi_yaml_declares_every_setting_with_its_default() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    assert not [key for key, entry in declared.items() if "type" in entry], "the engine would tell one mistake only"
    defaults = {key: entry["default"] for key, entry in declared.items()}
    assert parsed(defaults) == Settings()
    assert all(entry["description"] for entry in declared.values())
    # A key that the program knows and Pulumi.yaml does not would be missing from the list of known ones.
    known = mistakes({"nonsense": 1})[0].partition("known are ")[2].split(", ")
    assert sorted(known) == sorted(declared)


def test_the_committed_stack_is_sound() -> None:
    config = yaml.safe_load((ROOT / "stacks" / "Pulumi.local.yaml").read_text())["config"]
    made = parsed({key.removeprefix("mizar:"): value for key, value in config.items()})
    assert made.hosts == 3
    assert [one.name for one in made.vpcs[0].subnets] == ["blue-a", "blue-b"]
    blue, green = made.vpcs
    assert blue.cidr == green.cidr
    assert [one.cidr for one in blue.subnets] == [one.cidr for one in green.subnets]
    assert [one.vip for one in blue.services] == [one.vip for one in green.services]
