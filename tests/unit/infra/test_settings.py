"""Every mistake a person can make in the stack's file, each with the sentence it earns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import settings
from infra.settings import Settings
from node_agent.model.errors import Invalid

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


def mistakes(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(Invalid) as caught:
        settings.parse(raw)
    return list(caught.value.mistakes)


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
    "multicast underlay": (good(underlay="224.0.0.0/24"), "underlay: 224.0.0.0/24: must not overlap 224.0.0.0/3"),
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
        "endpoints[0].address: 10.10.2.9: must lie inside its subnet blue-a (10.10.1.0/24)",
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
    assert settings.parse(settings.plain(texts)) == settings.parse(raw)


def test_lone_text_that_is_no_json_is_one_mistake() -> None:
    assert mistakes(settings.plain({"hosts": "many"})) == ["hosts: many: must be a whole number from 1 to 4096"]


def test_two_vpcs_may_use_one_prefix() -> None:
    parsed = settings.parse(good(vpcs=vpc(subnet()) + vpc(subnet(name="red-a"), name="red")))
    assert [one.name for one in parsed.vpcs] == ["blue", "red"]


def test_pulumi_yaml_declares_every_setting_with_its_default() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    defaults = {key: entry["default"] for key, entry in declared.items()}
    assert settings.parse(defaults) == Settings()
    assert all(entry["description"] for entry in declared.values())
    # A key that the program knows and Pulumi.yaml does not would be missing from the list of known ones.
    known = mistakes({"nonsense": 1})[0].partition("known are ")[2].split(", ")
    assert sorted(known) == sorted(declared)


def test_the_committed_stack_is_sound() -> None:
    config = yaml.safe_load((ROOT / "stacks" / "Pulumi.local.yaml").read_text())["config"]
    parsed = settings.parse({key.removeprefix("mizar:"): value for key, value in config.items()})
    assert parsed.hosts == 3
    assert [one.name for one in parsed.vpcs[0].subnets] == ["blue-a", "blue-b"]
