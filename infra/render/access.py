"""Who may do what in a cluster: the accounts of agents and controller, and the roles that say so. Pure.

Called by `manifests`. A role lists what its program really asks for, and tests/contract runs the store against it. What
a role cannot say, that an agent writes what is its own host's only, an admission policy does (`policies`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from node_agent.model import resources
from node_agent.model.objects import KINDS, NetworkEndpoint, NetworkHost, NetworkService, Subnet, Vpc, Watermark
from node_agent.model.resources import GROUP, RESOURCES

Plain = dict[str, Any]
NAMESPACE = resources.NAMESPACE
AGENT, CONTROLLER = resources.AGENT, resources.CONTROLLER
LABELS = {"app.kubernetes.io/part-of": "mizar"}
READ = ("get", "list", "watch")


def user(account: str) -> str:
    """The name under which the API server knows a service account of ours."""
    return f"system:serviceaccount:{NAMESPACE}:{account}"


def accounts() -> list[Plain]:
    """Service accounts, cluster roles and their bindings."""
    return [
        each for name, rules in ((AGENT, agent_rules()), (CONTROLLER, controller_rules())) for each in _of(name, rules)
    ]


def agent_rules() -> list[Plain]:
    """It reads everything of ours, claims and releases its endpoints, says how it is; and of pods it knows to which VPC
    they want. Hosts are the controller's to make: an agent cannot invent one, nor move its own."""
    endpoints = plural(NetworkEndpoint)
    return [
        _rule(*_everything(), verbs=READ),
        _rule(endpoints, verbs=("create", "delete", "patch")),
        _rule(f"{endpoints}/status", f"{plural(NetworkHost)}/status", verbs=("patch",)),
        _rule("pods", "namespaces", verbs=("get",), group=""),
    ]


def controller_rules() -> list[Plain]:
    """It reads everything, the nodes and the services, makes hosts and services of VPCs of them, and says what it
    decided. A patch of the object itself is how a finalizer is lifted."""
    vpcs, subnets, endpoints, services = (plural(kind) for kind in (Vpc, Subnet, NetworkEndpoint, NetworkService))
    return [
        _rule(*_everything(), verbs=READ),
        _rule("nodes", verbs=READ, group=""),
        _rule("namespaces", "services", verbs=("list", "watch"), group=""),
        _rule("endpointslices", verbs=("list", "watch"), group="discovery.k8s.io"),
        _rule("events", verbs=("create",), group=""),
        _rule(plural(NetworkHost), services, plural(Watermark), verbs=("create", "delete", "patch")),
        _rule(endpoints, verbs=("delete", "patch")),
        _rule(vpcs, subnets, verbs=("patch",)),
        _rule(*(f"{each}/status" for each in (vpcs, subnets, services, plural(Watermark))), verbs=("patch",)),
    ]


def plural(cls: type[Any]) -> str:
    """A kind's name in paths and rules."""
    return RESOURCES[cls.kind].plural


def metadata(name: str, *, namespaced: bool = False) -> Plain:
    """Of an object of ours."""
    return {"name": name, **({"namespace": NAMESPACE} if namespaced else {}), "labels": dict(LABELS)}


def _everything() -> list[str]:
    return sorted(RESOURCES[kind].plural for kind in KINDS)


def _rule(*resources: str, verbs: Sequence[str], group: str = GROUP) -> Plain:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def _of(name: str, rules: list[Plain]) -> list[Plain]:
    api = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name, namespaced=True)},
        {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": metadata(name), "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata(name),
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
        },
    ]
