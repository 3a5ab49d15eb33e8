"""BPF programs on an interface's clsact hook: one program per direction under one fixed handle, replaced in place.

clsact rather than TCX: attaching costs 0.03 ms instead of a 12 ms RCU wait. Raw messages rather than pyroute2: it does
not decode the program's tag and id. Called by the agent's program loader and the tests.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from typing import Literal

from node_agent.kernel.links import Link, Links
from node_agent.kernel.netlink import CREATE, EXCL, NESTED, REPLACE, Message, attribute, attributes
from node_agent.model.errors import Permanent, Temporary

Direction = Literal["ingress", "egress"]

HANDLE = 1
PRIORITY = 1
_NEWQDISC, _DELQDISC, _NEWTFILTER, _DELTFILTER, _GETTFILTER = 36, 37, 44, 45, 46
_PARENT: dict[Direction, int] = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_CLSACT_PARENT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_KIND, _OPTIONS = 1, 2
_BPF_FD, _BPF_NAME, _BPF_FLAGS, _BPF_TAG, _BPF_ID = 6, 7, 8, 10, 11
_DIRECT_ACTION = 1
_ETH_P_ALL = 3
_TCMSG = struct.Struct("=BxxxiIII")


@dataclass(frozen=True)
class Filter:
    """An attached program: the name it was attached under, its tag (16 hex digits) and its kernel id."""

    name: str
    tag: str
    id: int


def attach(net: Links, interface: str, direction: Direction, program: int, name: str) -> Filter:
    """Attach the program (a file descriptor) in direct-action mode, or put it in the place of the present one.

    Packets see the old program or the new one, never none. Returns what the kernel then shows. Raises Permanent.
    """
    index = net.need(interface).index
    _ensure_clsact(net, interface, index)
    what = f"attach {name} to {direction} of {interface}"
    try:
        net.raw.changes([_filter_message(index, direction, program, name)])
    except OSError as error:
        raise _refused(what, error) from error
    found = _shown(net, index, interface, direction)
    if found is None:
        raise Permanent(f"{what}: the kernel does not show it afterwards")
    return found


def first_messages(index: int, direction: Direction, program: int, name: str) -> list[Message]:
    """What attaches the program to a new interface, which has no clsact yet. Pure; `kernel.pairs` sends it."""
    # One that is there after all is taken for ours: whoever looks after all interfaces may have been quicker.
    return [(_NEWQDISC, CREATE, _clsact(index)), _filter_message(index, direction, program, name)]


def attached(net: Links, interface: str, direction: Direction) -> Filter | None:
    """What is attached under our handle, read from the kernel. None: nothing, or no such interface."""
    link = net.get(interface)
    return shown(net, link, direction) if link else None


def shown(net: Links, link: Link, direction: Direction) -> Filter | None:
    """As `attached`, of an interface that was just read."""
    return _shown(net, link.index, link.name, direction)


def detach(net: Links, interface: str, direction: Direction) -> None:
    """Remove the program under our handle; absent is success. Never called on an agent's way out."""
    if attached(net, interface, direction) is None:
        return
    index = net.need(interface).index
    try:
        net.raw.change(_DELTFILTER, 0, _message(index, HANDLE, _PARENT[direction]) + attribute(_KIND, b"bpf\0"))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise _refused(f"detach from {direction} of {interface}", error) from error


def _shown(net: Links, index: int, interface: str, direction: Direction) -> Filter | None:
    try:
        bodies = net.raw.dump(_GETTFILTER, _message(index, 0, _PARENT[direction], info=0))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENODEV):
            return None  # no clsact there
        raise _refused(f"read {direction} of {interface}", error) from error
    for body in bodies:
        found = _filter(body)
        if found:
            return found
    return None


def _ensure_clsact(net: Links, interface: str, index: int) -> None:
    try:
        net.raw.change(_NEWQDISC, CREATE | EXCL, _clsact(index))
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise _refused(f"add clsact to {interface}", error) from error


def _clsact(index: int) -> bytes:
    return _message(index, _CLSACT_HANDLE, _CLSACT_PARENT, info=0) + attribute(_KIND, b"clsact\0")


def _filter_message(index: int, direction: Direction, program: int, name: str) -> Message:
    """Puts the program under our handle, in the place of what is there."""
    options = (
        attribute(_BPF_FD, struct.pack("=I", program))
        + attribute(_BPF_NAME, name.encode() + b"\0")
        + attribute(_BPF_FLAGS, struct.pack("=I", _DIRECT_ACTION))
    )
    body = _message(index, HANDLE, _PARENT[direction]) + attribute(_KIND, b"bpf\0")
    return _NEWTFILTER, CREATE | REPLACE, body + attribute(_OPTIONS | NESTED, options)


def _message(index: int, handle: int, parent: int, info: int | None = None) -> bytes:
    filter_info = PRIORITY << 16 | socket.htons(_ETH_P_ALL)
    return _TCMSG.pack(socket.AF_UNSPEC, index, handle, parent, filter_info if info is None else info)


def _filter(body: bytes) -> Filter | None:
    _, _, handle, _, info = _TCMSG.unpack_from(body)
    if handle != HANDLE or info >> 16 != PRIORITY:
        return None
    top = attributes(body[_TCMSG.size :])
    if top.get(_KIND, b"").rstrip(b"\0") != b"bpf":
        return None
    options = attributes(top.get(_OPTIONS, b""))
    return Filter(
        name=options.get(_BPF_NAME, b"").rstrip(b"\0").decode(),
        tag=options.get(_BPF_TAG, b"").hex(),
        id=int.from_bytes(options.get(_BPF_ID, b"\0"), "little"),
    )


def _refused(what: str, error: OSError) -> Temporary | Permanent:
    message = f"{what}: {error.strerror}"
    return Temporary(message) if error.errno in (errno.EBUSY, errno.EAGAIN, errno.ENOBUFS) else Permanent(message)
