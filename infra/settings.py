"""What the user asked for: the typed, checked form of the stack's configuration. The only reader of Pulumi's config.

    Pulumi.yaml, stacks/Pulumi.<stack>.yaml --read--> mapping --examine--> Settings

`examine` is pure and finds every mistake at once, types included: Pulumi.yaml states none, because the engine ends a
run at the first value of another type than stated there. Rules that join several keys live in `infra.rules`. To add a
setting: a field in `infra.wanted` with its default, its reading here, the same key in Pulumi.yaml's `config:` block,
its use in `infra.plan`.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any, cast

from infra import rules, service_rules
from infra.schema import Mistakes, Section, places
from infra.targets.unused import UNUSED
from infra.wanted import NOWHERE, EndpointSettings, ServiceSettings, Settings, SubnetSettings, VpcSettings
from node_agent.model.addresses import (
    FIRST_PORT,
    LAST_PORT,
    LONGEST_PREFIX,
    MAX_SET,
    MAX_UPLINK_MTU,
    MIN_SET,
    MIN_UPLINK_MTU,
    SHORTEST_PREFIX,
)
from node_agent.model.config import UplinkMode
from node_agent.model.objects import Affinity, ServicePort, Transport

MODES = ("generic", "native", "tc")
# Keys whose values are text already; Pulumi hands over every other one as JSON text.
TEXTS = ("target", "mode", "underlay", "bpfObjects")

PER_HOST = 1
"""Endpoints of a subnet on every host, where nobody says how many."""
BACKENDS_RULE = "must be a list of endpoints' names, or {subnet: NAME} for all of a subnet's"


def read() -> tuple[Settings, Mistakes]:
    """The settings of the stack that Pulumi is running, as `examine` does."""
    from pulumi import get_project
    from pulumi.runtime.config import CONFIG

    return examine_all(get_project(), CONFIG.get())


def examine_all(project: str, texts: Mapping[str, Any]) -> tuple[Settings, Mistakes]:
    """As `examine`, of a stack's whole configuration: "namespace:key" -> value as Pulumi hands it over. Other
    namespaces are those of Pulumi's packages, except where one looks like a slip of the pen."""
    prefix = f"{project}:"
    settings, mistakes = examine(plain({k.removeprefix(prefix): v for k, v in texts.items() if k.startswith(prefix)}))
    for key in sorted(texts):
        namespace, _, rest = key.partition(":")
        if namespace != project and difflib.get_close_matches(namespace.lower(), [project]):
            mistakes.add(key, texts[key], f"unknown namespace {namespace}; ours is {project}, as in {project}:{rest}")
    return settings, mistakes


def plain(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Pulumi hands them over (text, lists as JSON text) as plain ones; what is no JSON stays text."""
    values: dict[str, Any] = {}
    for key, value in texts.items():
        values[key] = value
        if isinstance(value, str) and key not in TEXTS:
            with contextlib.suppress(ValueError):  # the rule of the key reports it
                values[key] = json.loads(value)
    return values


def examine(raw: Mapping[str, Any]) -> tuple[Settings, Mistakes]:
    """Settings from plain values, and every mistake in them; a wrong value is replaced by its default."""
    mistakes = Mistakes()
    top = Section("", raw, mistakes)
    default = Settings()
    target = top.choice("target", default.target, tuple(UNUSED))
    per_host = top.integer("endpointsPerHost", PER_HOST, 0, 64)
    if "endpointsPerHost" in UNUSED[target]:
        per_host = 0
    settings = Settings(
        target=target,
        hosts=top.integer("hosts", default.hosts, 1, 4096),
        underlay=top.network("underlay", str(default.underlay), 8, 28) or default.underlay,
        mtu=top.integer("mtu", default.mtu, MIN_UPLINK_MTU, MAX_UPLINK_MTU),
        mode=cast(UplinkMode, top.choice("mode", default.mode, MODES)),
        flow_entries=top.integer("flowEntries", default.flow_entries, 256, 4194304),
        bpf_objects=top.text("bpfObjects", default.bpf_objects),
        health_seconds=top.integer("healthSeconds", default.health_seconds, 1, 600),
        vpcs=tuple(_vpc(section, per_host) for section in top.sections("vpcs")),
        endpoints=tuple(_endpoint(section) for section in top.sections("endpoints")),
    )
    top.finish()
    for path, rule in UNUSED[target].items():
        for field, value in places(raw, path):
            # A list without items, false and 0 ask for nothing; a default is what the engine hands over for nothing.
            if value and value != {"bpfObjects": default.bpf_objects, "endpointsPerHost": PER_HOST}.get(field):
                mistakes.add(field, value, rule)
    rules.check(settings, mistakes)
    service_rules.check(settings, mistakes)
    return settings, mistakes


def _vpc(section: Section, per_host: int) -> VpcSettings:
    set_size = section.integer("setSize", 3, MIN_SET, MAX_SET)
    vpc = VpcSettings(
        name=section.name(),
        cidr=_cidr(section),
        set_size=set_size,
        bouncers=section.integer("bouncers", min(2, set_size), 1, MAX_SET),
        host_reachable=section.boolean("hostReachable"),
        subnets=tuple(_subnet(inner, per_host) for inner in section.sections("subnets")),
        services=tuple(_service(inner) for inner in section.sections("services")),
    )
    section.finish()
    return vpc


def _subnet(section: Section, per_host: int) -> SubnetSettings:
    subnet = SubnetSettings(
        name=section.name(), cidr=_cidr(section), per_host=section.integer("endpointsPerHost", per_host, 0, 64)
    )
    section.finish()
    return subnet


def _service(section: Section) -> ServiceSettings:
    chosen = section.section("backends")
    service = ServiceSettings(
        name=section.name(),
        vip=section.address("vip", required=True),
        affinity=cast(Affinity, section.choice("affinity", "none", ("none", "client"))),
        ports=tuple(_port(inner) for inner in section.sections("ports")),
        backends=() if chosen else tuple(section.references("backends", BACKENDS_RULE)),
        subnet=chosen.reference("subnet", required=True) if chosen else "",
    )
    if chosen:
        chosen.finish()
    section.finish()
    return service


def _port(section: Section) -> ServicePort:
    port = section.integer("port", 0, FIRST_PORT, LAST_PORT, required=True)
    made = ServicePort(
        name=section.reference("name"),
        protocol=cast(Transport, section.choice("protocol", "tcp", ("tcp", "udp"))),
        port=port,
        target_port=section.integer("targetPort", port, FIRST_PORT, LAST_PORT),
    )
    section.finish()
    return made


def _cidr(section: Section) -> IPv4Network:
    return section.network("cidr", None, SHORTEST_PREFIX, LONGEST_PREFIX) or NOWHERE


def _endpoint(section: Section) -> EndpointSettings:
    endpoint = EndpointSettings(
        name=section.name(),
        subnet=section.reference("subnet", required=True),
        host=section.reference("host"),
        address=section.address("address"),
    )
    section.finish()
    return endpoint
