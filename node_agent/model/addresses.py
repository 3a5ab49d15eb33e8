"""Overlay and underlay addresses: checking, reserving, numbering. Pure.

Called by the settings and the providers (checking), the agents (claiming, MAC, MTU) and the controller (VNI bounds).
Addresses are dotted-quad text, prefixes "address/length" text without host bits, in their one canonical spelling.

Functions named `*_mistakes` return one sentence per mistake ("field: value, rule") and never raise, so that a caller
can collect the mistakes of many fields; `parse_*` raise Invalid.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from node_agent.model.errors import Invalid
from node_agent.model.objects import NetworkHostSpec, SubnetSpec, VpcSpec

OVERHEAD = 50
"""Bytes an outer Ethernet, IPv4, UDP and VXLAN header add to an inner IP packet."""

MIN_UPLINK_MTU = 1280 + OVERHEAD
MAX_UPLINK_MTU = 65535

FIRST_VNI = 1
LAST_VNI = 0xFFFFFE
GRO_VNI = 0xFFFFFF
"""Id of the idle VXLAN device that exists for tunnel GRO; no VPC may have it."""

SHORTEST_PREFIX, LONGEST_PREFIX = 8, 30
MIN_SET, MAX_SET = 2, 16

_QUAD = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}")
_LENGTH = re.compile(r"0|[1-9][0-9]?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_FORBIDDEN = {
    "0.0.0.0/8": "this network",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local; endpoints route through 169.254.1.1",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}


def name_mistakes(field: str, value: object) -> list[str]:
    """Names of objects that people name: they become parts of namespaces, files and Kubernetes names."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return []
    return [f"{field}: {value!r} is no name: 1 to 63 of a-z, 0-9 and '-', first and last not '-'"]


def address_mistakes(field: str, value: object) -> list[str]:
    """An IPv4 address in canonical spelling."""
    if isinstance(value, str) and _QUAD.fullmatch(value) and all(int(part) < 256 for part in value.split(".")):
        return []
    return [f"{field}: {value!r} is no IPv4 address: four numbers 0..255 with dots, no leading zeros"]


def prefix_mistakes(field: str, value: object) -> list[str]:
    """Any IPv4 prefix in canonical spelling: "address/length", length 0..32, no host bits."""
    rule = "an IPv4 prefix is address/length, length 0..32"
    if not isinstance(value, str) or value.count("/") != 1:
        return [f"{field}: {value!r} is no prefix: {rule}"]
    address, length = value.split("/")
    if address_mistakes(field, address) or not _LENGTH.fullmatch(length) or int(length) > 32:
        return [f"{field}: {value!r} is no prefix: {rule}"]
    network = ipaddress.IPv4Network(value, strict=False)
    if str(network) != value:
        return [f"{field}: {value!r} has bits set behind its length: write {network}"]
    return []


def overlay_mistakes(field: str, value: object) -> list[str]:
    """A prefix that a VPC or a subnet may have."""
    mistakes = prefix_mistakes(field, value)
    if mistakes:
        return mistakes
    network = ipaddress.IPv4Network(str(value))
    if not SHORTEST_PREFIX <= network.prefixlen <= LONGEST_PREFIX:
        mistakes.append(
            f"{field}: {value!r} has length {network.prefixlen}: "
            f"a VPC or subnet has {SHORTEST_PREFIX}..{LONGEST_PREFIX}"
        )
    mistakes += [
        f"{field}: {value!r} overlaps {taken} ({why}): choose another prefix"
        for taken, why in _FORBIDDEN.items()
        if network.overlaps(ipaddress.IPv4Network(taken))
    ]
    return mistakes


def vpc_mistakes(spec: VpcSpec, at: str = "spec") -> list[str]:
    """Everything wrong with a VPC's spec by itself."""
    mistakes = overlay_mistakes(f"{at}.cidr", spec.cidr)
    if not MIN_SET <= spec.set_size <= MAX_SET:
        mistakes.append(f"{at}.set_size: {spec.set_size} is outside {MIN_SET}..{MAX_SET}")
    if not 1 <= spec.bouncers <= max(1, spec.set_size):
        mistakes.append(f"{at}.bouncers: {spec.bouncers} is outside 1..{spec.set_size} (set_size)")
    return mistakes


def subnet_mistakes(spec: SubnetSpec, vpc: VpcSpec, siblings: Iterable[SubnetSpec] = (), at: str = "spec") -> list[str]:
    """Everything wrong with a subnet's spec, given its VPC's spec and the other subnets (of any VPC)."""
    mistakes = overlay_mistakes(f"{at}.cidr", spec.cidr)
    if mistakes or overlay_mistakes("cidr", vpc.cidr):
        return mistakes
    network = ipaddress.IPv4Network(spec.cidr)
    if not network.subnet_of(ipaddress.IPv4Network(vpc.cidr)):
        mistakes.append(f"{at}.cidr: {spec.cidr!r} lies outside {vpc.cidr}, the prefix of VPC {spec.vpc}")
    for other in siblings:
        if (
            other.vpc == spec.vpc
            and not prefix_mistakes("cidr", other.cidr)
            and network.overlaps(ipaddress.IPv4Network(other.cidr))
        ):
            mistakes.append(f"{at}.cidr: {spec.cidr!r} overlaps {other.cidr}, another subnet of VPC {spec.vpc}")
    return mistakes


