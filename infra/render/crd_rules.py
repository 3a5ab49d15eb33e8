"""What the CRDs say beyond the model's types: limits, CEL rules, printer columns, words for `kubectl explain`.

Data only; used by `crds`. CEL rules see one object, before and after a change (`oldSelf`); each says in its message
what is wanted. Limits of lists and texts also bound what a rule may cost the API server.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from node_agent.model import addresses
from node_agent.model.addresses import (
    FIRST_PORT,
    FORBIDDEN,
    LAST_PORT,
    LAST_VNI,
    LONGEST_PREFIX,
    MAX_BACKENDS,
    MAX_PORTS,
    MAX_SET,
    MIN_SET,
    MIN_UPLINK_MTU,
    NAME_LENGTH,
    NAME_RULE,
    SHORTEST_PREFIX,
)
from node_agent.model.objects import (
    READY,
    BackendPort,
    Condition,
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkHost,
    NetworkHostSpec,
    NetworkHostStatus,
    NetworkService,
    NetworkServiceSpec,
    NetworkServiceStatus,
    ServiceBackend,
    ServicePort,
    SetMember,
    Subnet,
    SubnetSpec,
    SubnetStatus,
    Vpc,
    VpcSpec,
    VpcStatus,
    Watermark,
    WatermarkStatus,
)
from node_agent.model.resources import camel

Plain = dict[str, Any]
Rule = tuple[str, str]

LONGEST_NAME = 253
"""Of a Kubernetes object, which a node's name may need."""
MAX_CONDITIONS = 8


def rule(expression: str, message: str) -> Plain:
    """One CEL rule."""
    return {"rule": expression, "message": message}


def _text_rule(expression: str, message: str) -> Plain:
    """A CEL rule of a text, whose message begins with the text."""
    return rule(expression, message) | {"messageExpression": f"self + {json.dumps(': ' + message)}"}


def _constant(what: str) -> Plain:
    """A text that stays what it was."""
    message = f"{what} cannot be changed: delete and create"
    return {"x-kubernetes-validations": [_text_rule("self == oldSelf", message)]}


def _rules(*fields: Plain) -> Plain:
    """Limits joined; their CEL rules one after the other."""
    joined: Plain = {}
    for field in fields:
        rules = joined.get("x-kubernetes-validations", []) + field.get("x-kubernetes-validations", [])
        joined |= field
        if rules:
            joined["x-kubernetes-validations"] = rules
    return joined


def _bounds(low: int, high: int | None = None) -> Plain:
    return {"minimum": low} | ({} if high is None else {"maximum": high})


def _text(longest: int, *, shortest: int = 0) -> Plain:
    return {"maxLength": longest} | ({"minLength": shortest} if shortest else {})


_ADDRESS: Plain = {
    "maxLength": 15,
    "x-kubernetes-validations": [
        _text_rule("isIP(self) && ip(self).family() == 4 && string(ip(self)) == self", addresses.ADDRESS_RULE)
    ],
}
_TAKEN = ", ".join(f"'{prefix}'" for prefix in FORBIDDEN)
_PREFIX: Plain = {
    "maxLength": 18,
    "x-kubernetes-validations": [
        _text_rule(
            # `cidr` of what is none is an error, not false: each rule asks first.
            "isCIDR(self) && cidr(self).ip().family() == 4 && string(cidr(self).masked()) == self && "
            f"cidr(self).prefixLength() >= {SHORTEST_PREFIX} && cidr(self).prefixLength() <= {LONGEST_PREFIX}",
            addresses.prefix_rule(SHORTEST_PREFIX, LONGEST_PREFIX),
        ),
        _text_rule(
            f"!isCIDR(self) || ![{_TAKEN}].exists(taken, "
            "cidr(taken).containsCIDR(cidr(self)) || cidr(self).containsCIDR(cidr(taken)))",
            "must not overlap " + ", ".join(f"{prefix} ({why.split(';')[0]})" for prefix, why in FORBIDDEN.items()),
        ),
    ],
}
_NAME = _text(LONGEST_NAME, shortest=1)
_PORT = _bounds(FIRST_PORT, LAST_PORT)
_ADDRESS_OR_NONE: Plain = {
    "maxLength": 15,
    "x-kubernetes-validations": [
        _text_rule("self == '' || (isIP(self) && ip(self).family() == 4)", f"{addresses.ADDRESS_RULE}; or nothing")
    ],
}

