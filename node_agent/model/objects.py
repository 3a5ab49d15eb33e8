"""The objects of the control plane, as frozen records.

The same records live in SQLite (stack `local`) and, as `mizar.com/v1` resources, in Kubernetes.  One writer per datum:

    spec                       the user, by way of the Pulumi program; for endpoints the ADD that claims the address
    Vpc.status, Subnet.status  the controller (VNI, VPC set, bouncers)
    NetworkEndpoint.status     the agent that holds the endpoint
    NetworkHost.status         that host's agent

Addresses are dotted-quad text, prefixes are "address/length" text without host bits; both were checked when the object
was made (`model.addresses`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import ClassVar, Literal

MemberState = Literal["joining", "active", "leaving"]


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What a store adds to every object.

    `uid` differs between two objects of one name that lived one after the other; `resource_version` rises with every
    write of this object; `generation` rises with every change of its spec.
    """

    uid: str = ""
    resource_version: int = 0
    generation: int = 0
    deleting: bool = False
    finalizers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VpcSpec:
    """One tenant's address space. `set_size` hosts serve it; each subnet is bounced by `bouncers` of them."""

    cidr: str
    set_size: int = 3
    bouncers: int = 2


@dataclass(frozen=True, kw_only=True)
class SetMember:
    """One place of a VPC set. `place` is the bit in bouncer masks and never changes while the member stays."""

    place: int
    host: str
    address: str
    state: MemberState = "active"


@dataclass(frozen=True, kw_only=True)
class VpcStatus:
    vni: int = 0
    members: tuple[SetMember, ...] = ()
    observed_generation: int = 0


@dataclass(frozen=True, kw_only=True)
class Vpc:
    kind: ClassVar[str] = "Vpc"
    name: str
    spec: VpcSpec
    status: VpcStatus = VpcStatus()
    meta: Meta = Meta()


@dataclass(frozen=True, kw_only=True)
class SubnetSpec:
    vpc: str
    cidr: str


@dataclass(frozen=True, kw_only=True)
class SubnetStatus:
    """`bouncers`: places in the VPC set (VpcStatus.members) of the hosts that know this subnet's endpoints."""

    bouncers: tuple[int, ...] = ()
    observed_generation: int = 0


@dataclass(frozen=True, kw_only=True)
class Subnet:
    kind: ClassVar[str] = "Subnet"
    name: str
    spec: SubnetSpec
    status: SubnetStatus = SubnetStatus()
    meta: Meta = Meta()


@dataclass(frozen=True, kw_only=True)
class NetworkEndpointSpec:
    """(host, container_id, interface) is the claim: a repeated ADD finds its own endpoint by it.

    `workload` is the name a person gave it (the Pulumi resource, the pod); it carries no meaning for packets.
    """

    vpc: str
    subnet: str
    address: str
    host: str
    container_id: str
    interface: str = "eth0"
    workload: str = ""


@dataclass(frozen=True, kw_only=True)
class NetworkEndpointStatus:
    """Who holds the endpoint now: its host and that host's underlay address; "" while nobody does."""

    host: str = ""
    host_address: str = ""


@dataclass(frozen=True, kw_only=True)
class NetworkEndpoint:
    """One overlay NIC. Its name is its address: `<vni>-<address>`; creating it is the claim to the address."""

    kind: ClassVar[str] = "NetworkEndpoint"
    name: str
    spec: NetworkEndpointSpec
    status: NetworkEndpointStatus = NetworkEndpointStatus()
    meta: Meta = Meta()

    @property
    def tag(self) -> int:
        """15 useful bits of the uid, never 0. Bit 8 stays clear: it is the group bit of a MAC address on the wire."""
        return endpoint_tag(self.meta.uid)


def endpoint_tag(uid: str) -> int:
    """Tag of the endpoint with this uid: 1..0xfeff with bit 0x0100 clear."""
    return (zlib.crc32(uid.encode()) & 0xFEFF) or 1


def endpoint_name(vni: int, address: str) -> str:
    """Object name of the endpoint with this address in the VPC with this VNI."""
    return f"{vni}-{address}"


@dataclass(frozen=True, kw_only=True)
class NetworkServiceSpec:
    """A VIP of a VPC and what stands behind it. Carried from the first day, served once services arrive."""

    vpc: str
    vip: str
    ports: tuple[int, ...] = ()
    backends: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NetworkServiceStatus:
    observed_generation: int = 0


@dataclass(frozen=True, kw_only=True)
class NetworkService:
    kind: ClassVar[str] = "NetworkService"
    name: str
    spec: NetworkServiceSpec
    status: NetworkServiceStatus = NetworkServiceStatus()
    meta: Meta = Meta()


@dataclass(frozen=True, kw_only=True)
class NetworkHostSpec:
    """A machine or its emulation. `address`: underlay IPv4. `mtu`: of the uplink, bytes. `drain`: the host gets no
    places in VPC sets and hands over those that it has; its endpoints stay."""

    address: str
    mtu: int = 1500
    zone: str = ""
    drain: bool = False


@dataclass(frozen=True, kw_only=True)
class ProgramStatus:
    """One attached program: `hook` is "xdp" or "tc", `mode` how it runs there ("native", "generic", "tc")."""

    device: str
    hook: str
    mode: str
    tag: str


@dataclass(frozen=True, kw_only=True)
class NetworkHostStatus:
    """What the agent says of itself. `heartbeat`: seconds since the epoch. `generations`: VPC name -> the VPC's
    resource version whose rows are in this host's maps (the controller waits for it before anyone is asked)."""

    heartbeat: float = 0.0
    pid: int = 0
    ready: bool = False
    mode: str = ""
    programs: tuple[ProgramStatus, ...] = ()
    problems: tuple[str, ...] = ()
    generations: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NetworkHost:
    kind: ClassVar[str] = "NetworkHost"
    name: str
    spec: NetworkHostSpec
    status: NetworkHostStatus = NetworkHostStatus()
    meta: Meta = Meta()


@dataclass(frozen=True, kw_only=True)
class WatermarkSpec:
    """Nothing is asked of a watermark."""


@dataclass(frozen=True, kw_only=True)
class WatermarkStatus:
    """`value`: the last number given away."""

    value: int = 0


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """The controller's memory of a counter, e.g. "vni": numbers of deleted objects are not given away again."""

    kind: ClassVar[str] = "Watermark"
    name: str
    spec: WatermarkSpec = WatermarkSpec()
    status: WatermarkStatus = WatermarkStatus()
    meta: Meta = Meta()


Object = Vpc | Subnet | NetworkEndpoint | NetworkService | NetworkHost | Watermark
KINDS: dict[str, type[Object]] = {
    cls.kind: cls for cls in (Vpc, Subnet, NetworkEndpoint, NetworkService, NetworkHost, Watermark)
}
