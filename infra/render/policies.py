"""What the API server refuses beyond schema and roles: admission policies. Pure; called by `manifests`.

mizar-own-host   an agent's token writes what is its own host's. The host is the node of the pod that the token is
                 bound to, which the API server itself knows; so a token that was stolen is worth one host.
mizar-in-use     a VPC or subnet with users is not deleted, and the message names them. Its status says so a moment
                 late: the finalizer, which it must have from the start, keeps one that got a user in that moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.render.access import AGENT, metadata, plural, user
from node_agent.model.objects import IN_USE, NetworkEndpoint, NetworkHost, Subnet, Vpc
from node_agent.model.resources import GROUP, VERSION
from node_agent.model.users import FINALIZERS

Plain = dict[str, Any]
NODE = "authentication.kubernetes.io/node-name"
OWN_HOST, USED = "mizar-own-host", "mizar-in-use"
API = "admissionregistration.k8s.io/v1"


def policies() -> list[Plain]:
    """Each policy and its binding, which makes it deny."""
    return [each for policy in (_own_host(), _in_use()) for each in (policy, _binding(policy["metadata"]["name"]))]


def _own_host() -> Plain:
    endpoints, hosts = plural(NetworkEndpoint), plural(NetworkHost)
    return _policy(
        OWN_HOST,
        [endpoints, f"{endpoints}/status", hosts, f"{hosts}/status"],
        ("CREATE", "UPDATE", "DELETE"),
        _own_host_variables(hosts),
        (("variables.node != ''", '"an agent\'s token must be bound to a pod on a node"'), *_own_host_rules()),
        conditions={"agents": f"request.userInfo.username == '{user(AGENT)}'"},
    )


def _own_host_variables(hosts: str) -> dict[str, str]:
    """`hosts`: plural of their kind. Each may use those before it."""
    return {
        # Absent from tokens that are bound to no pod, which nobody needs.
        "node": f"has(request.userInfo.extra) && '{NODE}' in request.userInfo.extra "
        f"? request.userInfo.extra['{NODE}'][0] : ''",
        "host": f"request.resource.resource == '{hosts}'",
        "creates": "request.operation == 'CREATE'",
        "status": "request.operation == 'UPDATE' && request.subResource == 'status'",
        # Who has to do with the endpoint, as it was: as `model.objects.concerns` says.
        "was": "oldObject != null && has(oldObject.status) ? oldObject.status : {}",
        "now": "object != null && has(object.status) ? object.status : {}",
        "wanted": "oldObject != null && has(oldObject.spec.host) ? oldObject.spec.host : ''",
        **{
            f"{part}{name[0].upper()}{name[1:]}": f"has(variables.{part}.{name}) ? variables.{part}.{name} : ''"
            for part in ("was", "now")
            for name in ("host", "hostAddress", "nextHost", "nextAddress", "previousHost")
        },
        # The host that it left has a last word to say, and nothing to remove.
        "concerned": "variables.node in [variables.wanted, variables.wasHost] "
        "|| variables.status && variables.node == variables.wasPreviousHost",
    }


def _own_host_rules() -> list[tuple[str, str]]:
    told = '"this agent speaks for host \'" + variables.node + "\': "'
    endpoint = "variables.host || variables.creates || !variables.status || "
    return [
        (
            "!variables.host || oldObject.metadata.name == variables.node",
            told + ' + "it may not write host " + oldObject.metadata.name',
        ),
        (
            "variables.host || !variables.creates || object.spec.host == variables.node",
            told + ' + "it may not make an endpoint on host " + object.spec.host',
        ),
        (
            "variables.host || variables.creates || variables.concerned",
            told + ' + "endpoint " + oldObject.metadata.name + " is not its own"',
        ),
        (
            "variables.host || request.operation != 'UPDATE' || object.spec == oldObject.spec",
            told + ' + "it may not change what endpoint " + oldObject.metadata.name + " is to be"',
        ),
        # Who takes over writes itself in, on the host that the endpoint is meant for; nobody writes another in.
        (
            endpoint + "variables.nowHost == variables.wasHost && variables.nowHostAddress == variables.wasHostAddress "
            "|| variables.nowHost == variables.node && variables.wanted == variables.node",
            told + ' + "it may not say that host " + variables.nowHost + " holds " + oldObject.metadata.name',
        ),
        (
            endpoint + "variables.nowNextHost == variables.wasNextHost && "
            "variables.nowNextAddress == variables.wasNextAddress || variables.nowNextHost in ['', variables.node]",
            told + ' + "it may not say that host " + variables.nowNextHost + " takes " + oldObject.metadata.name',
        ),
        (
            endpoint + "variables.nowPreviousHost in "
            "[dyn(''), variables.wasPreviousHost, variables.wasHost, variables.wasNextHost]",
            told + ' + "host " + variables.nowPreviousHost + " never held " + oldObject.metadata.name',
        ),
    ]


def _in_use() -> Plain:
    said = f"oldObject.status.conditions.filter(each, each.type == '{IN_USE}' && each.status == 'True')"
    return _policy(
        USED,
        [plural(Vpc), plural(Subnet)],
        ("CREATE", "DELETE"),
        {
            "users": "oldObject != null && has(oldObject.status) && has(oldObject.status.conditions) "
            f"? {said}.map(each, each.message) : []",
            "finalizer": f"request.kind.kind == 'Vpc' ? '{FINALIZERS[Vpc.kind][0]}' : '{FINALIZERS[Subnet.kind][0]}'",
        },
        (
            (
                "request.operation != 'DELETE' || variables.users.size() == 0",
                'request.kind.kind + " " + oldObject.metadata.name + " is " + variables.users[0]',
            ),
            (
                "request.operation != 'CREATE' || "
                "has(object.metadata.finalizers) && variables.finalizer in object.metadata.finalizers",
                '"metadata.finalizers must hold " + variables.finalizer + ": it keeps what is in use"',
            ),
        ),
    )


def _policy(
    name: str,
    resources: list[str],
    operations: Sequence[str],
    variables: dict[str, str],
    validations: Sequence[tuple[str, str]],
    conditions: dict[str, str] | None = None,
) -> Plain:
    """`validations`: what must hold, and the CEL expression of what is said when it does not."""
    rule = {"apiGroups": [GROUP], "apiVersions": [VERSION], "operations": list(operations), "resources": resources}
    spec: Plain = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "variables": [{"name": each, "expression": text} for each, text in variables.items()],
        "validations": [
            {"expression": expression, "messageExpression": message, "reason": "Forbidden"}
            for expression, message in validations
        ],
    }
    if conditions:
        spec["matchConditions"] = [{"name": each, "expression": text} for each, text in conditions.items()]
    return {"apiVersion": API, "kind": "ValidatingAdmissionPolicy", "metadata": metadata(name), "spec": spec}


def _binding(name: str) -> Plain:
    return {
        "apiVersion": API,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata(name),
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
