"""One request and one reply, as one JSON line each, over the agent's unix socket. Pure; `cni.client` does the I/O for
the Pulumi program, `cni/shim.c` for container runtimes.

All verbs may be repeated: ADD finds its earlier claim by (container_id, interface), DEL of the absent succeeds. STATUS
tells what is wrong and changes nothing. They are those of CNI 1.1, but for one of ours:

    REPAIR   put programs and rows back where they belong, at once; then as STATUS. What the agent does by itself every
             10 s, for whoever cannot wait: `up`. A preview asks STATUS.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

from node_agent.model.bandwidth import Bandwidth, Rate
from node_agent.model.errors import Invalid

Verb = Literal["ADD", "DEL", "CHECK", "STATUS", "GC", "REPAIR"]
VERBS: tuple[Verb, ...] = ("ADD", "DEL", "CHECK", "STATUS", "GC", "REPAIR")

# Error codes as in the CNI specification, section "Error".
OTHER_VERSION = 1
INVALID_CONFIG = 7
TRY_AGAIN = 11
NOT_AVAILABLE = 50
LIMITED = 51  # not available, and what is attached may be cut off too
# Codes from 100 are ours.
EXHAUSTED = 100
FAILED = 101


@dataclass(frozen=True, kw_only=True)
class Request:
    """`netns`: absolute path of the endpoint's network namespace. `address`: "" lets the agent choose one. `network`:
    the CNI network that asks, "" for the Pulumi program.

    From a container runtime come, instead of all that the agent is to find out: `config`, the network's configuration
    as JSON; `args`, "KEY=value;..."; and `sandbox`, the namespace's path as the runtime has it, while the namespace
    itself comes beside the line as a descriptor, of which `netns` is made. `began`: when the plugin did, as nanoseconds
    of the monotonic clock. `ingress_rate` and its like: bounds of what it receives and sends, as in `model.bandwidth`.
    """

    verb: Verb
    container_id: str = ""
    interface: str = "eth0"
    netns: str = ""
    vpc: str = ""
    subnet: str = ""
    address: str = ""
    workload: str = ""
    network: str = ""
    sandbox: str = ""
    args: str = ""
    config: str = ""
    began: str = ""
    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0

    @property
    def bandwidth(self) -> Bandwidth:
        return Bandwidth(
            ingress=Rate(self.ingress_rate, self.ingress_burst), egress=Rate(self.egress_rate, self.egress_burst)
        )

    def within(self, bandwidth: Bandwidth) -> Request:
        """The same for an endpoint with these bounds."""
        return dataclasses.replace(
            self,
            ingress_rate=bandwidth.ingress.bits,
            ingress_burst=bandwidth.ingress.burst,
            egress_rate=bandwidth.egress.bits,
            egress_burst=bandwidth.egress.burst,
        )


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`code` 0 is success. After ADD and CHECK: the endpoint's object name, address, gateway, MAC and MTU (bytes).
    `result`: what the plugin is to print for its runtime."""

    code: int = 0
    message: str = ""
    endpoint: str = ""
    address: str = ""
    prefix: int = 32
    gateway: str = ""
    mac: str = ""
    mtu: int = 0
    result: str = ""


def encode(message: Request | Reply) -> bytes:
    """One line, newline included."""
    return json.dumps(dataclasses.asdict(message), separators=(",", ":")).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """Raises Invalid naming every wrong field."""
    raw = _fields(line, Request)
    if raw.get("verb") not in VERBS:
        raise Invalid([f"verb: {raw.get('verb')!r} is none of {', '.join(VERBS)}"])
    request = Request(**raw)  # type: ignore[arg-type]
    mistakes = []
    if request.verb in ("ADD", "DEL", "CHECK") and not request.container_id:
        mistakes.append("container_id: empty; the caller must name the container")
    if request.verb == "GC" and not request.config:
        mistakes.append("config: empty; GC is of one CNI network")
    if request.verb == "ADD" and not request.config:
        mistakes += [f"{key}: empty; ADD needs it" for key in ("netns", "vpc", "subnet") if not getattr(request, key)]
    if mistakes:
        raise Invalid(mistakes)
    return request


def decode_reply(line: bytes) -> Reply:
    """Raises Invalid."""
    return Reply(**_fields(line, Reply))  # type: ignore[arg-type]


def _fields(line: bytes, cls: type[Request] | type[Reply]) -> dict[str, str | int]:
    try:
        raw = json.loads(line)
    except ValueError as error:
        raise Invalid([f"message: not JSON: {error}"]) from error
    if not isinstance(raw, dict):
        raise Invalid(["message: not a JSON object"])
    kinds = {f.name: int if f.type == "int" else str for f in dataclasses.fields(cls)}
    mistakes = [f"{key}: unknown field" for key in raw.keys() - kinds.keys()]
    mistakes += [
        f"{key}: {raw[key]!r} is not {kind.__name__}"
        for key, kind in kinds.items()
        if key in raw and not isinstance(raw[key], kind)
    ]
    if mistakes:
        raise Invalid(sorted(mistakes))
    return raw
