"""What the agent asks of the kernel besides maps: programs on hooks, endpoints' devices, packets to bouncers.

`Kernel` is the contract; `HostKernel` fulfils it for one network namespace, `testing.kernel.FakeKernel` without one.
Called by `host`, `endpoints` and `acknowledge`. Nothing here detaches a program on the way out.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from node_agent.datapath import programs, ticks
from node_agent.datapath.layout import Limit
from node_agent.datapath.programs import ENDPOINT_TC, TRANSIT_TC, TRANSIT_XDP, ProgramSet
from node_agent.kernel import features, filters, links, netns
from node_agent.kernel.links import Link, Links
from node_agent.model.addresses import MIN_UPLINK_MTU
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid, Permanent
from node_agent.model.objects import ProgramStatus

VETH_PREFIX = "mz"
VETH_NAME_LENGTH = 14
_SO_NO_CHECK = 11


@dataclass(frozen=True)
class Uplink:
    """`redirect`: XDP must send back by redirect there (native mode on a veth)."""

    ifindex: int
    mtu: int
    redirect: bool


@dataclass(frozen=True, kw_only=True)
class Device:
    """An endpoint's interface as it should be. `netns`: of the endpoint; `interface` in there, `veth` on the host."""

    netns: Path
    interface: str
    veth: str
    address: str
    mac: str
    mtu: int


class Kernel(Protocol):
    """Every verb may be repeated. Raises Temporary or Permanent, as "verb object: cause"."""

    def check_world(self) -> Uplink:
        """The uplink, if it can carry the tunnel. Raises Invalid with every reason why not."""
        ...

    def uplink_problems(self) -> list[str]:
        """Why the uplink cannot carry traffic now, one sentence each."""
        ...

    def ticks(self) -> Callable[[float], int]:
        """Converts seconds to the programs' ticks."""
        ...

    def ensure_programs(self) -> list[str]:
        """Programs loaded and on the uplink's hooks; a sentence for each that was not."""
        ...

    def ensure_endpoint_programs(self) -> list[str]:
        """The endpoint program on every endpoint's veth; a sentence for each where it was not."""
        ...

    def programs(self) -> tuple[ProgramStatus, ...]:
        """What is attached to the uplink, as the kernel says now."""
        ...

    def endpoint_links(self) -> dict[str, int]:
        """Host sides of endpoints' veths -> ifindex."""
        ...

    def namespace_exists(self, path: Path) -> bool: ...

    def make_endpoint(self, device: Device) -> int:
        """The interface, with the endpoint program on its host side before any packet can pass; returns the host
        side's ifindex."""
        ...

    def check_endpoint(self, device: Device) -> list[str]:
        """What differs from `make_endpoint`'s work, one sentence each."""
        ...

    def remove_endpoint(self, veth: str) -> None: ...

    def send(self, address: str, payload: bytes) -> None:
        """One datagram to that host's tunnel port."""
        ...


