"""Interfaces, addresses and routes of one network namespace; every verb may be repeated.

    with links.opened(path) as net:         # the calling thread is not moved
        net.ensure_veth("mz0123", peer_netns=pod, peer="eth0", mtu=1450)

Called by the emulation (fabric, uplinks), the agent (pods, uplink) and the probes' tests. Offload features are
`kernel.features`, BPF filters `kernel.filters`; both take the session that `opened` yields.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from node_agent.kernel import netns
from node_agent.kernel.netlink import Netlink
from node_agent.model.errors import Permanent, Temporary

IFF_UP, IFF_LOWER_UP = 1, 1 << 16
SCOPE_LINK = 253
RTNH_ONLINK = 4
POD_GATEWAY = "169.254.1.1"
_PASSING = {errno.EBUSY, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EINTR}


@dataclass(frozen=True)
class Link:
    """One interface as it is. `kind` "" for a device without one (lo); `master`, `peer`: ifindex or 0; the peer's
    number counts in `peer_nsid`, this namespace's id of the peer's namespace, or here when that is None. `carrier`: up
    at the other end too."""

    name: str
    index: int
    kind: str
    mac: str
    mtu: int
    up: bool
    master: int = 0
    peer: int = 0
    peer_nsid: int | None = None
    carrier: bool = False


@contextlib.contextmanager
def opened(path: Path | None = None) -> Iterator[Links]:
    """A session inside the namespace at `path` (None: the calling thread's). To be used by this thread only."""
    # Sockets keep the namespace they were opened in, so the thread need not stay there.
    with contextlib.ExitStack() as stack:
        with netns.enter(path):
            route = IPRoute()
            stack.callback(route.close)
            control = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            raw = stack.enter_context(Netlink())
        yield Links(path, route, control, raw)


class Links:
    """The verbs. They raise Temporary (the kernel is busy) or Permanent, as "verb object: cause"."""

    def __init__(self, path: Path | None, route: Any, control: socket.socket, raw: Netlink) -> None:
        self.path, self.control, self.raw = path, control, raw
        self._route = route

    # --- interfaces ---

    def get(self, name: str) -> Link | None:
        """The interface as it is, or None."""
        with _saying(f"read link {name}"):
            try:
                found = list(self._route.link("get", ifname=name))
            except NetlinkError as error:
                if error.code in (errno.ENODEV, errno.EINVAL):
                    return None
                raise
        return _link(found[0]) if found else None

    def all(self) -> tuple[Link, ...]:
        """Every interface, by ifindex."""
        with _saying("list links"):
            return tuple(sorted((_link(m) for m in self._route.link("dump")), key=lambda link: link.index))

    def index(self, name: str) -> int | None:
        """The interface's ifindex, or None."""
        link = self.get(name)
        return link.index if link else None

    def need(self, name: str) -> Link:
        """As `get`; raises Permanent when there is none."""
        link = self.get(name)
        if link is None:
            raise Permanent(f"find link {name}{self._where()}: no such interface")
        return link

    def ensure_veth(
        self, name: str, *, peer_netns: Path, peer: str, mtu: int, mac: str = "", peer_mac: str = ""
    ) -> Link:
        """A veth pair with one end here and `peer` in the other namespace, both with this MTU, both down when new.

        A pair of these names that spans other namespaces, or half of one, is replaced.
        """
        with opened(peer_netns) as there, netns.opened(peer_netns) as fd:
            here, beyond = self.get(name), there.get(peer)
            if here and not (beyond and self._joined(here, beyond, fd)):
                self.delete(name)  # takes the other end along, wherever it is
                here = None
            if here is None:
                there.delete(peer)
                self._add_veth(
                    name,
                    mtu,
                    mac,
                    {"ifname": peer, "mtu": mtu, "net_ns_fd": fd, **({"address": peer_mac} if peer_mac else {})},
                )
            else:
                there.ensure(peer, mtu=mtu, mac=peer_mac)
                self.ensure(name, mtu=mtu, mac=mac)
            return self.need(name)

    def ensure_bridge(self, name: str) -> Link:
        """A bridge without spanning tree that forwards to its ports at once."""
        return self._ensure_kind(name, "bridge", br_stp_state=0, br_forward_delay=0)

    def ensure_vxlan(self, name: str, vni: int, port: int) -> Link:
        """An idle VXLAN device: no peer, no learning, not external. Its socket is what gives the port tunnel GRO."""
        return self._ensure_kind(name, "vxlan", vxlan_id=vni, vxlan_port=port, vxlan_learning=False)

    def ensure(
        self, name: str, *, up: bool | None = None, mtu: int | None = None, mac: str = "", master: str | None = None
    ) -> Link:
        """Bring these properties about; only those that differ are written. `master`: a bridge's name, "" for none."""
        link = self.need(name)
        change: dict[str, Any] = {}
        if mac and link.mac != mac.lower():
            change["address"] = mac
        if mtu is not None and link.mtu != mtu:
            change["mtu"] = mtu
        if master is not None:
            wanted = self.need(master).index if master else 0
            if link.master != wanted:
                change["master"] = wanted
        if up is not None and link.up != up:
            change["state"] = "up" if up else "down"
        if not change:
            return link
        with _saying(f"set link {name} {change}"):
            self._route.link("set", index=link.index, **change)
        return self.need(name)

    def rename(self, name: str, new: str) -> None:
        """The interface has the new name; its addresses and routes stay. Kernels before 6.2 rename none that is up:
        there it is down for a moment, and loses its routes."""
        link = self.need(name)
        if name == new:
            return
        with _saying(f"rename link {name} to {new}"):
            try:
                self._route.link("set", index=link.index, ifname=new)
            except NetlinkError as error:
                if error.code != errno.EBUSY or not link.up:
                    raise
                self._route.link("set", index=link.index, state="down")
                self._route.link("set", index=link.index, ifname=new)
                self._route.link("set", index=link.index, state="up")

    def delete(self, name: str) -> None:
        """Remove the interface; absent is success."""
        link = self.get(name)
        if link is None:
            return
        with _saying(f"delete link {name}"):
            try:
                self._route.link("del", index=link.index)
            except NetlinkError as error:
                if error.code != errno.ENODEV:
                    raise

    # --- addresses and routes ---

    def addresses(self, name: str) -> tuple[str, ...]:
        """IPv4 addresses of the interface as "address/length", sorted."""
        link = self.need(name)
        with _saying(f"read addresses of {name}"):
            found = self._route.get_addr(family=socket.AF_INET, index=link.index)
            return tuple(sorted(f"{m.get_attr('IFA_LOCAL')}/{m['prefixlen']}" for m in found))

    def ensure_address(self, name: str, address: str) -> None:
        """The interface has exactly this IPv4 address ("10.0.0.1/24"), and no other."""
        index = self.need(name).index
        # The new one first: the kernel drops an interface's routes along with its last address.
        present = self._add_address(name, index, address)
        for other in present - {address}:
            with _saying(f"delete address {other} of {name}"):
                self._route.addr("del", index=index, **_prefix(other))
        if present - {address}:
            self._add_address(name, index, address)  # an address of the same prefix goes along with the first of it

    def add_address(self, name: str, address: str) -> None:
        """The interface has this IPv4 address, beside the others that it has."""
        self._add_address(name, self.need(name).index, address)

    def _add_address(self, name: str, index: int, address: str) -> set[str]:
        """Add it if it is missing; returns the addresses before."""
        present = set(self.addresses(name))
        if address not in present:
            with _saying(f"add address {address} to {name}"):
                self._route.addr("add", index=index, **_prefix(address))
        return present

    def ensure_pod_routes(self, name: str, gateway: str = POD_GATEWAY) -> None:
        """The two routes of an endpoint: the gateway as a neighbour on the link, everything else through it."""
        index = self.need(name).index
        with _saying(f"add route to {gateway} on {name}"):
            self._route.route("replace", dst=f"{gateway}/32", oif=index, scope=SCOPE_LINK)
        with _saying(f"add default route via {gateway} on {name}"):
            self._route.route("replace", dst="0.0.0.0/0", gateway=gateway, oif=index, flags=RTNH_ONLINK)

    def ensure_route(self, destination: str, gateway: str, name: str) -> None:
        """Packets to the prefix "10.0.0.0/8" leave through the interface, by way of the gateway."""
        index = self.need(name).index
        with _saying(f"add route to {destination} via {gateway} on {name}"):
            self._route.route("replace", dst=destination, gateway=gateway, oif=index)

    # --- inside ---

    def _ensure_kind(self, name: str, kind: str, **how: Any) -> Link:
        link = self.get(name)
        if link and link.kind != kind:
            self.delete(name)
            link = None
        if link is None:
            with _saying(f"add {kind} {name}"):
                self._route.link("add", ifname=name, kind=kind, **how)
        return self.need(name)

    def _add_veth(self, name: str, mtu: int, mac: str, peer: dict[str, Any]) -> None:
        # IFF_UP must not be asked for here: the kernel refuses it while the peer is down, after a long wait.
        own = {"address": mac} if mac else {}
        with _saying(f"add veth {name} with peer {peer['ifname']}"):
            self._route.link("add", ifname=name, kind="veth", mtu=mtu, peer=peer, **own)

    def _joined(self, here: Link, beyond: Link, fd: int) -> bool:
        """Whether these two are the ends of one pair. Numbers of interfaces repeat between namespaces, so the id of
        the peer's namespace must agree too: a pair into a namespace that is being torn down looks alike otherwise."""
        if here.kind != "veth" or beyond.kind != "veth" or here.peer != beyond.index or beyond.peer != here.index:
            return False
        with _saying(f"read namespace of the peer of {here.name}"):
            answer = self._route.get_netnsid(fd=fd)
        nsid = answer["nsid"] if answer else None
        return here.peer_nsid is None or here.peer_nsid == nsid

    def _where(self) -> str:
        return f" in {self.path}" if self.path else ""


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    nsid = message.get_attr("IFLA_LINK_NETNSID")
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        kind=(info.get_attr("IFLA_INFO_KIND") if info else "") or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & IFF_UP),
        master=message.get_attr("IFLA_MASTER") or 0,
        peer=message.get_attr("IFLA_LINK") or 0,
        peer_nsid=nsid,
        carrier=bool(message["flags"] & IFF_LOWER_UP),
    )


def _prefix(text: str) -> dict[str, Any]:
    address, _, length = text.partition("/")
    return {"address": address, "prefixlen": int(length or 32)}


@contextlib.contextmanager
def _saying(what: str) -> Iterator[None]:
    """Turns the kernel's refusal into an error of ours that says what was tried."""
    try:
        yield
    except NetlinkError as error:
        message = f"{what}: {error.args[-1]}"
        raise (Temporary(message) if error.code in _PASSING else Permanent(message)) from error
