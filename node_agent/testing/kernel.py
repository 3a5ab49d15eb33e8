"""A host's kernel in memory: the contract of agent.kernel.Kernel. `str(kernel)` is its state, one thing a line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from node_agent.agent.kernel import Device, Uplink
from node_agent.agent.outside import Outlet
from node_agent.model.errors import Invalid, MizarError, Permanent
from node_agent.model.objects import ProgramStatus
from node_agent.rows.endpoints import Port

WANTED = {"xdp": "transit_xdp", "tc": "transit_tc"}
ENDPOINT_PROGRAM = "endpoint_tc"


class FakeKernel:
    """Tests change the state as an administrator would: `hooks` and `endpoint_hooks` lose programs, `devices` vanish,
    `down` unplugs the uplink, `mtu` is the uplink's. `sent`: datagrams to bouncers; `answer` is called with each, as
    the network would.

    `before` is called ahead of every step, with its text; `fail`: errors to raise, one per step.
    """

    def __init__(self, namespaces: tuple[str, ...] = (), mode: str = "generic") -> None:
        self.namespaces = {Path(name) for name in namespaces}
        self.mode = mode
        self.mistakes: list[str] = []
        self.down = False
        self.mtu = 1500
        self.way_out = Outlet()
        self.settled = False
        self.hooks: dict[str, str] = {}
        self.devices: dict[str, Device] = {}
        self.ports: dict[str, Port] = {}
        self.endpoint_hooks: dict[str, str] = {}
        self.sent: list[tuple[str, bytes]] = []
        self.answer: Callable[[str, bytes], None] = lambda address, payload: None
        self.before: Callable[[str], None] = lambda step: None
        self.fail: list[MizarError] = []
        self._next_index = 10

    def check_world(self) -> None:
        if self.mistakes:
            raise Invalid(self.mistakes)

    def uplink_problems(self) -> list[str]:
        return (["uplink: uplink0 is down"] if self.down else []) + self.mistakes

    def uplink(self) -> Uplink:
        return Uplink(ifindex=2, mtu=self.mtu, redirect=self.mode == "native", link="198.18.0.0/24")

    def outlet(self) -> Outlet:
        return self.way_out

    def uplink_mtu(self) -> int:
        return self.mtu

    def ticks(self) -> Callable[[float], int]:
        return lambda seconds: max(1, round(seconds * 250))

    def load(self) -> bool:
        return not self.settled

    def settle(self) -> None:
        self.settled = True

    def ensure_programs(self) -> list[str]:
        wanted = {hook: name for hook, name in WANTED.items() if hook == "tc" or self.mode != "tc"}
        done = [f"{name} attached to {hook}" for hook, name in wanted.items() if self.hooks.get(hook) != name]
        if done:
            self._step("attach programs")
        self.hooks = wanted
        return done

    def ensure_endpoint_programs(self) -> list[str]:
        missing = [veth for veth in self.devices if self.endpoint_hooks.get(veth) != ENDPOINT_PROGRAM]
        for veth in missing:
            self.endpoint_hooks[veth] = ENDPOINT_PROGRAM
        return [f"{ENDPOINT_PROGRAM} attached to {veth}" for veth in missing]

    def differences(self) -> list[str]:
        wanted = {hook: name for hook, name in WANTED.items() if hook == "tc" or self.mode != "tc"}
        hooks = [f"{name} is not attached to {hook}" for hook, name in wanted.items() if self.hooks.get(hook) != name]
        return hooks + [
            f"{ENDPOINT_PROGRAM} is not attached to {veth}"
            for veth in self.devices
            if self.endpoint_hooks.get(veth) != ENDPOINT_PROGRAM
        ]

    def programs(self) -> tuple[ProgramStatus, ...]:
        modes = {"xdp": self.mode, "tc": "tc"}
        return tuple(
            ProgramStatus(device="uplink0", hook=hook, mode=modes[hook], tag=name)
            for hook, name in sorted(self.hooks.items())
        )

    def endpoint_links(self) -> dict[str, Port]:
        return dict(self.ports)

    def namespace_exists(self, path: Path) -> bool:
        return path in self.namespaces

    def make_endpoint(self, device: Device) -> Port:
        if device.netns not in self.namespaces:
            raise Permanent(f"open network namespace {device.netns}: no such file")
        self._step(f"make {device.veth}")
        if replace(self.devices.get(device.veth, device), mtu=device.mtu) != device:
            self.remove_endpoint(device.veth)
        if device.veth not in self.devices:
            self._next_index += 1
            self.ports[device.veth] = Port(self._next_index, queued=bool(device.bandwidth.ingress.bits))
        self.devices[device.veth] = device
        self.endpoint_hooks[device.veth] = ENDPOINT_PROGRAM
        return self.ports[device.veth]

    def bring_endpoint(self, device: Device) -> Port:
        return self.make_endpoint(device)

    def switch_endpoint(self, device: Device) -> None:
        self._step(f"switch {device.veth}")
        if self.devices.get(device.veth) != device:
            raise Permanent(f"switch {device.interface} to {device.veth}: it is not joined to it")

    def check_endpoint(self, device: Device) -> list[str]:
        found = self.devices.get(device.veth)
        return [] if found == device else [f"{device.interface}: {found} instead of {device}"]

    def remove_endpoint(self, veth: str) -> None:
        if veth in self.devices:
            self._step(f"remove {veth}")
        for table in (self.devices, self.ports, self.endpoint_hooks):
            table.pop(veth, None)

    def send(self, address: str, payload: bytes) -> None:
        self.sent.append((address, payload))
        self.answer(address, payload)

    def __str__(self) -> str:
        lines = [f"uplink0 {'down' if self.down else 'up'}"]
        lines += [f"uplink0 {hook}: {name}" for hook, name in sorted(self.hooks.items())]
        lines += [
            f"{veth} #{self.ports[veth].ifindex} {self.endpoint_hooks.get(veth, 'no program')}: {device.interface} "
            f"{device.address} {device.mac} mtu {device.mtu} in {device.netns}"
            for veth, device in sorted(self.devices.items())
        ]
        return "\n".join(lines)

    def _step(self, text: str) -> None:
        self.before(text)
        if self.fail:
            raise self.fail.pop(0)
