"""The objects of the control plane, as frozen records.

The same records live in SQLite (stack `local`) and, as `mizar.com/v1` resources, in Kubernetes.  One writer per datum:

    spec                       the user, by way of the Pulumi program; for endpoints the ADD that claims the address
    Vpc.status, Subnet.status  the controller (VNI, VPC set, bouncers)
    NetworkService             those with a `source` the controller, spec and status
    NetworkEndpoint.status     the agent that holds the endpoint, or takes it over; the agent that gave it away says
                               when it has let go (`previous_host`)
    NetworkHost.status         that host's agent

Addresses are dotted-quad text, prefixes are "address/length" text without host bits; both were checked when the object
was made (`model.addresses`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import ClassVar, Literal

MemberState = Literal["joining", "active", "leaving"]
Transport = Literal["tcp", "udp"]
BackendState = Literal["ready", "serving", "terminating"]
Affinity = Literal["none", "client"]
Truth = Literal["True", "False", "Unknown"]


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
class Condition:
    """What is said of an object, in the form that Kubernetes has for it. `reason` is one word, `message` for people.
    `observed_generation`: of the spec that was looked at. `last_transition_time`: when `status` became what it is."""

    type: str
    status: Truth
    reason: str
    last_transition_time: str
    message: str = ""
    observed_generation: int = 0


READY = "Ready"
"""The condition that is "True" when the object is in force, as far as the controller can see."""


IN_USE = "InUse"
"""The condition of a VPC or subnet that has users, some of whom its message names; absent where there are none."""


@dataclass(frozen=True, kw_only=True)
class VpcSpec:
    """One tenant's address space. `set_size` hosts serve it; each subnet is bounced by `bouncers` of them."""

    cidr: str
    set_size: int = 3
    bouncers: int = 2


@dataclass(frozen=True, kw_only=True)
class SetMember:
    """One place of a VPC set. `place` is the bit in bouncer masks and never changes while the member stays. `replaces`:
    place of the member that it came for, which leaves once this one serves; -1: of none."""

    place: int
    host: str
    address: str
    state: MemberState = "active"
    replaces: int = -1


ALL_BOUNCE = 3
"""While a VPC set has up to this many members, all of them bounce every subnet: one hop answers."""


@dataclass(frozen=True, kw_only=True)
class VpcStatus:
    vni: int = 0
    members: tuple[SetMember, ...] = ()
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


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
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Subnet:
    kind: ClassVar[str] = "Subnet"
    name: str
    spec: SubnetSpec
    status: SubnetStatus = SubnetStatus()
    meta: Meta = Meta()


REFUSED = ("OutsideVpc", "Overlaps")
"""Reasons of a subnet that is not Ready because it must not be: it has no rows on any host."""


def refused(subnet: Subnet) -> bool:
    """Whether the controller has said that this subnet must not be in force."""
    return any(each.type == READY and each.reason in REFUSED for each in subnet.status.conditions)


@dataclass(frozen=True, kw_only=True)
class NetworkEndpointSpec:
    """(host, container_id, interface) is the claim: a repeated ADD finds its own endpoint by it.

    `workload` is the name a person gave it (the Pulumi resource, the pod); it carries no meaning for packets.
    `network` is the CNI network that asked for it, "" for the Pulumi program: a GC removes its own network's only.
    """

    vpc: str
    subnet: str
    address: str
    host: str
    container_id: str
    interface: str = "eth0"
    workload: str = ""
    network: str = ""


@dataclass(frozen=True, kw_only=True)
class NetworkEndpointStatus:
    """Who holds the endpoint now: its host and that host's underlay address; "" while nobody does.

    `next_host`, `next_address`: who is about to take it over, and whose word for it counts already. `previous_host`:
    who held it before; for a while it tells those who still send to it where the endpoint lives.
    """

    host: str = ""
    host_address: str = ""
    next_host: str = ""
    next_address: str = ""
    previous_host: str = ""


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


def stays(endpoint: NetworkEndpoint, host: str) -> bool:
    """Whether the endpoint is to be on this host, or still is."""
    return host in (endpoint.spec.host, endpoint.status.host)


def concerns(endpoint: NetworkEndpoint, host: str) -> bool:
    """Whether this host has something to do with the endpoint: has it, is to have it, or had it until just now."""
    return stays(endpoint, host) or endpoint.status.previous_host == host


def endpoint_tag(uid: str) -> int:
    """Tag of the endpoint with this uid: 1..0xfeff with bit 0x0100 clear."""
    return (zlib.crc32(uid.encode()) & 0xFEFF) or 1


def endpoint_name(vni: int, address: str) -> str:
    """Object name of the endpoint with this address in the VPC with this VNI."""
    return f"{vni}-{address}"


@dataclass(frozen=True, kw_only=True)
class ServicePort:
    """What clients address, `port` of the VIP, and where it arrives, `target_port` of a backend."""

    protocol: Transport
    port: int
    target_port: int
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class BackendPort:
    """Where one port of the service arrives at one backend."""

    protocol: Transport
    port: int
    target_port: int


@dataclass(frozen=True, kw_only=True)
class ServiceBackend:
    """An endpoint by its address. A ready one gets new connections; a serving or terminating one keeps what it has.
    `ports`: which of the service's it has, and where they arrive; () for all of them, at their target port.
    `egress`: the address is a host's own, outside of every VPC (EGRESS)."""

    address: str
    state: BackendState = "ready"
    egress: bool = False
    ports: tuple[BackendPort, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NetworkServiceSpec:
    """A VIP of a VPC and what stands behind it. `vip`: no endpoint's address, inside of the VPC's prefix or not; one
    service has it. `affinity` "client": all connections of one client address go to one backend.

    `source`: the Service of Kubernetes that the controller makes this of, `namespace/name`: it is the controller's, and
    ends with its VPC. "": it is a person's or the Pulumi program's, and the controller leaves it alone.
    """

    vpc: str
    vip: str
    ports: tuple[ServicePort, ...] = ()
    backends: tuple[ServiceBackend, ...] = ()
    affinity: Affinity = "none"
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class NetworkServiceStatus:
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()


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
