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

from node_agent.agent import fitness
from node_agent.agent.outside import Outlet, Outside
from node_agent.datapath import programs, ticks
from node_agent.datapath.layout import Limit
from node_agent.datapath.programs import ENDPOINT_TC, TRANSIT_TC, TRANSIT_XDP, Program, ProgramSet
from node_agent.kernel import features, filters, links, netns, pairs, shaping
from node_agent.kernel.links import Link, Links
from node_agent.kernel.pairs import Pair
from node_agent.model.addresses import pod_mtu
from node_agent.model.bandwidth import UNBOUNDED, Bandwidth
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid, Permanent
from node_agent.model.objects import ProgramStatus
from node_agent.model.places import is_veth_name
from node_agent.rows.endpoints import Port

_SO_NO_CHECK = 11


@dataclass(frozen=True)
class Uplink:
    """What the programs are told of it. `mtu`: bytes; `redirect`: XDP must send back by redirect there (native mode on
    a veth). `link`: prefix that its own address puts on the link, as `rows.config` wants it."""

    ifindex: int
    mtu: int
    redirect: bool
    link: str


@dataclass(frozen=True, kw_only=True)
class Device:
    """An endpoint's interface as it should be. `netns`: of the endpoint; `interface` in there, `veth` on the host."""

    netns: Path
    interface: str
    veth: str
    address: str
    mac: str
    mtu: int
    bandwidth: Bandwidth = UNBOUNDED


