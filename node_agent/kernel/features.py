"""Offload features of an interface (what `ethtool -k` shows), read and set by ioctl.

Names are the kernel's own: "tx-udp-segmentation", "rx-lro", "rx-gro", "rx-gro-hw", "rx-udp-gro-forwarding",
"tx-gso-partial", ... pyroute2 has no call for most of them. Called by the emulation and the agent.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
from collections.abc import Mapping

from node_agent.kernel.links import Links
from node_agent.model.errors import Permanent

SIOCETHTOOL = 0x8946
GSTRINGS, GSSET_INFO, GFEATURES, SFEATURES, SGRO = 0x1B, 0x37, 0x3A, 0x3B, 0x2C
SS_FEATURES = 4
NAME = 32

TX_UDP_SEGMENTATION = "tx-udp-segmentation"
# What an uplink must not do. With tx-udp-segmentation on, tunnelled UDP GSO arrives nowhere; the receive offloads would
# merge packets in ways that the transit program cannot take apart again.
UPLINK: Mapping[str, bool] = {
    TX_UDP_SEGMENTATION: False,
    "rx-lro": False,
    "rx-gro-hw": False,
    "rx-udp-gro-forwarding": False,
}
GRO: Mapping[str, bool] = {"rx-gro": True}


def read(net: Links, name: str) -> dict[str, bool]:
    """Every feature the kernel knows -> whether it is active on the interface. Raises Permanent."""
    names = _names(net.control, name)
    blocks = (len(names) + 31) // 32
    request = array.array("B", struct.pack("=II", GFEATURES, blocks) + bytes(16 * blocks))
    _ioctl(net.control, name, request, "read features of")
    words = [struct.unpack_from("=IIII", request, 8 + 16 * block)[2] for block in range(blocks)]
    return {feature: bool(words[bit // 32] >> bit % 32 & 1) for bit, feature in enumerate(names) if feature}


def ensure(net: Links, name: str, wanted: Mapping[str, bool]) -> None:
    """Bring features about and read them back. One that this kernel does not know counts as off.

    Raises Permanent naming every feature that did not follow.
    """
    present = read(net, name)
    if _differing(present, wanted):
        names = _names(net.control, name)
        blocks = (len(names) + 31) // 32
        valid, value = [0] * blocks, [0] * blocks
        for bit, feature in enumerate(names):
            if feature in wanted and present[feature] != wanted[feature]:
                valid[bit // 32] |= 1 << bit % 32
                value[bit // 32] |= wanted[feature] << bit % 32
        pairs = b"".join(struct.pack("=II", v, w) for v, w in zip(valid, value, strict=True))
        _ioctl(net.control, name, array.array("B", struct.pack("=II", SFEATURES, blocks) + pairs), "set features of")
        present = read(net, name)
    wrong = _differing(present, wanted)
    if wrong:
        raise Permanent(
            f"set features of {name}: "
            + ", ".join(f"{feature} stays {'off' if wanted[feature] else 'on'}" for feature in wrong)
        )


def want_gro(net: Links, name: str) -> None:
    """Ask for rx-gro by the one call that is for it alone: for a new interface, where `ensure` takes ten calls that
    wait for the lock of all network devices. Raises Permanent."""
    _ioctl(net.control, name, array.array("B", struct.pack("=II", SGRO, 1)), "set rx-gro of")


def _differing(present: Mapping[str, bool], wanted: Mapping[str, bool]) -> list[str]:
    return sorted(feature for feature, on in wanted.items() if present.get(feature, False) != on)


def _names(control: socket.socket, name: str) -> list[str]:
    """Feature names by bit; they are the kernel's, the same for every interface."""
    info = array.array("B", struct.pack("=IIQI", GSSET_INFO, 0, 1 << SS_FEATURES, 0))
    _ioctl(control, name, info, "count features of")
    count = struct.unpack_from("=I", info, 16)[0]
    strings = array.array("B", struct.pack("=III", GSTRINGS, SS_FEATURES, count) + bytes(NAME * count))
    _ioctl(control, name, strings, "name features of")
    return [bytes(strings[at : at + NAME]).split(b"\0")[0].decode() for at in range(12, len(strings), NAME)]


def _ioctl(control: socket.socket, name: str, buffer: array.array[int], what: str) -> None:
    # struct ifreq: the name, then a pointer to the ethtool command, which the kernel fills in place.
    request = struct.pack("16sP16x", name.encode(), buffer.buffer_info()[0])
    try:
        fcntl.ioctl(control.fileno(), SIOCETHTOOL, request)
    except OSError as error:
        cause = "no such interface" if error.errno == errno.ENODEV else error.strerror
        raise Permanent(f"{what} {name}: {cause}") from error
