"""What the health gate puts onto a cluster: a namespace of its own, a pod of each VPC on each node, a service a VPC.
Pure; called by the gate of clusters (`providers/pod_health.py`), which removes all of it again.

tests/golden keeps the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.render.access import LABELS
from node_agent.health.answers import WORKLOAD_PORT, Wire

Plain = dict[str, Any]

PREFIX = "mizar-health-"
MARKS = {**LABELS, "app.kubernetes.io/component": "health-gate"}
"""Labels of its namespaces and of everything in them."""
VPC, SUBNET = "mizar.com/vpc", "mizar.com/subnet"
ACCOUNT = CONTAINER = "probe"
SERVICE_PORTS: tuple[tuple[Wire, int], ...] = (("tcp", 80), ("udp", 80))
MOST = 200
"""Pods at once: with more nodes times VPCs, each VPC gets some nodes only, and never less than two."""
NOBODY = 65532
END_SECONDS = 1
"""Of a pod that is told to end, and then does so at once."""
PYTHON = ("/usr/bin/python3", "-S", "-m")


@dataclass(frozen=True, kw_only=True, order=True)
class Network:
    """A subnet that pods may ask for."""

    vpc: str
    subnet: str


@dataclass(frozen=True, kw_only=True, order=True)
class ProbePod:
    name: str
    vpc: str
    subnet: str
    node: str


@dataclass(frozen=True, kw_only=True)
class Shared:
    """`image`: Mizar's, by digest. `seconds`: after which a pod ends, should nobody be there to remove it."""

    namespace: str
    image: str
    seconds: int


def choose(nodes: Sequence[str], networks: Sequence[Network], most: int = MOST) -> tuple[ProbePod, ...]:
    """A pod of each VPC's first subnet on every node, and of each other subnet on one node, in turn: so any two nodes
    have two pods of one subnet, and where there is another subnet, two of different ones."""
    by_vpc: dict[str, list[str]] = {}
    for network in networks:
        by_vpc.setdefault(network.vpc, []).append(network.subnet)
    each = max(2, most // max(len(by_vpc), 1))
    chosen: list[ProbePod] = []
    for turn, (vpc, subnets) in enumerate(by_vpc.items()):
        own = [nodes[(turn + n) % len(nodes)] for n in range(min(each, len(nodes)))]
        first, *others = subnets
        places = [*((first, node) for node in own), *zip(others, itertools.cycle(own), strict=False)]
        chosen += [ProbePod(name=f"{subnet}-{node}", vpc=vpc, subnet=subnet, node=node) for subnet, node in places]
    return tuple(chosen)


def ground(shared: Shared) -> tuple[Plain, Plain]:
    """The namespace, which takes no pod that asks for more than it needs, and an account without any right."""
    namespace = {"name": shared.namespace, "labels": {**MARKS, "pod-security.kubernetes.io/enforce": "restricted"}}
    return (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": _metadata(ACCOUNT, shared),
            "automountServiceAccountToken": False,
        },
    )


def service_name(vpc: str) -> str:
    return f"vpc-{vpc}"


def service(vpc: str, shared: Shared) -> Plain:
    """In front of all of the VPC's pods."""
    ports = [
        {"name": wire, "protocol": wire.upper(), "port": port, "targetPort": WORKLOAD_PORT}
        for wire, port in SERVICE_PORTS
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**_metadata(service_name(vpc), shared), "annotations": {VPC: vpc}},
        "spec": {"type": "ClusterIP", "selector": {VPC: vpc}, "ports": ports},
    }


def pod(wanted: ProbePod, shared: Shared) -> Plain:
    """The workload, without a capability: `health.inside` is started beside it when something is to be sent."""
    container = {
        "name": CONTAINER,
        "image": shared.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [*PYTHON, "node_agent.health.workload"],
        "args": ["--vpc", wanted.vpc, "--name", wanted.name, "--address", "$(ADDRESS)"],
        "env": [{"name": "ADDRESS", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
    }
    only = {"key": "metadata.name", "operator": "In", "values": [wanted.node]}
    terms = {"nodeSelectorTerms": [{"matchFields": [only]}]}
    spec = {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": shared.seconds,
        "terminationGracePeriodSeconds": END_SECONDS,
        # By the scheduler, as any pod: what keeps others off a node keeps this one off too, and it says what that is.
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
        "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
            # Echoes without a capability, whatever the runtime's own default is.
            "sysctls": [{"name": "net.ipv4.ping_group_range", "value": f"{NOBODY} {NOBODY}"}],
        },
        "containers": [container],
    }
    metadata = {
        **_metadata(wanted.name, shared, {VPC: wanted.vpc}),
        "annotations": {VPC: wanted.vpc, SUBNET: wanted.subnet},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _metadata(name: str, shared: Shared, labels: dict[str, str] | None = None) -> Plain:
    return {"name": name, "namespace": shared.namespace, "labels": {**MARKS, **(labels or {})}}
