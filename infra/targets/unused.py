"""Settings that a target has no use for. Data only; called by `infra.settings`, to which one that is set is a mistake.

A field is written as in the stack's file, with [] for every item of a list; beside it stands what the user is told.
"""

from __future__ import annotations

_PODS = "on Kubernetes, pods are the endpoints: leave {} out"

UNUSED: dict[str, dict[str, str]] = {
    "local": {"vpcs[].hostReachable": "only on Kubernetes, whose kubelets call pods: leave it out"},
    "local-k8s": {
        "bpfObjects": "on Kubernetes, pods have the programs of their image, from bpf/build: leave it out",
        "endpoints": _PODS.format("them"),
        "endpointsPerHost": _PODS.format("it"),
        "vpcs[].subnets[].endpointsPerHost": _PODS.format("it"),
        "vpcs[].services": "on Kubernetes, services are Service objects: leave them out",
    },
}