class Kernel(Protocol):
    """Every verb may be repeated. Raises Temporary or Permanent, as "verb object: cause"."""

    def check_world(self) -> None:
        """Raises Invalid with every reason why the uplink cannot carry the tunnel."""
        ...

    def uplink_problems(self) -> list[str]:
        """Why the uplink cannot carry traffic now, one sentence each."""
        ...

    def uplink(self) -> Uplink:
        """As it is now: it may be changed, or made anew, while the agent runs. Raises Permanent when there is none."""
        ...

    def outlet(self) -> Outlet:
        """The way to this host's own stack, as it is now."""
        ...

    def uplink_mtu(self) -> int:
        """Bytes. As `uplink`, for whoever needs no more of it, and often."""
        ...

    def ticks(self) -> Callable[[float], int]:
        """Converts seconds to the programs' ticks."""
        ...

    def load(self) -> bool:
        """Programs loaded, not attached. Returns whether the maps are empty: they are, the first time and when the
        programs attached until now have maps of another layout. Then they are to be filled before anything is attached,
        so that no packet meets them empty, and `settle` is to be called after that."""
        ...

    def settle(self) -> None:
        """What is attached has maps that are filled."""
        ...

    def ensure_programs(self) -> list[str]:
        """The loaded programs on the uplink's hooks, and behind the outlet, which is there if it has to be; a sentence
        for each thing that was not so."""
        ...

    def ensure_endpoint_programs(self) -> list[str]:
        """The endpoint program on every endpoint's veth, whose MTU is no smaller than what the uplink carries; a
        sentence for each where it was not so."""
        ...

    def differences(self) -> list[str]:
        """What the two above would put right, one sentence each. Changes nothing."""
        ...

    def programs(self) -> tuple[ProgramStatus, ...]:
        """What is attached to the uplink, as the kernel says now."""
        ...

    def endpoint_links(self) -> dict[str, Port]:
        """Host sides of endpoints' veths, by name."""
        ...

    def namespace_exists(self, path: Path) -> bool: ...

    def make_endpoint(self, device: Device) -> Port:
        """The interface, with the endpoint program on its host side before any packet can pass; returns the host
        side."""
        ...

    def bring_endpoint(self, device: Device) -> Port:
        """The same beside the interface by which another host still serves the endpoint: able to receive, but what the
        endpoint sends does not leave by it yet. Returns the host side."""
        ...

    def switch_endpoint(self, device: Device) -> None:
        """What the endpoint sends leaves by the interface that was brought, which gets its proper name."""
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
        self._config, self._path, self._outside = config, path, Outside(config, path)
        self._pins, self._objects = Path(config.pins), Path(config.bpf_objects)
        self._set: ProgramSet | None = None

    def check_world(self) -> None:
        with self._net() as net:
            mistakes = fitness.mistakes(self._config, net, net.get(self._config.uplink))
        if mistakes:
            raise Invalid(mistakes)

    def uplink_problems(self) -> list[str]:
        with self._net() as net:
            link = net.get(self._config.uplink)
            down = [f"uplink: {link.name} is down"] if link and not link.up else []
            return down + fitness.mistakes(self._config, net, link)

    def uplink(self) -> Uplink:
        with self._net() as net:
            link = net.need(self._config.uplink)
            addresses = net.addresses(link.name)
        native = self._config.mode == "native"
        redirect = native and link.kind == "veth"
        return Uplink(link.index, link.mtu, redirect, fitness.own_link(self._config.address, addresses))

    def outlet(self) -> Outlet:
        with self._net() as net:
            return self._outside.outlet(net)

    def uplink_mtu(self) -> int:
        with self._net() as net:
            return net.mtu(self._config.uplink)

    def ticks(self) -> Callable[[float], int]:
        return ticks.verified(self._objects / "clock.bpf.o").of

    def load(self) -> bool:
        # Once: what lies in the folder later on is for the next start, however it got there.
        empty = programs.renew(self._pins)
        self._set = programs.ensure_loaded(self._objects, self._pins)
        return empty

    def settle(self) -> None:
        programs.settle(self._pins)

    def ensure_programs(self) -> list[str]:
        if self._set is None:
            raise Permanent("attach programs: they are not loaded yet")
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
            done += self._outside.ensure(net, uplink.mtu)
            for device in (uplink.name, *self._outside.devices(net)):
                done += self._ensure_filter(net, net.need(device), TRANSIT_TC)
        programs.prune(self._pins, loaded.digest)
        return done

    def ensure_endpoint_programs(self) -> list[str]:
        with self._net() as net:
            mtu, done = pod_mtu(net.need(self._config.uplink).mtu), list[str]()
            for veth in self._unwatched(net):
                filters.attach(net, veth.name, "ingress", self._loaded(ENDPOINT_TC).fd, ENDPOINT_TC)
                done.append(f"{ENDPOINT_TC} attached to {veth.name}")
            for veth in _veths(net):
                # Never lowered here: a veth drops, without a word, what is larger than its MTU, while the program tells
                # an endpoint whose own MTU is too large how much fits. ADD sets both ends.
                if veth.mtu < mtu:
                    net.ensure(veth.name, mtu=mtu)
                    done.append(f"MTU of {veth.name} set to {mtu}")
            return done

    def differences(self) -> list[str]:
        with self._net() as net:
            uplink = net.need(self._config.uplink)
            mtu = pod_mtu(uplink.mtu)
            found = self._missing_xdp(uplink) + self._outside.problems(net, mtu=uplink.mtu)
            for device in (uplink.name, *self._outside.devices(net)):
                found += self._missing_filter(net, net.need(device), TRANSIT_TC)
            found += [f"{ENDPOINT_TC} is not attached to {veth.name}" for veth in self._unwatched(net)]
            for veth in _veths(net):
                found += [f"MTU of {veth.name} is {veth.mtu} and should be {mtu}"] if veth.mtu < mtu else []
            return found

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

    def endpoint_links(self) -> dict[str, Port]:
        with self._net() as net:
            return {veth.name: _port(veth) for veth in _veths(net)}

    def namespace_exists(self, path: Path) -> bool:
        # The host's own is none: what it had under the endpoint's name would be taken for the endpoint's.
        return netns.identity(path) not in (None, netns.identity(self._path or netns.OWN))

    def make_endpoint(self, device: Device) -> Port:
        with self._net() as net, links.opened(device.netns) as pod:
            if made := pairs.make(net, pod, _pair(device, self._loaded(ENDPOINT_TC))):
                _bound(net, pod, device, device.interface)
                return Port(made, queued=shaping.bounds(device.bandwidth.ingress))
            # Something of it is there, of an earlier ADD or of somebody else, who keeps it (CNI 1.1, ADD).
            if pod.get(device.interface) and _pod_side(net, pod, device.veth) != device.interface:
                raise Permanent(f"add {device.interface} to {device.netns}: it has an interface of that name already")
            self._ensure_pair(net, pod, device, device.interface)
            pod.ensure_pod_routes(device.interface)
            return _port(net.ensure(device.veth, up=True))

    def bring_endpoint(self, device: Device) -> Port:
        with self._net() as net, links.opened(device.netns) as pod:
            self._ensure_pair(net, pod, device, _pod_side(net, pod, device.veth) or device.veth)
            return _port(net.ensure(device.veth, up=True))

    def switch_endpoint(self, device: Device) -> None:
        with self._net() as net, links.opened(device.netns) as pod:
            brought = _pod_side(net, pod, device.veth)
            if brought is None:
                raise Permanent(f"switch {device.interface} to {device.veth}: it is not joined to it")
            pod.ensure_pod_routes(brought)
            other = pod.get(device.interface) if brought != device.interface else None
            if other:
                pod.rename(other.name, f"mz-old{other.index}")
            pod.rename(brought, device.interface)
            pod.ensure_pod_routes(device.interface)

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
                ("bound on what it sends", there.queued, there.queued or shaping.bounds(device.bandwidth.egress)),
                ("bound on what it receives", here.queued, here.queued or shaping.bounds(device.bandwidth.ingress)),
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

    def _ensure_pair(self, net: Links, pod: Links, device: Device, peer: str) -> None:
        """The veth pair, its host side still down, with all but the routes; `peer`: the pod side's name."""
        made = net.ensure_veth(device.veth, peer_netns=device.netns, peer=peer, mtu=device.mtu, peer_mac=device.mac)
        self._ensure_filter(net, made, ENDPOINT_TC)
        features.ensure(net, device.veth, features.GRO)
        features.ensure(pod, peer, features.GRO)
        pod.ensure(peer, up=True)
        pod.ensure_address(peer, f"{device.address}/32")
        _bound(net, pod, device, peer)

    @contextlib.contextmanager
    def _net(self) -> Iterator[Links]:
        with links.opened(self._path) as net:
            yield net

    def _loaded(self, name: str) -> Program:
        if self._set is None:
            raise Permanent(f"attach {name}: the programs are not loaded yet")
        return self._set[name]

    def _ensure_filter(self, net: Links, device: Link, name: str) -> list[str]:
        program = self._loaded(name)
        if not self._missing_filter(net, device, name):
            return []
        filters.attach(net, device.name, "ingress", program.fd, name)
        return [f"{name} attached to {device.name}"]

    def _missing_filter(self, net: Links, device: Link, name: str) -> list[str]:
        present = filters.shown(net, device, "ingress")
        if self._set and present and present.id == self._set[name].id:
            return []
        return [f"{name} is not attached to {device.name}"]

    def _unwatched(self, net: Links) -> list[Link]:
        """Endpoints' veths that packets come out of, and not through our program. One that is being made is up last of
        all, and one that is being removed is gone at the second look: this may be asked at any time."""
        found = [veth for veth in _veths(net) if veth.up and self._missing_filter(net, veth, ENDPOINT_TC)]
        return [veth for veth in found if net.index(veth.name) == veth.index]

    def _missing_xdp(self, uplink: Link) -> list[str]:
        if self._config.mode == "tc":
            return []
        with netns.enter(self._path):
            state = programs.xdp_state(uplink.index)
        if self._set and state and (state.id, state.mode) == (self._set[TRANSIT_XDP].id, self._config.mode):
            return []
        return [f"{TRANSIT_XDP} is not attached to XDP of {uplink.name} in {self._config.mode} mode"]


def _pair(device: Device, program: Program) -> Pair:
    own = {key: value for key, value in vars(device).items() if key not in ("veth", "interface", "bandwidth")}
    return Pair(name=device.veth, peer=device.interface, program=program.fd, program_name=program.name, **own)


def _port(veth: Link) -> Port:
    return Port(veth.index, veth.queued)


def _bound(net: Links, pod: Links, device: Device, peer: str) -> None:
    """The endpoint receives and sends no more than it may."""
    shaping.bound(net, device.veth, device.bandwidth.ingress)
    shaping.bound(pod, peer, device.bandwidth.egress)


def _pod_side(net: Links, pod: Links, veth: str) -> str | None:
    """Name in the endpoint's namespace of the other end of that veth."""
    here = net.get(veth)
    there = (
        link for link in pod.all() if here and (link.kind, link.index, link.peer) == ("veth", here.peer, here.index)
    )
    return next((link.name for link in there), None)


def _veths(net: Links) -> list[Link]:
    return [link for link in net.all() if link.kind == "veth" and is_veth_name(link.name)]
