from __future__ import annotations

import pytest

from node_agent.model.addresses import (
    ADDRESS_RULE,
    Usable,
    address_mistakes,
    claim_mistakes,
    endpoint_mac,
    gateway,
    is_name,
    parse_address,
    parse_prefix,
    pod_mtu,
    prefix_mistakes,
    prefix_rule,
    shown,
    special_mistakes,
    told,
    vip_mistakes,
)
from node_agent.model.errors import Invalid


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
    assert mistake == told("spec.address", value, ADDRESS_RULE)
    with pytest.raises(Invalid, match="must be an IPv4 address"):
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
    assert prefix_mistakes("f", value) == [told("f", value, prefix_rule(0, 32))]


def test_host_bits_are_shown_with_the_prefix_that_was_meant() -> None:
    assert prefix_mistakes("f", "10.0.0.7/24") == [f"f: 10.0.0.7/24: {prefix_rule(0, 32)}: write 10.0.0.0/24"]
    assert parse_prefix("f", "10.0.0.0/24").prefixlen == 24
    with pytest.raises(Invalid):
        parse_prefix("f", "10.0.0.7/24")


def test_prefixes_have_a_least_and_a_most_length() -> None:
    lengths = [n for n in range(33) if not prefix_mistakes("f", f"0.0.0.0/{n}", 8, 30)]
    assert lengths == list(range(8, 31))


@pytest.mark.parametrize(
    "value",
    [
        "0.0.0.0/8",
        "127.0.0.0/24",
        "169.254.0.0/16",
        "224.0.0.0/8",
        "255.0.0.0/8",
        "168.0.0.0/7",
        "0.0.0.0/0",
    ],
)
def test_prefixes_no_network_may_have(value: str) -> None:
    assert all(sentence.startswith(f"f: {value}: must not overlap ") for sentence in special_mistakes("f", value))
    assert special_mistakes("f", value)


def test_prefixes_networks_may_have() -> None:
    for value in ("10.0.0.0/8", "100.64.0.0/10", "192.168.1.0/24", "198.18.0.0/30"):
        assert special_mistakes("f", value) == []


def test_vips() -> None:
    def wrong(vip: str) -> list[str]:
        return vip_mistakes("vip", vip, "10.0.0.0/16", ["10.0.1.0/24", "10.0.2.0/24"])

    assert wrong("10.0.0.10") == []
    assert wrong("10.0.1.77") == ["vip: 10.0.1.77: must lie outside of every subnet; 10.0.1.0/24 is for endpoints"]
    assert wrong("10.1.0.0") == ["vip: 10.1.0.0: must lie inside the prefix of its VPC, 10.0.0.0/16"]
    for vip in ("10.0.0.0", "10.0.255.255"):
        assert wrong(vip) == [f"vip: {vip}: network and last address of a VPC are reserved"]
    with pytest.raises(Invalid):
        wrong("ten")


def test_names() -> None:
    assert all(is_name(name) for name in ("a", "blue-1", "a" * 40))
    assert not any(
        is_name(name) for name in ("", "-a", "a-", "1a", "A", "a.b", "a/b", "../a", "a" * 41, 7, None, "a\n")
    )


def test_sentences_are_short() -> None:
    assert told("hosts", "three", "must be a number") == "hosts: three: must be a number"
    assert told("vpcs", ["x" * 99], "rule") == f'vpcs: ["{"x" * 55}...: rule'
    assert [shown(value) for value in (None, True, "", {"a": 1})] == ["null", "true", '""', '{"a": 1}']


def test_a_28_holds_13_endpoints() -> None:
    addresses = Usable("10.0.0.16/28")
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
    assert len(Usable("10.0.0.0/8")) == 2**24 - 3
    assert Usable("10.0.0.0/8")[2**24 - 4] == "10.255.255.254"
    assert list(Usable("10.0.0.0/30")) == ["10.0.0.2"]
    assert (len(Usable("10.0.0.0/31")), len(Usable("10.0.0.0/32"))) == (0, 0)
    with pytest.raises(Invalid):
        Usable("10.0.0.1/24")


def test_claims() -> None:
    assert claim_mistakes("address", "10.0.0.2", "10.0.0.0/28") == []
    assert claim_mistakes("address", "10.0.0.1", "10.0.0.0/28") == [
        "address: 10.0.0.1: network, gateway and last address of a subnet are reserved, here 10.0.0.0/28"
    ]
    assert claim_mistakes("address", "10.0.1.1", "10.0.0.0/28") == [
        "address: 10.0.1.1: must lie inside the prefix of its subnet, 10.0.0.0/28"
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
        assert "122.0.0.1" not in Usable(f"122.0.0.0/{length}")
