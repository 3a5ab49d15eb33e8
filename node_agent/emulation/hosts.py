"""An emulated host: a namespace whose `uplink0` is plugged into the fabric. Its agent runs in it (`processes`).

Called by the Pulumi provider. What an uplink must and must not do (the offloads) is `kernel.features.UPLINK`.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from dataclasses import dataclass

from node_agent.emulation import fabric, folders, processes
from node_agent.kernel import features, links, netns
from node_agent.model.addresses import GRO_VNI
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces

UPLINK = "uplink0"
# Gives the tunnel port a socket, which is what makes the kernel merge tunnelled packets (GRO). It never carries one.
GRO_DEVICE, TUNNEL_PORT = "mzgro0", 4789
NAME_MOST = 15  # characters of an interface name
SYSCTLS = {"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0", "net/ipv4/ip_forward": "0"}
# A veth leaves checksums to its peer, by a note on the packet that native XDP on that peer loses.
_CHECKSUM = "tx-checksum-ip-generic"
# XDP may ask the kernel for a third host's neighbour entry only on a device that forwards. Nothing else does, so the
# one way a packet could take is back out of the uplink; a host's port in a VPC says itself what it lets in
# (`cluster.forwarding`).
UPLINK_SYSCTLS = {f"net/ipv4/conf/{UPLINK}/forwarding": "1"}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """`address`: underlay "address/length". `mtu`: of the uplink, bytes. `native`: its XDP program runs natively."""

    name: str
    address: str
    mtu: int = 1500
    native: bool = False


@dataclass(frozen=True, kw_only=True)
class Observed:
    """`identity`: inode of the namespace. `native`: native XDP gets to see whole checksums here. `problems`: what
    differs from a working host, one sentence each."""

    name: str
    netns: str
    identity: int
    address: str
    mtu: int
    native: bool
    problems: tuple[str, ...]


def make(places: StackPlaces, spec: Spec) -> Observed:
    """The host as specified, plugged into the fabric; repairs what is there. Raises Permanent, Temporary."""
    path, underlay = places.netns_path(spec.name), places.netns_path(fabric.NAME)
    if spec.name == fabric.NAME:
        raise Permanent(f"make host {spec.name}: this name belongs to the fabric")
    if not netns.exists(underlay):
        raise Permanent(f"make host {spec.name}: the stack has no fabric")
    netns.create(path)
    port = port_name(spec.name)
    with netns.enter(path):
        for key, value in SYSCTLS.items():
            netns.set_sysctl(None, key, value)
    with links.opened(path) as net:
        net.ensure_veth(UPLINK, peer_netns=underlay, peer=port, mtu=spec.mtu, mac=uplink_mac(places, spec.name))
        features.ensure(net, UPLINK, {**features.UPLINK, **features.GRO})
        net.ensure_address(UPLINK, spec.address)
        for key, value in UPLINK_SYSCTLS.items():
            netns.set_sysctl(path, key, value)
        net.ensure_vxlan(GRO_DEVICE, GRO_VNI, TUNNEL_PORT)
        with links.opened(underlay) as there:
            # A port without GRO has no NAPI, and drops frames that XDP redirects into it, silently.
            features.ensure(there, port, {**features.GRO, _CHECKSUM: not spec.native})
            there.ensure(port, master=fabric.BRIDGE, up=True)
        net.ensure(UPLINK, up=True)
        net.ensure(GRO_DEVICE, up=True)
    folders.make_private(places.host(spec.name).root)
    observed = inspect(places, spec.name)
    if observed is None or observed.problems:
        raise Permanent(f"make host {spec.name}: " + "; ".join(observed.problems if observed else ["it is gone again"]))
    return observed


def inspect(places: StackPlaces, name: str) -> Observed | None:
    """The host as it is; None: it has no namespace."""
    path = places.netns_path(name)
    identity = netns.identity(path)
    if identity is None:
        return None
    with links.opened(path) as net:
        uplink = net.get(UPLINK)
        addresses = net.addresses(UPLINK) if uplink else ()
        problems = _uplink_problems(net, uplink)
    with netns.enter(path):
        problems += [
            f"sysctl {key} is not {value}"
            for key, value in {**SYSCTLS, **UPLINK_SYSCTLS}.items()
            if netns.sysctl(None, key) != value
        ]
    problems += _port_problems(places, name)
    return Observed(
        name=name,
        netns=places.netns(name),
        identity=identity,
        address=" ".join(addresses),
        mtu=uplink.mtu if uplink else 0,
        native=_native(places, name),
        problems=tuple(problems),
    )


def remove(places: StackPlaces, name: str) -> None:
    """Stop the host's agent, then remove its namespace, uplink, folder and pins; absent is success."""
    host = places.host(name)
    processes.remove(host.root, "agent")
    netns.delete(places.netns_path(name))
    underlay = places.netns_path(fabric.NAME)
    if netns.exists(underlay):
        # The kernel takes a namespace's devices down a little later; the port's name must be free at once.
        with links.opened(underlay) as net:
            net.delete(port_name(name))
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(host.pins)


def port_name(host: str) -> str:
    """Name of the host's port on the fabric: "p-<host>", with a hash in place of a long name."""
    name = f"p-{host}"
    return name if len(name) <= NAME_MOST else "p-" + hashlib.sha256(host.encode()).hexdigest()[:12]


def unplugged(places: StackPlaces, name: str) -> str:
    """Why the fabric carries nothing to or from this host; "" when it does."""
    underlay = places.netns_path(fabric.NAME)
    if not netns.exists(underlay):
        return "fabric: missing"
    with links.opened(underlay) as net:
        port, bridge = net.get(port_name(name)), net.get(fabric.BRIDGE)
    if port is None or bridge is None or port.master != bridge.index or not port.up:
        return f"fabric port {port_name(name)}: missing, down or not plugged in"
    return ""


def uplink_mac(places: StackPlaces, host: str) -> str:
    """The same for a host that is made anew, so that its neighbours' caches stay right."""
    digest = hashlib.sha256(f"{places.id}/{host}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def _uplink_problems(net: links.Links, uplink: links.Link | None) -> list[str]:
    if uplink is None:
        return [f"{UPLINK}: missing"]
    problems = [] if uplink.up else [f"{UPLINK}: down"]
    active = features.read(net, UPLINK)
    problems += [
        f"{UPLINK}: {feature} is {'off' if on else 'on'}"
        for feature, on in {**features.UPLINK, **features.GRO}.items()
        if active.get(feature, False) != on
    ]
    gro = net.get(GRO_DEVICE)
    if gro is None or gro.kind != "vxlan" or not gro.up:
        problems.append(f"{GRO_DEVICE}: missing or down")
    return problems


def _native(places: StackPlaces, name: str) -> bool:
    underlay = places.netns_path(fabric.NAME)
    if not netns.exists(underlay):
        return False
    with links.opened(underlay) as net:
        return net.get(port_name(name)) is not None and not features.read(net, port_name(name)).get(_CHECKSUM, False)


def _port_problems(places: StackPlaces, name: str) -> list[str]:
    if why := unplugged(places, name):
        return [why]
    with links.opened(places.netns_path(fabric.NAME)) as net:
        return (
            []
            if features.read(net, port_name(name)).get("rx-gro")
            else [f"fabric port {port_name(name)}: rx-gro is off"]
        )
