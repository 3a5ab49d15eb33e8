"""A new veth pair of an endpoint, made with as few words to the kernel as it takes: ADD waits for it, and so do others.

Each change of the network's devices waits for one lock that the whole computer shares, so what counts is how many there
are. For a pair that is not there yet; what may be there, or half of it, is for the verbs of `kernel.links`, which find
out before they act. Called by the agent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from node_agent.kernel import features, filters, netns
from node_agent.kernel.links import IFF_UP, RTNH_ONLINK, SCOPE_LINK, Links, refused
from node_agent.kernel.netlink import CREATE, EXCL, NESTED, REPLACE, Message, attribute
from node_agent.model.addresses import POD_GATEWAY

_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE = 16, 17, 20, 24
_IFINFO, _IFADDR, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI")
_ADDRESS, _NAME, _MTU, _INFO, _NAMESPACE = 1, 3, 4, 18, 28
_KIND, _DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_TO, _OUT, _THROUGH = 1, 4, 5
_MAIN, _STATIC, _UNICAST = 254, 4, 1
_SIOCGIFINDEX = 0x8933


@dataclass(frozen=True, kw_only=True)
class Pair:
    """`name` here, `peer` in the namespace at `netns`. `mac`, `address`: of the peer. `mtu`: of both, bytes. `program`:
    descriptor of what sees all that comes out of the endpoint, under `program_name`."""

    name: str
    netns: Path
    peer: str
    mac: str
    address: str
    mtu: int
    program: int
    program_name: str


def make(net: Links, pod: Links, pair: Pair) -> int | None:
    """The pair with address, routes and program, both ends up, the host's last; its ifindex there. None: one of the
    names is taken, and nothing was changed. Raises Temporary or Permanent, and then there is no such pair."""
    what = f"add veth {pair.name} with peer {pair.peer}"
    with netns.opened(pair.netns) as fd:
        try:
            net.raw.changes([_veth(pair, fd)])
        except OSError as error:
            if error.errno == errno.EEXIST:
                return None
            raise refused(what, error) from error
    try:
        return _complete(net, pod, pair)
    except BaseException as error:
        with contextlib.suppress(OSError):  # it goes with the endpoint's namespace at the latest
            net.raw.changes([(_DELLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + _name(pair.name))])
        if isinstance(error, OSError):
            raise refused(what, error) from error
        raise


def _complete(net: Links, pod: Links, pair: Pair) -> int:
    here, there = _index(net, pair.name), _index(pod, pair.peer)
    for links, name in ((net, pair.name), (pod, pair.peer)):
        features.want_gro(links, name)
    pod.raw.changes(inside(there, pair.address))
    net.raw.changes(filters.first_messages(here, "ingress", pair.program, pair.program_name))
    net.raw.changes([_up(here)])
    return here


def inside(index: int, address: str) -> Sequence[Message]:
    """What makes the endpoint's interface usable: up, its only address, and everything through the gateway. Pure."""
    own, gateway = IPv4Address(address).packed, IPv4Address(POD_GATEWAY).packed
    addr = _IFADDR.pack(socket.AF_INET, 32, 0, 0, index)
    out = attribute(_OUT, struct.pack("=I", index))
    link = _ROUTE.pack(socket.AF_INET, 32, 0, 0, _MAIN, _STATIC, SCOPE_LINK, _UNICAST, 0)
    default = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _MAIN, _STATIC, 0, _UNICAST, RTNH_ONLINK)
    return [
        _up(index),
        (_NEWADDR, CREATE | EXCL, addr + attribute(_IFA_LOCAL, own) + attribute(_IFA_ADDRESS, own)),
        (_NEWROUTE, CREATE | REPLACE, link + attribute(_TO, gateway) + out),
        (_NEWROUTE, CREATE | REPLACE, default + attribute(_THROUGH, gateway) + out),
    ]


def _veth(pair: Pair, namespace: int) -> Message:
    # IFF_UP must not be asked for here: the kernel refuses it while the peer is down, after a long wait.
    mtu = attribute(_MTU, struct.pack("=I", pair.mtu))
    peer = (
        _IFINFO.pack(0, 0, 0, 0, 0)
        + _name(pair.peer)
        + mtu
        + attribute(_ADDRESS, bytes.fromhex(pair.mac.replace(":", "")))
        + attribute(_NAMESPACE, struct.pack("=I", namespace))
    )
    data = attribute(_DATA | NESTED, attribute(_VETH_PEER | NESTED, peer))
    info = attribute(_INFO | NESTED, attribute(_KIND, b"veth\0") + data)
    return _NEWLINK, CREATE | EXCL, _IFINFO.pack(0, 0, 0, 0, 0) + _name(pair.name) + mtu + info


def _up(index: int) -> Message:
    return _NEWLINK, 0, _IFINFO.pack(0, 0, index, IFF_UP, IFF_UP)


def _name(name: str) -> bytes:
    return attribute(_NAME, name.encode() + b"\0")


def _index(links: Links, name: str) -> int:
    found = fcntl.ioctl(links.control, _SIOCGIFINDEX, struct.pack("16si20x", name.encode(), 0))
    return int(struct.unpack_from("=i", found, 16)[0])