class HostKernel:
    """The kernel of the namespace at `path` (None: the process's own). Any thread may call it."""

    def __init__(self, config: AgentConfig, path: Path | None = None) -> None:
        self._config, self._path = config, path
        self._pins, self._objects = Path(config.pins), Path(config.bpf_objects)
        self._set: ProgramSet | None = None

    def check_world(self) -> Uplink:
        config = self._config
        with self._net() as net:
            link = net.get(config.uplink)
            mistakes = _uplink_mistakes(config, net, link)
        if link is None or mistakes:
            raise Invalid(mistakes)
        return Uplink(link.index, link.mtu, redirect=config.mode == "native" and link.kind == "veth")

    def uplink_problems(self) -> list[str]:
        with self._net() as net:
            link = net.get(self._config.uplink)
            down = [f"uplink: {link.name} is down"] if link and not link.up else []
            return down + _uplink_mistakes(self._config, net, link)

    def ticks(self) -> Callable[[float], int]:
        return ticks.verified(self._objects / "clock.bpf.o").of

    def ensure_programs(self) -> list[str]:
        if self._set is None:
            # Once: what lies in the folder later on is for the next start, however it got there.
            self._set = programs.ensure_loaded(self._objects, self._pins)
        loaded, done = self._set, []
        with self._net() as net:
            uplink = net.need(self._config.uplink)
            with netns.enter(self._path):
                if programs.ensure_xdp(self._pins / "links", loaded[TRANSIT_XDP], uplink.index, self._config.mode):
                    done.append(
                        f"{TRANSIT_XDP} attached to XDP of {uplink.name} in {self._config.mode} mode"
                        if self._config.mode != "tc"
                        else f"XDP of {uplink.name} cleared"
                    )
            done += self._ensure_filter(net, uplink.name, TRANSIT_TC)
        programs.prune(self._pins, loaded.digest)
        return done

    def ensure_endpoint_programs(self) -> list[str]:
        with self._net() as net:
            return [said for veth in _veths(net) for said in self._ensure_filter(net, veth.name, ENDPOINT_TC)]

    def programs(self) -> tuple[ProgramStatus, ...]:
        found = []
        with self._net() as net:
            uplink = net.get(self._config.uplink)
            if uplink is None:
                return ()
            with netns.enter(self._path):
                xdp = programs.xdp_state(uplink.index)
            if xdp:
                found.append(ProgramStatus(device=uplink.name, hook="xdp", mode=xdp.mode, tag=xdp.tag))
            tc = filters.attached(net, uplink.name, "ingress")
            if tc:
                found.append(ProgramStatus(device=uplink.name, hook="tc", mode="tc", tag=tc.tag))
        return tuple(found)

    def endpoint_links(self) -> dict[str, int]:
        with self._net() as net:
            return {veth.name: veth.index for veth in _veths(net)}

    def namespace_exists(self, path: Path) -> bool:
        return netns.exists(path)

    def make_endpoint(self, device: Device) -> int:
        with self._net() as net:
            made = net.ensure_veth(
                device.veth, peer_netns=device.netns, peer=device.interface, mtu=device.mtu, peer_mac=device.mac
            )
            self._ensure_filter(net, device.veth, ENDPOINT_TC)
            features.ensure(net, device.veth, features.GRO)
            with links.opened(device.netns) as pod:
                features.ensure(pod, device.interface, features.GRO)
                pod.ensure(device.interface, up=True)
                pod.ensure_address(device.interface, f"{device.address}/32")
                pod.ensure_pod_routes(device.interface)
            net.ensure(device.veth, up=True)
            return made.index

    def check_endpoint(self, device: Device) -> list[str]:
        if not netns.exists(device.netns):
            return [f"namespace {device.netns} is gone"]
        with self._net() as net, links.opened(device.netns) as pod:
            here, there = net.get(device.veth), pod.get(device.interface)
            if here is None or there is None or here.peer != there.index:
                return [f"{device.interface}: missing, or not joined to {device.veth}"]
            addresses = pod.addresses(device.interface)
        return [
            f"{device.interface}: {what} {found} instead of {wanted}"
            for what, found, wanted in (
                ("MAC", there.mac, device.mac),
                ("MTU", there.mtu, device.mtu),
                ("up", there.up and here.up, True),
                ("addresses", addresses, (f"{device.address}/32",)),
            )
            if found != wanted
        ]

    def remove_endpoint(self, veth: str) -> None:
        with self._net() as net:
            net.delete(veth)

    def send(self, address: str, payload: bytes) -> None:
        with netns.enter(self._path), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            # As the programs write it: no outer checksum.
            sock.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
            with contextlib.suppress(OSError):  # as good as lost on the way
                sock.sendto(payload, (address, int(Limit.WIRE_PORT)))

    # --- inside ---

    @contextlib.contextmanager
    def _net(self) -> Iterator[Links]:
        with links.opened(self._path) as net:
            yield net

    def _ensure_filter(self, net: Links, device: str, name: str) -> list[str]:
        if self._set is None:
            raise Permanent(f"attach {name} to {device}: the programs are not loaded yet")
        present = filters.attached(net, device, "ingress")
        if present and present.id == self._set[name].id:
            return []
        filters.attach(net, device, "ingress", self._set[name].fd, name)
        return [f"{name} attached to {device}"]


def _veths(net: Links) -> list[Link]:
    return [
        link
        for link in net.all()
        if link.kind == "veth" and link.name.startswith(VETH_PREFIX) and len(link.name) == VETH_NAME_LENGTH
    ]


def _uplink_mistakes(config: AgentConfig, net: Links, link: Link | None) -> list[str]:
    if link is None:
        return [f"uplink: {config.uplink!r} is no interface of this host"]
    mistakes = []
    addresses = [address.partition("/")[0] for address in net.addresses(link.name)]
    if config.address not in addresses:
        mistakes.append(f"address: {config.address} is not on {link.name}, which has {', '.join(addresses) or 'none'}")
    if link.mtu < MIN_UPLINK_MTU:
        mistakes.append(f"uplink: MTU {link.mtu} of {link.name} is below {MIN_UPLINK_MTU}")
    active = features.read(net, link.name)
    mistakes += [
        f"uplink: {feature} of {link.name} must be {'on' if wanted else 'off'}: "
        f"ethtool -K {link.name} {feature} {'on' if wanted else 'off'}"
        for feature, wanted in features.UPLINK.items()
        if active.get(feature, False) != wanted
    ]
    return mistakes
