"""Names, overlay and underlay addresses: limits, checking, reserving, numbering. Pure.

Called by the settings and the plan (checking, numbering), the agents (claiming, MAC, MTU) and the controller (VNI
bounds). Addresses are dotted-quad text, prefixes "address/length" text without host bits, in their one canonical
spelling.

Functions named `*_mistakes` return one sentence per mistake ("field: value: rule") and never raise, so that a caller
can collect the mistakes of many fields; `parse_*` raise Invalid.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from node_agent.model.errors import Invalid

OVERHEAD = 50
"""Bytes an outer Ethernet, IPv4, UDP and VXLAN header add to an inner IP packet."""

MIN_UPLINK_MTU = 1280 + OVERHEAD
MAX_UPLINK_MTU = 9000

LAST_VNI = 0xFFFFFE
GRO_VNI = 0xFFFFFF
"""Id of the idle VXLAN device that exists for tunnel GRO; no VPC may have it."""

SHORTEST_PREFIX, LONGEST_PREFIX = 8, 30
MIN_SET, MAX_SET = 2, 16
FIRST_PORT, LAST_PORT = 1, 65535
MAX_BACKENDS = 251
"""Of one service: each needs a slot in the service's table."""
MAX_PORTS = 64
"""Of one service."""

NAME_LENGTH = 40
NAME_RULE = f"a name is 1 to {NAME_LENGTH} of a-z, 0-9 and '-', begins with a letter and does not end with '-'"
"""Of what people name: names become parts of namespaces, files and Kubernetes names."""

ADDRESS_RULE = "must be an IPv4 address, like 10.10.1.20: four numbers 0..255 with dots, no leading zeros"

POD_GATEWAY = "169.254.1.1"
"""Next hop of every endpoint, on its link only; the programs answer for it (bpf/include/local.h, LINK_GATEWAY)."""

OUTLET_ADDRESS = "169.254.1.2"
"""What the endpoints of a host have as their address, with a port for each flow, towards the host's own stack."""

_QUAD = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}")
_LENGTH = re.compile(r"0|[1-9][0-9]?")
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
FORBIDDEN = {
    "0.0.0.0/8": "this network",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": f"link-local; endpoints route through {POD_GATEWAY}",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
"""Prefixes that neither a tenant nor an underlay may have, and why."""


def shown(value: object) -> str:
    """A value as a person wrote it, cut to a readable length."""
    plain = value if value is None or isinstance(value, bool | int | float | list | dict) else str(value)
    text = plain if isinstance(plain, str) and plain else json.dumps(plain, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def told(field: str, value: object, rule: str) -> str:
    """The sentence that a mistake earns."""
    return f"{field}: {shown(value)}: {rule}"


def is_name(value: object) -> bool:
    """Whether it keeps NAME_RULE."""
    return isinstance(value, str) and len(value) <= NAME_LENGTH and _NAME.fullmatch(value) is not None


def address_mistakes(field: str, value: object) -> list[str]:
    """An IPv4 address in canonical spelling."""
    if isinstance(value, str) and _QUAD.fullmatch(value) and all(int(part) < 256 for part in value.split(".")):
        return []
    return [told(field, value, ADDRESS_RULE)]


def prefix_rule(shortest: int, longest: int) -> str:
    return f"must be an IPv4 prefix without host bits from /{shortest} to /{longest}, like 10.10.0.0/16"


def prefix_mistakes(field: str, value: object, shortest: int = 0, longest: int = 32) -> list[str]:
    """An IPv4 prefix in canonical spelling: "address/length", no host bits, length `shortest` to `longest`."""
    rule = prefix_rule(shortest, longest)
    if not isinstance(value, str) or value.count("/") != 1:
        return [told(field, value, rule)]
    address, length = value.split("/")
    if address_mistakes(field, address) or not _LENGTH.fullmatch(length) or not shortest <= int(length) <= longest:
        return [told(field, value, rule)]
    network = ipaddress.IPv4Network(value, strict=False)
    return [] if str(network) == value else [told(field, value, f"{rule}: write {network}")]


def special_mistakes(field: str, cidr: str) -> list[str]:
    """A prefix that is to be a tenant's or the underlay's. Raises Invalid when it is none."""
    network = parse_prefix(field, cidr)
    return [
        told(field, cidr, f"must not overlap {taken}, which is set aside ({why})")
        for taken, why in FORBIDDEN.items()
        if network.overlaps(ipaddress.IPv4Network(taken))
    ]


def vip_mistakes(field: str, value: str, vpc: str, subnets: Iterable[str]) -> list[str]:
    """A service's address, given the prefixes of its VPC and of the VPC's subnets. Raises Invalid when one is none."""
    address, network = parse_address(field, value), parse_prefix("cidr", vpc)
    if address not in network:
        return [told(field, value, f"must lie inside the prefix of its VPC, {vpc}")]
    if address in (network.network_address, network.broadcast_address):
        return [told(field, value, "network and last address of a VPC are reserved")]
    return [
        told(field, value, f"must lie outside of every subnet; {cidr} is for endpoints")
        for cidr in subnets
        if address in parse_prefix("cidr", cidr)
    ]


def claim_mistakes(field: str, value: object, cidr: str) -> list[str]:
    """An address that an endpoint of the subnet `cidr` asks for."""
    mistakes = address_mistakes(field, value)
    if mistakes or str(value) in Usable(cidr):
        return mistakes
    if ipaddress.IPv4Address(value) not in ipaddress.IPv4Network(cidr):
        return [told(field, value, f"must lie inside the prefix of its subnet, {cidr}")]
    return [told(field, value, f"network, gateway and last address of a subnet are reserved, here {cidr}")]


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
    """The addresses of a subnet that endpoints may have, ascending: all but network, gateway and last. A
    /28 has 13.

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


def gateway(cidr: str) -> str:
    """First address behind the network address; it answers ping and belongs to no endpoint. Raises Invalid."""
    return _text(int(parse_prefix("cidr", cidr).network_address) + 1)


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


def _text(number: int) -> str:
    return str(ipaddress.IPv4Address(number))
