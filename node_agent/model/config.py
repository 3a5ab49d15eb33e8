"""What a host's agent and a stack's controller are told at start: one JSON file each, written by the Pulumi program.

`load` and `dump` are the only reader and writer of that form; the file itself is opened by the process that owns it.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass
from typing import Literal

from node_agent.model.errors import Invalid
from node_agent.model.objects import Transport

UplinkMode = Literal["generic", "native", "tc"]


@dataclass(frozen=True, kw_only=True)
class Timers:
    """Seconds. `fresh`: an entry is believed without asking again; the rest: idle times after which it is removed."""

    fresh: float = 30.0
    idle_tcp: float = 3600.0
    idle_closed: float = 10.0
    idle_udp: float = 180.0
    idle_icmp: float = 30.0
    pending: float = 0.05
    negative: float = 1.0


@dataclass(frozen=True, kw_only=True)
class CniConfig:
    """What the agent does for container runtimes. Paths are absolute, as the agent sees them.

    `conflist`: the configuration list that it writes, "" for none. `plugin`: the compiled plugin that it puts into the
    folder `programs` before, "" when somebody else does. `socket`: the agent's, as the plugin sees it; "": the same.
    `vpc`, `subnet`: where pods are put that nobody put elsewhere, "" for nowhere. `chained`: plugins that follow ours.
    `host_vpc`: the VPC that the hosts have a port in, "" for none; `portmap` gets no pod of another one to work on.
    `reserved`: ports that hosts need for themselves.
    """

    conflist: str = ""
    plugin: str = ""
    programs: str = ""
    socket: str = ""
    vpc: str = ""
    subnet: str = ""
    chained: tuple[str, ...] = ()
    host_vpc: str = ""
    reserved: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An address of the underlay, with a port, that pods of every VPC may reach by way of a service (EGRESS)."""

    address: str
    port: int
    protocol: Transport


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """One host's agent. Paths are absolute. `address`: the host's underlay IPv4, on interface `uplink`.

    `bpf_objects`: folder with transit.bpf.o and endpoint.bpf.o. `store`: as `store.open` has it.
    `flow_entries`: size of each VPC's flow table on this host. `listed`: all that pods may reach in the underlay.
    """

    host: str
    stack_id: str
    address: str
    uplink: str
    underlay_prefixes: tuple[str, ...]
    store: str
    pins: str
    socket: str
    bpf_objects: str
    mode: UplinkMode = "generic"
    flow_entries: int = 16384
    timers: Timers = Timers()
    cni: CniConfig = CniConfig()
    listed: tuple[Listed, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ControllerConfig:
    """The controller of one stack. Seconds: a host is dead without a heartbeat for `dead_after`, and comes back into
    choice after `hold_down`; a leaving member is removed after `leaving`.

    `cluster`: the hosts are nodes of the cluster that the store is in: hosts are made of its nodes, services of its
    Services. Those go to `vpc` or `subnet` when nobody put them elsewhere, "" for nowhere. `listed`: as agents have it.
    """

    stack_id: str
    store: str
    dead_after: float = 30.0
    hold_down: float = 300.0
    leaving: float = 60.0
    cluster: bool = False
    vpc: str = ""
    subnet: str = ""
    listed: tuple[Listed, ...] = ()


def dump(config: AgentConfig | ControllerConfig) -> str:
    """The config as indented JSON, keys sorted: equal configs are equal text."""
    return json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True) + "\n"


def load_agent(text: str) -> AgentConfig:
    """Raises Invalid with every unknown and every missing key."""
    raw = _checked(text, AgentConfig)
    timers = raw.pop("timers", {})
    prefixes = tuple(raw.pop("underlay_prefixes"))
    cni = raw.pop("cni", {})
    chained, reserved = (tuple(cni.pop(key, ())) for key in ("chained", "reserved"))
    listed = _listed(raw)
    return AgentConfig(
        **raw,
        timers=Timers(**timers),
        underlay_prefixes=prefixes,
        cni=CniConfig(**cni, chained=chained, reserved=reserved),
        listed=listed,
    )


def load_controller(text: str) -> ControllerConfig:
    """Raises Invalid with every unknown and every missing key."""
    raw = _checked(text, ControllerConfig)
    listed = _listed(raw)
    return ControllerConfig(**raw, listed=listed)


def _listed(raw: dict[str, typing.Any]) -> tuple[Listed, ...]:
    return tuple(Listed(**each) for each in raw.pop("listed", ()))


def _checked(text: str, cls: type[AgentConfig] | type[ControllerConfig]) -> dict[str, typing.Any]:
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise Invalid([f"read {cls.__name__}: {error}"]) from error
    if not isinstance(raw, dict):
        raise Invalid([f"read {cls.__name__}: {type(raw).__name__} instead of an object"])
    fields = {f.name: f for f in dataclasses.fields(cls)}
    required = {n for n, f in fields.items() if f.default is dataclasses.MISSING}
    mistakes = [f"{key}: unknown key of {cls.__name__}" for key in sorted(raw.keys() - fields.keys())]
    mistakes += [f"{key}: missing from {cls.__name__}" for key in sorted(required - raw.keys())]
    if mistakes:
        raise Invalid(mistakes)
    return raw
