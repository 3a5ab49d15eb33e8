"""What CNI 1.1 says and wants to hear: configuration and arguments in, results out. Pure; `agent.plugin` calls it.

Errors are codes and messages of `cni.protocol`; the plugin (shim.c) writes them as CNI wants them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from node_agent.cni.protocol import Reply
from node_agent.model.addresses import POD_GATEWAY
from node_agent.model.bandwidth import UNBOUNDED, Bandwidth, Rate
from node_agent.model.errors import Invalid, Permanent

VERSIONS = ("1.0.0", "1.1.0")  # as the plugin answers VERSION
"""What pods route everything to, on the link of every one of them."""

POD_ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
"""The capability by which runtimes of the CRI hand over what a pod is annotated with."""
BANDWIDTH = "bandwidth"
"""The capability by which runtimes say how much a container may receive and send."""
PORTS = "portMappings"
"""The capability by which runtimes say which ports of its host are to be a container's."""
Attachment = tuple[str, str]  # container id, interface


class OtherVersion(Permanent):
    """A version of CNI that we do not speak."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A CNI network as the runtime has it. `vpc`, `subnet`: where to put what nobody puts elsewhere, "" for nowhere.
    `host_vpc`: the VPC that hosts have a port in, "" for none; `ports`: of the host, that are to be the container's;
    `reserved`: those that hosts need for themselves.
    `previous`: the result of the plugins before us in the chain, or of our ADD for a CHECK. `valid`: what a GC is to
    leave, None when it was not said. `dns`: handed on. `annotations`: of the pod, None from a runtime that does not
    say."""

    name: str
    version: str
    vpc: str = ""
    subnet: str = ""
    previous: dict[str, Any] | None = None
    valid: frozenset[Attachment] | None = None
    dns: dict[str, Any] | None = None
    annotations: dict[str, str] | None = None
    bandwidth: Bandwidth = UNBOUNDED
    host_vpc: str = ""
    ports: tuple[int, ...] = ()
    reserved: frozenset[int] = frozenset()


def network(config: str) -> Network:
    """Raises Invalid with every mistake, OtherVersion."""
    try:
        raw = json.loads(config)
    except ValueError as error:
        raise Invalid([f"network configuration: not JSON: {error}"]) from error
    if not isinstance(raw, dict):
        raise Invalid(["network configuration: not a JSON object"])
    version = raw.get("cniVersion")
    if version not in VERSIONS:
        raise OtherVersion(f"cniVersion: {version!r} is none of {', '.join(VERSIONS)}")
    texts = {key: raw.get(key, "") for key in ("name", "vpc", "subnet", "hostVpc")}
    mistakes = [f"{key}: {value!r} is no string" for key, value in texts.items() if not isinstance(value, str)]
    if not texts["name"]:
        mistakes.append("name: missing, or empty")
    for key in ("prevResult", "dns", "runtimeConfig"):
        if not isinstance(raw.get(key), dict | None):
            mistakes.append(f"{key}: not a JSON object")
    annotations = _annotations(raw.get("runtimeConfig"), mistakes)
    bandwidth = _bandwidth(raw.get("runtimeConfig"), mistakes)
    reserved = raw.get("reserved", [])
    if not isinstance(reserved, list) or not all(map(_is_port, reserved)):
        mistakes.append(f"reserved: {reserved!r} is no list of ports")
    ports = _ports(raw.get("runtimeConfig"), mistakes)
    valid = _valid(raw.get("cni.dev/valid-attachments"), mistakes)
    if mistakes:
        raise Invalid(mistakes)
    return Network(
        name=texts["name"],
        version=version,
        vpc=texts["vpc"],
        subnet=texts["subnet"],
        previous=raw.get("prevResult"),
        valid=valid,
        dns=raw.get("dns"),
        annotations=annotations,
        bandwidth=bandwidth,
        host_vpc=texts["hostVpc"],
        ports=ports,
        reserved=frozenset(reserved),
    )


def arguments(text: str) -> dict[str, str]:
    """CNI_ARGS, "KEY=value;KEY=value". Raises Invalid."""
    pairs = [part.partition("=") for part in text.split(";") if part]
    mistakes = [f"CNI_ARGS: {key!r} is no KEY=value" for key, equals, _ in pairs if not (key and equals)]
    if mistakes:
        raise Invalid(mistakes)
    return {key: value for key, _, value in pairs}


