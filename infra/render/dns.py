"""The cluster's name server: CoreDNS with account, configuration, deployment and the service `kube-dns`. Pure.

Called by the targets that have a cluster. It runs on the control plane's host, in that host's network, so that one
listed address serves pods of every VPC. Names and labels are upstream's: tools and tests look for them. tests/golden
keeps the result.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import Any

Plain = dict[str, Any]

NAMESPACE = "kube-system"
NAME, SERVICE = "coredns", "kube-dns"
ACCOUNT = "system:coredns"
LABELS = {"k8s-app": SERVICE}
PORT, METRICS = 53, 9153
# Only the kubelet asks these, on the host itself.
HEALTH, READY = 9154, 9155
REVERSE = ("in-addr.arpa", "ip6.arpa")
NOBODY = 65532
KEPT_SECONDS = 5  # how long clients may repeat an answer of ours
OTHERS_SECONDS = 30  # how long answers of resolvers are repeated; our own are in memory anyway


@dataclass(frozen=True, kw_only=True)
class Names:
    """`image`: as pods ask for it, by digest. `host`, `address`: node it runs on, and its address on the underlay.
    `services`: prefix of cluster IPs. `resolvers`: addresses that know the rest of the world's names, () for none."""

    image: str
    host: str
    address: str
    services: str
    domain: str = "cluster.local"
    resolvers: tuple[str, ...] = ()


def service_address(services: str) -> str:
    """Of the name server within the prefix of cluster IPs: the tenth, as everywhere."""
    return str(ipaddress.ip_network(services)[10])


def name_server(names: Names) -> list[Plain]:
    """Every object, what others need first."""
    text = corefile(names)
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(NAME)},
        *_access(),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(NAME), "data": {"Corefile": text}},
        _service(names),
        _deployment(names, text),
    ]


def corefile(names: Names) -> str:
    """What CoreDNS is told. Records of pods by address are left out: they would need the right to list every pod, or
    be given for addresses that nobody has; pods with a name are a headless service's."""
    bind = f"bind {names.address}"
    if names.resolvers:
        others = ["errors", bind, f"cache {OTHERS_SECONDS}", "loop", f"forward . {' '.join(names.resolvers)}"]
    else:
        # A quick no: a refusal would make clients ask again, and wait.
        others = ["errors", bind, "template ANY ANY {", "    rcode NXDOMAIN", "}"]
    own = [
        "errors",
        bind,
        f"health 127.0.0.1:{HEALTH}",
        f"ready 127.0.0.1:{READY}",
        f"kubernetes {' '.join((names.domain, *REVERSE))} {{",
        "    pods disabled",
        f"    ttl {KEPT_SECONDS}",
        *(["    fallthrough " + " ".join(REVERSE)] if names.resolvers else []),
        "}",
        *([f"forward . {' '.join(names.resolvers)}"] if names.resolvers else []),
        f"prometheus {names.address}:{METRICS}",
        "loadbalance",
        "reload",
    ]
    zones = ", ".join(f"{zone}:{PORT}" for zone in (names.domain, *REVERSE))
    return _block(zones, own) + _block(f".:{PORT}", others)


def _block(zones: str, lines: list[str]) -> str:
    return f"{zones} {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"


def _metadata(name: str) -> Plain:
    return {"name": name, "namespace": NAMESPACE, "labels": dict(LABELS)}


def _access() -> list[Plain]:
    api = "rbac.authorization.k8s.io"
    read = ["list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["namespaces", "services"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
    ]
    metadata = {"name": ACCOUNT, "labels": dict(LABELS)}
    return [
        {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
        },
    ]


def _service(names: Names) -> Plain:
    metadata = _metadata(SERVICE)
    metadata["labels"] |= {"kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "clusterIP": service_address(names.services),
            "selector": dict(LABELS),
            "ports": [
                {"name": "dns", "port": PORT, "protocol": "UDP", "targetPort": PORT},
                {"name": "dns-tcp", "port": PORT, "protocol": "TCP", "targetPort": PORT},
                {"name": "metrics", "port": METRICS, "protocol": "TCP", "targetPort": METRICS},
            ],
        },
    }


def _deployment(names: Names, text: str) -> Plain:
    container = {
        "name": NAME,
        "image": names.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS, "protocol": "TCP"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            # With the same capability on the program's file: nobody else's would count for a user who is not root.
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
        },
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "startupProbe": {**_asked(READY, "/ready"), "periodSeconds": 1, "failureThreshold": 60},
        "livenessProbe": {**_asked(HEALTH, "/health"), "periodSeconds": 10, "failureThreshold": 5},
        "readinessProbe": {**_asked(READY, "/ready"), "periodSeconds": 5, "failureThreshold": 3},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    pod = {
        "serviceAccountName": NAME,
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "enableServiceLinks": False,
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/hostname": names.host},
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        # It needs no network of pods.
        "tolerations": [
            {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"},
            *({"key": f"node.kubernetes.io/{key}", "operator": "Exists"} for key in ("not-ready", "unreachable")),
            {"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"},
        ],
        "terminationGracePeriodSeconds": 10,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}],
    }
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(NAME),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # two would want the same port of the same host
            "selector": {"matchLabels": dict(LABELS)},
            "template": {
                "metadata": {"labels": dict(LABELS), "annotations": {"mizar.com/config": digest}},
                "spec": pod,
            },
        },
    }


def _asked(port: int, path: str) -> Plain:
    return {"httpGet": {"host": "127.0.0.1", "port": port, "path": path}, "timeoutSeconds": 5}