# (record, field) -> what is added to the field's schema; "items": to that of a list's items.
LIMITS: dict[tuple[type[Any], str], Plain] = {
    (VpcSpec, "cidr"): _rules(_PREFIX, _constant("the prefix of a VPC")),
    (VpcSpec, "set_size"): _bounds(MIN_SET, MAX_SET),
    (VpcSpec, "bouncers"): _bounds(1, MAX_SET),
    (VpcStatus, "vni"): _bounds(0, LAST_VNI),
    (VpcStatus, "members"): {"maxItems": MAX_SET},
    (VpcStatus, "conditions"): {"maxItems": MAX_CONDITIONS},
    (SubnetStatus, "conditions"): {"maxItems": MAX_CONDITIONS},
    (Condition, "type"): _text(63, shortest=1),
    (Condition, "reason"): _text(63, shortest=1),
    (Condition, "message"): _text(1024),
    (Condition, "last_transition_time"): {"format": "date-time"},
    (SetMember, "place"): _bounds(0, MAX_SET - 1),
    (SetMember, "host"): _NAME,
    (SetMember, "address"): _ADDRESS,
    (SubnetSpec, "vpc"): _rules(_NAME, _constant("the VPC of a subnet")),
    (SubnetSpec, "cidr"): _rules(_PREFIX, _constant("the prefix of a subnet")),
    (SubnetStatus, "bouncers"): {"maxItems": MAX_SET, "items": _bounds(0, MAX_SET - 1)},
    (NetworkEndpointSpec, "vpc"): _rules(_NAME, _constant("the VPC of an endpoint")),
    (NetworkEndpointSpec, "subnet"): _rules(_NAME, _constant("the subnet of an endpoint")),
    (NetworkEndpointSpec, "address"): _rules(_ADDRESS, _constant("the address of an endpoint")),
    (NetworkEndpointSpec, "host"): _NAME,
    (NetworkEndpointSpec, "container_id"): _text(LONGEST_NAME, shortest=1),
    (NetworkEndpointSpec, "interface"): _text(15, shortest=1),
    (NetworkEndpointSpec, "workload"): _text(2 * LONGEST_NAME + 1),
    (NetworkEndpointSpec, "network"): _text(LONGEST_NAME),
    (NetworkEndpointStatus, "host"): _text(LONGEST_NAME),
    (NetworkEndpointStatus, "host_address"): _ADDRESS_OR_NONE,
    (NetworkServiceSpec, "vpc"): _rules(_NAME, _constant("the VPC of a service")),
    (NetworkServiceSpec, "vip"): _ADDRESS,
    (NetworkServiceSpec, "ports"): {"maxItems": MAX_PORTS},
    (NetworkServiceSpec, "backends"): {"maxItems": MAX_BACKENDS},
    (ServicePort, "port"): _PORT,
    (ServicePort, "target_port"): _PORT,
    (ServicePort, "name"): _text(63),
    (NetworkServiceSpec, "source"): _text(2 * LONGEST_NAME + 1),
    (NetworkServiceStatus, "conditions"): {"maxItems": MAX_CONDITIONS},
    (ServiceBackend, "address"): _ADDRESS,
    (ServiceBackend, "ports"): {"maxItems": MAX_PORTS},
    (BackendPort, "port"): _PORT,
    (BackendPort, "target_port"): _PORT,
    (NetworkHostSpec, "address"): _ADDRESS,
    (NetworkHostSpec, "mtu"): _bounds(MIN_UPLINK_MTU),
    (NetworkHostSpec, "zone"): _text(63),
    (NetworkHostStatus, "heartbeat"): _bounds(0),
    (WatermarkStatus, "value"): _bounds(0),
}

# Lists whose items have a key: two items with one key are refused, and a server-side apply merges by it.
MAPPINGS: dict[tuple[type[Any], str], tuple[str, ...]] = {
    (VpcStatus, "members"): ("place",),
    (VpcStatus, "conditions"): ("type",),
    (SubnetStatus, "conditions"): ("type",),
    (NetworkServiceSpec, "ports"): ("protocol", "port"),
    (NetworkServiceSpec, "backends"): ("address",),
    (NetworkServiceStatus, "conditions"): ("type",),
    (ServiceBackend, "ports"): ("protocol", "port"),
}

_named = (
    f"self.metadata.name.size() <= {NAME_LENGTH} && self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')",
    NAME_RULE,
)

