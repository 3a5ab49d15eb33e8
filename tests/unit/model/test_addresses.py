from __future__ import annotations

import dataclasses

import pytest

from node_agent.model.addresses import (
    GRO_VNI,
    Usable,
    address_mistakes,
    claim_mistakes,
    endpoint_mac,
    gateway,
    host_mistakes,
    ipv6_address,
    name_mistakes,
    overlay_mistakes,
    parse_address,
    parse_prefix,
    pod_mtu,
    prefix_length,
    prefix_mistakes,
    subnet_mistakes,
    usable,
    vni_mistakes,
    vpc_mistakes,
)
from node_agent.model.errors import Invalid
from node_agent.model.objects import NetworkHostSpec, SubnetSpec, VpcSpec

VPC = VpcSpec(cidr="10.0.0.0/16")


@pytest.mark.parametrize("text", ["0.0.0.0", "10.0.0.1", "255.255.255.255"])
def test_addresses(text: str) -> None:
    assert address_mistakes("f", text) == []
    assert str(parse_address("f", text)) == text


@pytest.mark.parametrize(
    "value",
    [
        "",
        "10.0.0",
        "10.0.0.256",
        "10.0.0.01",
        " 10.0.0.1",
        "10.0.0.1\n",
        "::1",
        "a",
        "10.0.0.1/24",
        "1\u0660.0.0.1",
        167772161,
        None,
        b"\n\0\0\1",
    ],
)
def test_no_addresses(value: object) -> None:
    [mistake] = address_mistakes("spec.address", value)
    assert mistake.startswith(f"spec.address: {value!r} is no IPv4 address: four numbers")
    with pytest.raises(Invalid, match="is no IPv4 address"):
        parse_address("spec.address", value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "10.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/08",
        "10.0.0.0/255.0.0.0",
        "10.0.0/8",
        "10.0.0.0/8/8",
        "10.0.0.0/-1",
        "fd00::/96",
        None,
        8,
    ],
)
def test_no_prefixes(value: object) -> None:
    assert prefix_mistakes("f", value) == [f"f: {value!r} is no prefix: an IPv4 prefix is address/length, length 0..32"]


def test_host_bits_are_shown_with_the_prefix_that_was_meant() -> None:
    assert prefix_mistakes("f", "10.0.0.7/24") == ["f: '10.0.0.7/24' has bits set behind its length: write 10.0.0.0/24"]
    assert prefix_length("10.0.0.0/24") == parse_prefix("f", "10.0.0.0/24").prefixlen == 24
    with pytest.raises(Invalid):
        prefix_length("10.0.0.7/24")


@pytest.mark.parametrize(
    "value",
    [
        "0.0.0.0/8",
        "127.0.0.0/24",
        "169.254.0.0/16",
        "224.0.0.0/8",
        "255.0.0.0/8",
        "168.0.0.0/7",
        "10.0.0.0/31",
        "10.0.0.0/7",
    ],
)
def test_prefixes_no_network_may_have(value: str) -> None:
    assert overlay_mistakes("f", value)


def test_prefixes_networks_may_have() -> None:
    for value in ("10.0.0.0/8", "100.64.0.0/10", "192.168.1.0/24", "198.18.0.0/30"):
        assert overlay_mistakes("f", value) == []


def test_all_mistakes_of_a_vpc() -> None:
    assert vpc_mistakes(VPC) == []
    assert vpc_mistakes(VpcSpec(cidr="10.0.0.0/16", set_size=16, bouncers=16)) == []
    mistakes = vpc_mistakes(VpcSpec(cidr="127.0.0.0/7", set_size=17, bouncers=18), at="vpcs[0]")
    assert [mistake.split(":")[0] for mistake in mistakes] == ["vpcs[0].cidr", "vpcs[0].set_size", "vpcs[0].bouncers"]
    assert vpc_mistakes(dataclasses.replace(VPC, set_size=1)) == [
        "spec.set_size: 1 is outside 2..16",
        "spec.bouncers: 2 is outside 1..1 (set_size)",
    ]


