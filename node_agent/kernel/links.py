"""Interfaces, addresses and routes of one network namespace; every verb may be repeated.

    with links.opened(path) as net:         # the calling thread is not moved
        net.ensure_veth("mz0123", peer_netns=pod, peer="eth0", mtu=1450)

Called by the emulation (fabric, uplinks), the agent (pods, uplink) and the probes' tests. Offload features are
`kernel.features`, BPF filters `kernel.filters`; both take the session that `opened` yields.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from node_agent.kernel import netns
from node_agent.kernel.netlink import Netlink, attribute, attributes
from node_agent.model.addresses import POD_GATEWAY
from node_agent.model.errors import Permanent, Temporary

IFF_UP, IFF_LOWER_UP = 1, 1 << 16
SCOPE_LINK = 253
RTNH_ONLINK = 4
NUD_PERMANENT = 0x80
_PASSING = {errno.EBUSY, errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EINTR}
_GETLINK, _DELLINK, _GETADDR = 18, 17, 22
_NO_SUCH_LINK = {errno.ENODEV, errno.EINVAL, errno.ERANGE}  # the last two: no link can be named like that
_IFINFO, _IFADDR = struct.Struct("=BxHiII"), struct.Struct("=BBBBI")
_ADDRESS, _NAME, _MTU, _PEER, _QUEUE, _MASTER, _INFO, _EXTENSIONS, _PEER_NSID = 1, 3, 4, 5, 6, 10, 18, 29, 37
_NO_QUEUE = {"", "noop", "noqueue"}  # the second while it is down
_INFO_KIND = 1
_LOCAL_ADDRESS = 2
_SIOCGIFMTU = 0x8921
_NO_COUNTERS = struct.pack("=I", 8)  # RTEXT_FILTER_SKIP_STATS: they are most of a message, and nobody reads them


@dataclass(frozen=True)
class Link:
    """One interface as it is. `kind` "" for a device without one (lo); `master`, `peer`: ifindex or 0; the peer's
    number counts in `peer_nsid`, this namespace's id of the peer's namespace, or here when that is None. `carrier`: up
    at the other end too. `queued`: what leaves by it passes a queueing discipline."""

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
    queued: bool = False


@contextlib.contextmanager
def opened(path: Path | None = None) -> Iterator[Links]:
    """A session inside the namespace at `path` (None: the calling thread's). To be used by this thread only."""
    # Sockets keep the namespace they were opened in, so the thread need not stay there.
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(netns.opened(path or netns.OWN))
        with netns.enter(path):
            control = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            raw = stack.enter_context(Netlink())

        def routes() -> Any:
            """pyroute2 takes milliseconds to begin: only for those who need it."""
            with netns.enter(Path(f"/proc/self/fd/{home}")):
                made = IPRoute()
            stack.callback(made.close)
            return made

        yield Links(path, routes, control, raw)


class Links:
    """The verbs. They raise Temporary (the kernel is busy) or Permanent, as "verb object: cause"."""

    def __init__(self, path: Path | None, routes: Callable[[], Any], control: socket.socket, raw: Netlink) -> None:
        self.path, self.control, self.raw = path, control, raw
        self._routes = routes
        self._begun: Any = None

    @property
    def route(self) -> Any:
        """pyroute2's session, for what has no verb here."""
        if self._begun is None:
            self._begun = self._routes()
        return self._begun

    # --- interfaces ---

    def get(self, name: str) -> Link | None:
        """The interface as it is, or None."""
        with saying(f"read link {name}"):
            try:
                return _link(self.raw.get(_GETLINK, _named(name)))
            except OSError as error:
                if error.errno in _NO_SUCH_LINK:
                    return None
                raise

    def all(self) -> tuple[Link, ...]:
        """Every interface, by ifindex."""
        asked = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_EXTENSIONS, _NO_COUNTERS)
        with saying("list links"):
            found = self.raw.dump(_GETLINK, asked)
        return tuple(sorted(map(_link, found), key=lambda link: link.index))

    def index(self, name: str) -> int | None:
        """The interface's ifindex, or None."""
        link = self.get(name)
        return link.index if link else None

    def mtu(self, name: str) -> int:
        """Bytes; without the lock of all network devices, which reading the whole link takes. Raises Permanent when
        there is no such interface."""
        try:
            found = fcntl.ioctl(self.control, _SIOCGIFMTU, struct.pack("16si20x", name.encode(), 0))
        except OSError as error:
            raise refused(f"read MTU of {name}{self._where()}", error) from error
        return int(struct.unpack_from("=i", found, 16)[0])

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
        with saying(f"set link {name} {change}"):
            self.route.link("set", index=link.index, **change)
        return self.need(name)

    def rename(self, name: str, new: str) -> None:
        """The interface has the new name; its addresses and routes stay. Kernels before 6.2 rename none that is up:
        there it is down for a moment, and loses its routes."""
        link = self.need(name)
        if name == new:
            return
        with saying(f"rename link {name} to {new}"):
            try:
                self.route.link("set", index=link.index, ifname=new)
            except NetlinkError as error:
                if error.code != errno.EBUSY or not link.up:
                    raise
                self.route.link("set", index=link.index, state="down")
                self.route.link("set", index=link.index, ifname=new)
                self.route.link("set", index=link.index, state="up")

    def delete(self, name: str) -> None:
        """Remove the interface; absent is success."""
        with saying(f"delete link {name}"):
            try:
                self.raw.change(_DELLINK, 0, _named(name))
            except OSError as error:
                if error.errno not in _NO_SUCH_LINK:
                    raise

    # --- addresses and routes ---

    def addresses(self, name: str) -> tuple[str, ...]:
        """IPv4 addresses of the interface as "address/length", sorted."""
        link = self.need(name)
        with saying(f"read addresses of {name}"):
            bodies = self.raw.dump(_GETADDR, _IFADDR.pack(socket.AF_INET, 0, 0, 0, 0))
        found = []
        for body in bodies:
            _, length, _, _, index = _IFADDR.unpack_from(body)
            if index == link.index:
                found.append(f"{socket.inet_ntoa(attributes(body[_IFADDR.size :])[_LOCAL_ADDRESS])}/{length}")
        return tuple(sorted(found))

    def own_addresses(self) -> frozenset[str]:
        """Every IPv4 address of this namespace, without its prefix length."""
        with saying("list addresses"):
            return frozenset(str(m.get_attr("IFA_LOCAL")) for m in self.route.get_addr(family=socket.AF_INET))

    def ensure_address(self, name: str, address: str) -> None:
        """The interface has exactly this IPv4 address ("10.0.0.1/24"), and no other."""
        index = self.need(name).index
        # The new one first: the kernel drops an interface's routes along with its last address.
        present = self._add_address(name, index, address)
        for other in present - {address}:
            with saying(f"delete address {other} of {name}"):
                self.route.addr("del", index=index, **_prefix(other))
        if present - {address}:
            self._add_address(name, index, address)  # an address of the same prefix goes along with the first of it

    def add_address(self, name: str, address: str) -> None:
        """The interface has this IPv4 address, beside the others that it has."""
        self._add_address(name, self.need(name).index, address)

    def _add_address(self, name: str, index: int, address: str) -> set[str]:
        """Add it if it is missing; returns the addresses before."""
        present = set(self.addresses(name))
        if address not in present:
            with saying(f"add address {address} to {name}"):
                self.route.addr("add", index=index, **_prefix(address))
        return present

    def ensure_pod_routes(self, name: str, gateway: str = POD_GATEWAY) -> None:
        """The two routes of an endpoint: the gateway as a neighbour on the link, everything else through it."""
        index = self.need(name).index
        with saying(f"add route to {gateway} on {name}"):
            self.route.route("replace", dst=f"{gateway}/32", oif=index, scope=SCOPE_LINK)
        with saying(f"add default route via {gateway} on {name}"):
            self.route.route("replace", dst="0.0.0.0/0", gateway=gateway, oif=index, flags=RTNH_ONLINK)

    def ensure_route(self, destination: str, gateway: str, name: str) -> None:
        """Packets to the prefix "10.0.0.0/8" leave through the interface, by way of the gateway."""
        index = self.need(name).index
        with saying(f"add route to {destination} via {gateway} on {name}"):
            self.route.route("replace", dst=destination, gateway=gateway, oif=index)

    def ensure_link_route(self, destination: str, name: str, source: str) -> None:
        """The prefix is on the interface's own link, and our address towards it is `source`."""
        index = self.need(name).index
        with saying(f"add route to {destination} on {name}"):
            self.route.route("replace", dst=destination, oif=index, scope=SCOPE_LINK, prefsrc=source)

    def way_to(self, address: str) -> tuple[int, str] | None:
        """(ifindex, own address) by which packets for the address would leave; None: there is no way."""
        with saying(f"find route to {address}"):
            try:
                found = list(self.route.route("get", dst=address))
            except NetlinkError as error:
                if error.code in (errno.ENETUNREACH, errno.EHOSTUNREACH):
                    return None
                raise
        return (found[0].get_attr("RTA_OIF"), found[0].get_attr("RTA_PREFSRC") or "") if found else None

    def ensure_neighbour(self, address: str, mac: str, name: str) -> None:
        """The address has this MAC address on the interface, for ever."""
        index = self.need(name).index
        with saying(f"add neighbour {address} of {name}"):
            self.route.neigh("replace", dst=address, lladdr=mac, ifindex=index, state="permanent")

    def neighbours(self, name: str) -> dict[str, str]:
        """IPv4 address -> MAC address, of the interface's neighbours that stay for ever."""
        index = self.need(name).index
        with saying(f"list neighbours of {name}"):
            found = self.route.neigh("dump", family=socket.AF_INET)
            return {
                str(m.get_attr("NDA_DST")): str(m.get_attr("NDA_LLADDR"))
                for m in found
                if m["ifindex"] == index and m["state"] & NUD_PERMANENT
            }

    # --- inside ---

    def _ensure_kind(self, name: str, kind: str, **how: Any) -> Link:
        link = self.get(name)
        if link and link.kind != kind:
            self.delete(name)
            link = None
        if link is None:
            with saying(f"add {kind} {name}"):
                self.route.link("add", ifname=name, kind=kind, **how)
        return self.need(name)

    def _add_veth(self, name: str, mtu: int, mac: str, peer: dict[str, Any]) -> None:
        # IFF_UP must not be asked for here: the kernel refuses it while the peer is down, after a long wait.
        own = {"address": mac} if mac else {}
        with saying(f"add veth {name} with peer {peer['ifname']}"):
            self.route.link("add", ifname=name, kind="veth", mtu=mtu, peer=peer, **own)

    def _joined(self, here: Link, beyond: Link, fd: int) -> bool:
        """Whether these two are the ends of one pair. Numbers of interfaces repeat between namespaces, so the id of
        the peer's namespace must agree too: a pair into a namespace that is being torn down looks alike otherwise."""
        if here.kind != "veth" or beyond.kind != "veth" or here.peer != beyond.index or beyond.peer != here.index:
            return False
        with saying(f"read namespace of the peer of {here.name}"):
            answer = self.route.get_netnsid(fd=fd)
        nsid = answer["nsid"] if answer else None
        return here.peer_nsid is None or here.peer_nsid == nsid

    def _where(self) -> str:
        return f" in {self.path}" if self.path else ""


