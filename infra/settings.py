"""What the user asked for: the typed, checked form of the stack's configuration. The only reader of Pulumi's config.

    Pulumi.yaml, stacks/Pulumi.<stack>.yaml --read--> mapping --parse--> Settings

`parse` is pure and raises Invalid with every mistake at once; rules that join several keys live in `infra.rules`. To
add a setting: a field here with its default, the same key in Pulumi.yaml's `config:` block, its use in `infra.plan`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, cast

from infra import rules
from infra.schema import Mistakes, Section
from node_agent.model.addresses import LONGEST_PREFIX, MAX_SET, MIN_SET, MIN_UPLINK_MTU, SHORTEST_PREFIX
from node_agent.model.config import UplinkMode
from node_agent.model.errors import Invalid

MODES = ("generic", "native", "tc")
MTU_MOST = 9000
UNDERLAY = IPv4Network("198.18.0.0/24")
# Keys whose values are text already; Pulumi hands over every other one as JSON text.
TEXTS = ("mode", "underlay", "bpfObjects")


@dataclass(frozen=True, kw_only=True)
class SubnetSettings:
    """`per_host`: how many endpoints the plan makes in this subnet on every host."""

    name: str
    cidr: IPv4Network
    per_host: int = 1


@dataclass(frozen=True, kw_only=True)
class VpcSettings:
    """`set_size` hosts serve the VPC, `bouncers` of them each subnet."""

    name: str
    cidr: IPv4Network
    set_size: int = 3
    bouncers: int = 2
    subnets: tuple[SubnetSettings, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EndpointSettings:
    """An endpoint that the user named. `host` "" and `address` None leave the choice to the plan."""

    name: str
    subnet: str
    host: str = ""
    address: IPv4Address | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One stack. MTU in bytes; `bpf_objects`: folder of compiled programs, relative to the project;
    `flow_entries`: size of one VPC's flow table on one host; `health_seconds`: patience of the health gate."""

    hosts: int = 3
    underlay: IPv4Network = UNDERLAY
    mtu: int = 1500
    mode: UplinkMode = "generic"
    flow_entries: int = 16384
    bpf_objects: str = "bpf/build"
    health_seconds: int = 30
    vpcs: tuple[VpcSettings, ...] = ()
    endpoints: tuple[EndpointSettings, ...] = ()


def read() -> Settings:
    """The settings of the stack that Pulumi is running. Raises Invalid."""
    from pulumi import get_project
    from pulumi.runtime.config import CONFIG

    prefix = f"{get_project()}:"
    mine = {key.removeprefix(prefix): value for key, value in CONFIG.get().items() if key.startswith(prefix)}
    return parse(plain(mine))


def plain(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Pulumi hands them over (text, lists as JSON text) as plain ones; what is no JSON stays text."""
    values: dict[str, Any] = {}
    for key, value in texts.items():
        values[key] = value
        if isinstance(value, str) and key not in TEXTS:
            with contextlib.suppress(ValueError):  # the rule of the key reports it
                values[key] = json.loads(value)
    return values


def parse(raw: Mapping[str, Any]) -> Settings:
    """Checked settings from plain values. Raises Invalid carrying every mistake."""
    mistakes = Mistakes()
    top = Section("", raw, mistakes)
    default = Settings()
    per_host = top.integer("endpointsPerHost", 1, 0, 64)
    settings = Settings(
        hosts=top.integer("hosts", default.hosts, 1, 4096),
        underlay=top.network("underlay", str(default.underlay), 8, 28) or default.underlay,
        mtu=top.integer("mtu", default.mtu, MIN_UPLINK_MTU, MTU_MOST),
        mode=cast(UplinkMode, top.choice("mode", default.mode, MODES)),
        flow_entries=top.integer("flowEntries", default.flow_entries, 256, 4194304),
        bpf_objects=top.text("bpfObjects", default.bpf_objects),
        health_seconds=top.integer("healthSeconds", default.health_seconds, 1, 600),
        vpcs=tuple(_vpc(section, per_host) for section in top.sections("vpcs")),
        endpoints=tuple(_endpoint(section) for section in top.sections("endpoints")),
    )
    top.finish()
    rules.check(settings, mistakes)
    if mistakes.found:
        raise Invalid(mistakes.found)
    return settings


def _vpc(section: Section, per_host: int) -> VpcSettings:
    set_size = section.integer("setSize", 3, MIN_SET, MAX_SET)
    vpc = VpcSettings(
        name=section.name(),
        cidr=_cidr(section),
        set_size=set_size,
        bouncers=section.integer("bouncers", min(2, set_size), 1, MAX_SET),
        subnets=tuple(_subnet(inner, per_host) for inner in section.sections("subnets")),
    )
    section.finish()
    return vpc


def _subnet(section: Section, per_host: int) -> SubnetSettings:
    subnet = SubnetSettings(
        name=section.name(), cidr=_cidr(section), per_host=section.integer("endpointsPerHost", per_host, 0, 64)
    )
    section.finish()
    return subnet


def _cidr(section: Section) -> IPv4Network:
    return section.network("cidr", None, SHORTEST_PREFIX, LONGEST_PREFIX) or rules.NOWHERE


def _endpoint(section: Section) -> EndpointSettings:
    endpoint = EndpointSettings(
        name=section.name(),
        subnet=section.reference("subnet", required=True),
        host=section.reference("host"),
        address=section.address("address"),
    )
    section.finish()
    return endpoint