def test_a_subnet_lies_in_its_vpc_beside_its_siblings() -> None:
    siblings = [SubnetSpec(vpc="blue", cidr="10.0.0.0/24"), SubnetSpec(vpc="red", cidr="10.0.1.0/24")]
    assert subnet_mistakes(SubnetSpec(vpc="blue", cidr="10.0.1.0/24"), VPC, siblings) == []
    assert subnet_mistakes(SubnetSpec(vpc="blue", cidr="10.0.0.128/25"), VPC, siblings) == [
        "spec.cidr: '10.0.0.128/25' overlaps 10.0.0.0/24, another subnet of VPC blue"
    ]
    assert subnet_mistakes(SubnetSpec(vpc="blue", cidr="10.1.0.0/24"), VPC) == [
        "spec.cidr: '10.1.0.0/24' lies outside 10.0.0.0/16, the prefix of VPC blue"
    ]
    assert len(subnet_mistakes(SubnetSpec(vpc="blue", cidr="x"), VPC)) == 1


def test_hosts_names_and_vnis() -> None:
    assert host_mistakes(NetworkHostSpec(address="198.18.0.11")) == []
    assert len(host_mistakes(NetworkHostSpec(address="x", mtu=1000))) == 2
    assert not any(name_mistakes("f", name) for name in ("a", "blue-1", "a" * 63))
    assert all(name_mistakes("f", name) for name in ("", "-a", "a-", "A", "a.b", "a/b", "a" * 64, 7, "a\n"))
    assert not any(vni_mistakes("f", vni) for vni in (1, 1000, 0xFFFFFE))
    assert all(vni_mistakes("f", vni) for vni in (0, -1, GRO_VNI, 1 << 24))
    assert vni_mistakes("f", 16777215) == ["f: 16777215 is reserved for the hosts' idle tunnel device"]


def test_a_28_holds_13_endpoints() -> None:
    addresses = usable("10.0.0.16/28")
    assert gateway("10.0.0.16/28") == "10.0.0.17"
    assert list(addresses) == [f"10.0.0.{n}" for n in range(18, 31)]
    assert len(addresses) == 13
    assert (addresses[0], addresses[-1], addresses[1:3]) == ("10.0.0.18", "10.0.0.30", ["10.0.0.19", "10.0.0.20"])
    assert [addresses.index(address) for address in addresses] == list(range(13))
    for reserved in ("10.0.0.16", "10.0.0.17", "10.0.0.31", "10.0.0.32", "x", 5):
        assert reserved not in addresses
        with pytest.raises(ValueError, match="not usable"):
            addresses.index(reserved)
    with pytest.raises(IndexError):
        addresses[13]


def test_usable_of_any_size_is_cheap() -> None:
    assert len(usable("10.0.0.0/8")) == 2**24 - 3
    assert usable("10.0.0.0/8")[2**24 - 4] == "10.255.255.254"
    assert list(usable("10.0.0.0/30")) == ["10.0.0.2"]
    assert (len(usable("10.0.0.0/31")), len(usable("10.0.0.0/32"))) == (0, 0)
    with pytest.raises(Invalid):
        Usable("10.0.0.1/24")


def test_claims() -> None:
    assert claim_mistakes("address", "10.0.0.2", "10.0.0.0/28") == []
    assert claim_mistakes("address", "10.0.0.1", "10.0.0.0/28") == [
        "address: '10.0.0.1' is the network, gateway or last address of 10.0.0.0/28: these are reserved"
    ]
    assert claim_mistakes("address", "10.0.1.1", "10.0.0.0/28") == [
        "address: '10.0.1.1' lies outside 10.0.0.0/28, the prefix of its subnet"
    ]
    assert len(claim_mistakes("address", "x", "10.0.0.0/28")) == 1


def test_pod_mtu() -> None:
    assert (pod_mtu(1500), pod_mtu(8896)) == (1450, 8846)


def test_macs() -> None:
    assert endpoint_mac(1000, "10.0.0.2") == "a2:0f:0a:00:00:02"
    macs = {endpoint_mac(vni, "10.0.0.2") for vni in range(1000, 1000 + 16384)}
    assert len(macs) == 16384
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs), "locally administered, unicast"


def test_no_endpoint_has_the_gateways_mac() -> None:
    clashing_vni = 0x6D << 6
    assert endpoint_mac(clashing_vni, "122.0.0.1") == "02:6d:7a:00:00:01"
    for length in range(8, 31):
        assert "122.0.0.1" not in usable(f"122.0.0.0/{length}")


def test_ipv6() -> None:
    assert ipv6_address("fd00:1::/96", "10.0.0.2") == "fd00:1::a00:2"
    for prefix in ("fd00::/64", "fd00::1/96", "10.0.0.0/8"):
        with pytest.raises(Invalid):
            ipv6_address(prefix, "10.0.0.2")