# Rules that join fields, of whole objects and of records.
OBJECT_RULES: dict[type[Any], tuple[Rule, ...]] = {
    Vpc: (_named,),
    Subnet: (_named,),
    NetworkEndpoint: (
        (
            r"self.metadata.name.matches('^[1-9][0-9]{0,7}-') && self.metadata.name.endsWith('-' + self.spec.address)",
            "the name of an endpoint is <VNI>-<address>: creating it is the claim to the address",
        ),
    ),
    VpcSpec: (("self.bouncers <= self.setSize", "bouncers: must be at most setSize"),),
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of `kubectl get`. `wide`: with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    wide: bool = False

    def manifest(self) -> Plain:
        made: Plain = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            made["description"] = self.description
        if self.wide:
            made["priority"] = 1
        return made


_READY = f'.status.conditions[?(@.type=="{READY}")]'
_IS_READY = (Column(name="Ready", path=f"{_READY}.status"), Column(name="Reason", path=f"{_READY}.reason", wide=True))
_AGE = Column(name="Age", path=".metadata.creationTimestamp", type="date")

COLUMNS: dict[type[Any], tuple[Column, ...]] = {
    Vpc: (
        Column(name="CIDR", path=".spec.cidr"),
        Column(name="VNI", path=".status.vni", type="integer", description="Its number on the wire"),
        Column(name="Set-Size", path=".spec.setSize", type="integer", description="Hosts that serve it", wide=True),
        Column(name="Bouncers", path=".spec.bouncers", type="integer", description="Of each subnet", wide=True),
        *_IS_READY,
        _AGE,
    ),
    Subnet: (
        Column(name="VPC", path=".spec.vpc"),
        Column(name="CIDR", path=".spec.cidr"),
        Column(
            name="Bouncers",
            path=".status.bouncers",
            description="Places in the VPC's set of the hosts that know its endpoints",
            wide=True,
        ),
        *_IS_READY,
        _AGE,
    ),
    NetworkEndpoint: (
        Column(name="VPC", path=".spec.vpc"),
        Column(name="Subnet", path=".spec.subnet"),
        Column(name="Address", path=".spec.address"),
        Column(name="Host", path=".status.host", description="The host that holds it"),
        Column(name="Workload", path=".spec.workload"),
        Column(name="Host-Address", path=".status.hostAddress", wide=True),
        Column(name="Container", path=".spec.containerId", wide=True),
        _AGE,
    ),
    NetworkService: (
        Column(name="VPC", path=".spec.vpc"),
        Column(name="VIP", path=".spec.vip"),
        # A column shows the first of what its path finds.
        Column(name="Port", path=".spec.ports[0].port", type="integer", description="The first one"),
        Column(name="Protocol", path=".spec.ports[0].protocol"),
        Column(name="Source", path=".spec.source", description="The Service that it is made of"),
        Column(name="Affinity", path=".spec.affinity", wide=True),
        *_IS_READY,
        _AGE,
    ),
    NetworkHost: (
        Column(name="Address", path=".spec.address"),
        Column(name="Ready", path=".status.ready", type="boolean"),
        Column(name="Mode", path=".status.mode", description="How the transit program runs"),
        Column(name="Drain", path=".spec.drain", type="boolean"),
        Column(name="Zone", path=".spec.zone", wide=True),
        Column(name="Problems", path=".status.problems", wide=True),
        _AGE,
    ),
    Watermark: (Column(name="Value", path=".status.value", type="integer"), _AGE),
}

# For `kubectl explain`: the first paragraph of each record's docstring, without the spelling of code.
_DESCRIBED: tuple[type[Any], ...] = (
    Condition,
    VpcSpec,
    SetMember,
    SubnetStatus,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkServiceSpec,
    NetworkServiceStatus,
    ServicePort,
    BackendPort,
    ServiceBackend,
    NetworkHostSpec,
    NetworkHostStatus,
    WatermarkStatus,
)


def _described(cls: type[Any]) -> str:
    text = re.sub(r"\s+", " ", (cls.__doc__ or "").split("\n\n")[0]).strip()
    return re.sub(r"`([a-z]+(_[a-z]+)+)`", lambda found: f"`{camel(found[1])}`", text)


DESCRIPTIONS: dict[type[Any], str] = {
    Vpc: "A tenant's address space. Two VPCs may have the same addresses.",
    Subnet: "A prefix inside a VPC.",
    NetworkEndpoint: "One interface in a VPC: of a pod, a VM or an emulated container.",
    NetworkService: "An address of a VPC, and the endpoints behind it.",
    NetworkHost: "A machine that endpoints live on.",
    Watermark: "The controller's memory of a counter.",
    **{cls: _described(cls) for cls in _DESCRIBED if cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(")},
}