def result(network: Network, reply: Reply, interface: str, sandbox: str, veth: str) -> str:
    """What ADD prints: what came before us, then our two ends of the pair, the address and the way out."""
    before = network.previous or {}
    interfaces, ips, routes = (list(before.get(key) or ()) for key in ("interfaces", "ips", "routes"))
    ours: list[dict[str, Any]] = [{"name": veth}, {"name": interface, "mac": reply.mac, "sandbox": sandbox}]
    if network.version != "1.0.0":  # which knows no MTU
        ours = [{**each, "mtu": reply.mtu} for each in ours]
    ips.append({"address": f"{reply.address}/{reply.prefix}", "gateway": POD_GATEWAY, "interface": len(interfaces) + 1})
    routes.append({"dst": "0.0.0.0/0", "gw": POD_GATEWAY})
    told = {"cniVersion": network.version, "interfaces": interfaces + ours, "ips": ips, "routes": routes}
    dns = before.get("dns") or network.dns
    return json.dumps({**told, "dns": dns} if dns else told, separators=(",", ":"))


def differences(network: Network, reply: Reply, interface: str, sandbox: str) -> list[str]:
    """What the result that the runtime kept says otherwise than `reply`, one sentence each. Raises Invalid."""
    if network.previous is None:
        raise Invalid(["prevResult: missing; CHECK compares with it"])
    interfaces = [each for each in network.previous.get("interfaces") or () if isinstance(each, dict)]
    ips = [each for each in network.previous.get("ips") or () if isinstance(each, dict)]
    own = [each for each in interfaces if (each.get("name"), each.get("sandbox")) == (interface, sandbox)]
    found = [] if own else [f"the kept result has no interface {interface} in {sandbox}"]
    found += [
        f"{interface}: the kept result has MAC {each['mac']}, not {reply.mac}"
        for each in own
        if each.get("mac") and str(each["mac"]).lower() != reply.mac
    ]
    if f"{reply.address}/{reply.prefix}" not in {each.get("address") for each in ips}:
        found.append(f"the kept result does not have the address {reply.address}/{reply.prefix}")
    return found


def _annotations(raw: object, mistakes: list[str]) -> dict[str, str] | None:
    found = raw.get(POD_ANNOTATIONS) if isinstance(raw, dict) else None
    if found is None:
        return None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        mistakes.append(f"runtimeConfig: {POD_ANNOTATIONS}: not a JSON object of strings")
        return None
    return found


def _bandwidth(raw: object, mistakes: list[str]) -> Bandwidth:
    found = raw.get(BANDWIDTH) if isinstance(raw, dict) else None
    if found is None:
        return UNBOUNDED
    if not isinstance(found, dict):
        mistakes.append(f"runtimeConfig: {BANDWIDTH}: not a JSON object")
        return UNBOUNDED

    said = _any_case(found)

    def bits(key: str) -> int:
        value = said.get(key.lower(), 0)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        mistakes.append(f"runtimeConfig: {BANDWIDTH}: {key}: {value!r} is no number of bits")
        return 0

    return Bandwidth(
        ingress=Rate(bits("ingressRate"), bits("ingressBurst")), egress=Rate(bits("egressRate"), bits("egressBurst"))
    )


def _ports(raw: object, mistakes: list[str]) -> tuple[int, ...]:
    found = raw.get(PORTS) if isinstance(raw, dict) else None
    if not isinstance(found, list | None) or not all(isinstance(each, dict) for each in found or ()):
        mistakes.append(f"runtimeConfig: {PORTS}: no list of JSON objects")
        return ()
    ports = [_any_case(each).get("hostport", 0) for each in found or ()]
    mistakes += [f"runtimeConfig: {PORTS}: hostPort: {each!r} is no port" for each in ports if not _is_port(each)]
    return tuple(each for each in ports if each and _is_port(each))


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF  # 0: none


def _any_case(raw: dict[str, Any]) -> dict[str, Any]:
    """By lower-case key, as plugins in Go read it: containerd writes IngressRate for ingressRate."""
    return {key.lower(): value for key, value in raw.items()}


def _valid(raw: object, mistakes: list[str]) -> frozenset[Attachment] | None:
    if raw is None:
        return None
    found = set()
    for each in raw if isinstance(raw, list) else [raw]:
        container, interface = (each.get("containerID"), each.get("ifname")) if isinstance(each, dict) else (None, None)
        if isinstance(container, str) and isinstance(interface, str):
            found.add((container, interface))
        else:
            mistakes.append(f"cni.dev/valid-attachments: {each!r} is no containerID with an ifname")
    return frozenset(found)