def _named(name: str) -> bytes:
    """A request about the interface of this name."""
    asked = attribute(_NAME, name.encode() + b"\0") + attribute(_EXTENSIONS, _NO_COUNTERS)
    return _IFINFO.pack(0, 0, 0, 0, 0) + asked


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = attributes(body[_IFINFO.size :])
    nsid = found.get(_PEER_NSID)
    return Link(
        name=_text(found[_NAME]),
        index=index,
        kind=_text(attributes(found.get(_INFO, b"")).get(_INFO_KIND, b"")),
        mac=found.get(_ADDRESS, b"").hex(":"),
        mtu=_number(found.get(_MTU)),
        up=bool(flags & IFF_UP),
        master=_number(found.get(_MASTER)),
        peer=_number(found.get(_PEER)),
        peer_nsid=None if nsid is None else int(struct.unpack("=i", nsid)[0]),
        carrier=bool(flags & IFF_LOWER_UP),
        queued=_text(found.get(_QUEUE, b"")) not in _NO_QUEUE,
    )


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode()


def _number(raw: bytes | None) -> int:
    return int.from_bytes(raw, sys.byteorder) if raw else 0


def _prefix(text: str) -> dict[str, Any]:
    address, _, length = text.partition("/")
    return {"address": address, "prefixlen": int(length or 32)}


@contextlib.contextmanager
def saying(what: str) -> Iterator[None]:
    """Turns the kernel's refusal into an error of ours that says what was tried."""
    try:
        yield
    except (NetlinkError, OSError) as error:
        raise refused(what, error) from error


def refused(what: str, error: NetlinkError | OSError) -> Temporary | Permanent:
    """The error of ours that says what was tried. Pure."""
    code = error.code if isinstance(error, NetlinkError) else error.errno
    passing = code in _PASSING or isinstance(error, TimeoutError)
    message = f"{what}: {error.args[-1]}"
    return Temporary(message) if passing else Permanent(message)