def host_mistakes(spec: NetworkHostSpec, at: str = "spec") -> list[str]:
    """Everything wrong with a host's spec."""
    mistakes = address_mistakes(f"{at}.address", spec.address)
    if not MIN_UPLINK_MTU <= spec.mtu <= MAX_UPLINK_MTU:
        mistakes.append(f"{at}.mtu: {spec.mtu} is outside {MIN_UPLINK_MTU}..{MAX_UPLINK_MTU}")
    return mistakes


def claim_mistakes(field: str, value: object, cidr: str) -> list[str]:
    """An address that an endpoint of the subnet `cidr` asks for."""
    mistakes = address_mistakes(field, value)
    if mistakes or str(value) in Usable(cidr):
        return mistakes
    if ipaddress.IPv4Address(value) not in ipaddress.IPv4Network(cidr):
        return [f"{field}: {value!r} lies outside {cidr}, the prefix of its subnet"]
    return [f"{field}: {value!r} is the network, gateway or last address of {cidr}: these are reserved"]


def vni_mistakes(field: str, value: int) -> list[str]:
    if value == GRO_VNI:
        return [f"{field}: {value} is reserved for the hosts' idle tunnel device"]
    if not FIRST_VNI <= value <= LAST_VNI:
        return [f"{field}: {value} is outside {FIRST_VNI}..{LAST_VNI} (24 bits)"]
    return []


def parse_address(field: str, value: object) -> ipaddress.IPv4Address:
    """Raises Invalid."""
    if mistakes := address_mistakes(field, value):
        raise Invalid(mistakes)
    return ipaddress.IPv4Address(value)


def parse_prefix(field: str, value: object) -> ipaddress.IPv4Network:
    """Raises Invalid."""
    if mistakes := prefix_mistakes(field, value):
        raise Invalid(mistakes)
    return ipaddress.IPv4Network(value)


class Usable(Sequence[str]):
    """The addresses of a subnet that endpoints may have, ascending: all but network, gateway and last.

    Nothing is enumerated: length, indexing, `in` and `index` take constant time for any prefix. Raises Invalid.
    """

    def __init__(self, cidr: str) -> None:
        network = parse_prefix("cidr", cidr)
        self._first = int(network.network_address) + 2
        self._count = max(0, network.num_addresses - 3)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [_text(self._first + i) for i in range(self._count)[index]]
        return _text(self._first + range(self._count)[index])

    def __iter__(self) -> Iterator[str]:
        return (_text(self._first + i) for i in range(self._count))

    def __contains__(self, value: object) -> bool:
        return not address_mistakes("", value) and 0 <= int(ipaddress.IPv4Address(value)) - self._first < self._count

    def index(self, value: object, start: int = 0, stop: int | None = None) -> int:
        """Position of an address; raises ValueError where it is not usable."""
        if value in self:
            position = int(ipaddress.IPv4Address(value)) - self._first
            if position in range(self._count)[start:stop]:
                return position
        raise ValueError(f"{value!r} is not usable")


def usable(cidr: str) -> Usable:
    """The addresses endpoints of this subnet may have; a /28 has 13."""
    return Usable(cidr)


def gateway(cidr: str) -> str:
    """First address behind the network address; it answers ping and belongs to no endpoint. Raises Invalid."""
    return _text(int(parse_prefix("cidr", cidr).network_address) + 1)


def prefix_length(cidr: str) -> int:
    """Raises Invalid."""
    return parse_prefix("cidr", cidr).prefixlen


def pod_mtu(uplink_mtu: int) -> int:
    """Bytes of IP packet an endpoint may send through an uplink of this MTU."""
    return uplink_mtu - OVERHEAD


def endpoint_mac(vni: int, address: str) -> str:
    """MAC of an endpoint's interface: locally administered, unicast; "xx:xx:xx:xx:xx:xx".

    Six bits of the VNI beside the two flag bits of byte 0, eight more in byte 1, the address in bytes 2..5. It is
    unique inside a VPC and among any 16,384 successive VNIs. It never equals the fixed gateway MAC
    02:6d:7a:00:00:01, since 122.0.0.1 is the gateway of every subnet that could hold it.
    """
    raw = bytes([(vni & 0x3F) << 2 | 0x02, vni >> 6 & 0xFF]) + parse_address("address", address).packed
    return raw.hex(":")


def ipv6_address(vpc_prefix: str, address: str) -> str:
    """IPv6 address of an endpoint: its VPC's /96 ("prefix/96" text) followed by its IPv4 address. Raises Invalid."""
    try:
        network = ipaddress.IPv6Network(vpc_prefix)
    except ValueError as error:
        raise Invalid([f"vpc_prefix: {vpc_prefix!r} is no IPv6 prefix: {error}"]) from error
    if network.prefixlen != 96:
        raise Invalid([f"vpc_prefix: {vpc_prefix!r} has length {network.prefixlen}: a VPC has a /96"])
    return str(network.network_address + int(parse_address("address", address)))


def _text(number: int) -> str:
    return str(ipaddress.IPv4Address(number))
