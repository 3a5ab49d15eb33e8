"""What Mizar is on a cluster: namespace, accounts, policies, configuration, daemonset of agents, deployment of the
controller. Pure; called by the targets that have a cluster, in whose order the objects may be applied.

Custom resources are rendered by `crds` and come first. tests/golden keeps the result.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from infra.render.access import AGENT, CONTROLLER, LABELS, NAMESPACE, accounts, metadata
from infra.render.policies import policies
from node_agent.model import config
from node_agent.model.config import AgentConfig, CniConfig, ControllerConfig, Listed, UplinkMode

Plain = dict[str, Any]

STORE = "kubernetes:"
IMAGE_ROOT = "/opt/mizar"
RUN, PINS, NETNS = "/run/mizar", "/sys/fs/bpf", "/run/netns"
CNI_LISTS, CNI_PROGRAMS = "/etc/cni/net.d", "/opt/cni/bin"
CONFLIST = "10-mizar.conflist"
CONFIG = "/etc/mizar"
CONTROLLER_RUN = "/run/mizar-controller"
HOST_PORTS = (2379, 2380, 4789, 6443, 10248, 10249, 10250, 10256, 10257, 10259)
"""What Kubernetes' own programs (kubernetes.io, "Ports and Protocols") and the tunnel use of a host: no pod's."""
CAPABILITIES = (
    "NET_ADMIN",  # links, XDP and TC
    # Entering the network namespaces of pods; finding maps and programs by their ids. It contains BPF and PERFMON.
    "SYS_ADMIN",
)
NOBODY = 65532


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """`image`: as pods ask for it, by digest. `pins`: folder on a BPF file system of the node. `vpc`, `subnet`: of pods
    that say nothing, "" for none. `host_vpc`: of the hosts, "" for none. `listed`: what pods of every VPC may
    reach in the underlay."""

    stack: str
    image: str
    underlay: str
    pins: str = f"{PINS}/mizar"
    mode: UplinkMode = "generic"
    flow_entries: int = 16384
    vpc: str = ""
    subnet: str = ""
    host_vpc: str = ""
    listed: tuple[Listed, ...] = ()


def manifests(wanted: Wanted) -> list[Plain]:
    """Every object, what others need first."""
    agent, controller = agent_config(wanted), controller_config(wanted)
    return [
        _namespace(),
        *accounts(),
        *policies(),
        _config_map(AGENT, {"agent.json": agent}),
        _config_map(CONTROLLER, {"controller.json": controller}),
        _daemonset(wanted, agent),
        _deployment(wanted, controller),
    ]


def agent_config(wanted: Wanted) -> str:
    """AgentConfig of all nodes; `agent.pod` adds what is each one's own."""
    return config.dump(
        AgentConfig(
            host="",
            stack_id=wanted.stack,
            address="",
            uplink="",
            underlay_prefixes=(wanted.underlay,),
            store=STORE,
            pins=wanted.pins,
            socket=f"{RUN}/agent.sock",
            bpf_objects=f"{IMAGE_ROOT}/bpf",
            mode=wanted.mode,
            flow_entries=wanted.flow_entries,
            cni=CniConfig(
                conflist=f"{CNI_LISTS}/{CONFLIST}",
                plugin=f"{IMAGE_ROOT}/bin/mizar",
                programs=CNI_PROGRAMS,
                vpc=wanted.vpc,
                subnet=wanted.subnet,
                chained=("portmap",),
                host_vpc=wanted.host_vpc,
                reserved=tuple(sorted({*HOST_PORTS, *(each.port for each in wanted.listed)})),
            ),
            listed=wanted.listed,
        )
    )


def controller_config(wanted: Wanted) -> str:
    return config.dump(
        ControllerConfig(
            stack_id=wanted.stack,
            store=STORE,
            cluster=True,
            vpc=wanted.vpc,
            subnet=wanted.subnet,
            listed=wanted.listed,
        )
    )


def _namespace() -> Plain:
    own = metadata(NAMESPACE)
    # Host network and capabilities are what the two stricter levels forbid.
    own["labels"] = {**own["labels"], "pod-security.kubernetes.io/enforce": "privileged"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": own}


def _config_map(name: str, files: dict[str, str]) -> Plain:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(name, namespaced=True), "data": files}


def _daemonset(wanted: Wanted, text: str) -> Plain:
    folders = {
        "run": (RUN, "DirectoryOrCreate", {}),
        "pins": (PINS, "Directory", {}),
        # Namespaces are mounted there as pods come, long after this one.
        "netns": (NETNS, "DirectoryOrCreate", {"mountPropagation": "HostToContainer"}),
        "cni-lists": (CNI_LISTS, "DirectoryOrCreate", {}),
        "cni-programs": (CNI_PROGRAMS, "DirectoryOrCreate", {}),
    }
    container = {
        "name": "agent",
        "image": wanted.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["node_agent.agent.pod", f"--config={CONFIG}/agent.json", f"--as={RUN}/agent.json"],
        "env": [_downward("MIZAR_HOST", "spec.nodeName"), _downward("MIZAR_ADDRESS", "status.hostIP")],
        "securityContext": {
            "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # The kernel's maps count as the container's memory: a limit would let them fail to grow, so there is none.
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}},
        "startupProbe": {**_asked("alive"), "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 60},
        "livenessProbe": {**_asked("alive"), "periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 3},
        # The first one follows at once when the container has started. Each costs the node a process.
        "readinessProbe": {**_asked("ready"), "periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 2},
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG, "readOnly": True},
            *({"name": name, "mountPath": path, **more} for name, (path, _, more) in folders.items()),
        ],
    }
    pod = {
        **_pod(AGENT, container),
        "priorityClassName": "system-node-critical",
        # Everywhere, and before everything: other pods wait for the network that this one makes.
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 10,
        "volumes": [
            {"name": "config", "configMap": {"name": AGENT}},
            *({"name": name, "hostPath": {"path": path, "type": kind}} for name, (path, kind, _) in folders.items()),
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": metadata(AGENT, namespaced=True),
        "spec": {
            "selector": {"matchLabels": _marks(AGENT)},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {"metadata": _template(AGENT, text), "spec": pod},
        },
    }


def _deployment(wanted: Wanted, text: str) -> Plain:
    container = {
        "name": "controller",
        "image": wanted.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["node_agent.controller", f"--config={CONTROLLER_RUN}/controller.json"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
        },
        "resources": {"requests": {"cpu": "50m", "memory": "96Mi"}},
        "startupProbe": {**_turning(60), "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 60},
        "livenessProbe": {**_turning(60), "periodSeconds": 20, "timeoutSeconds": 10, "failureThreshold": 3},
        "readinessProbe": {**_turning(15), "periodSeconds": 10, "timeoutSeconds": 10},
        "volumeMounts": [
            {"name": "run", "mountPath": CONTROLLER_RUN},
            # Its socket for figures lies beside its configuration.
            {"name": "config", "mountPath": f"{CONTROLLER_RUN}/controller.json", "subPath": "controller.json"},
        ],
    }
    pod = {
        **_pod(CONTROLLER, container),
        "priorityClassName": "system-cluster-critical",
        "securityContext": {"fsGroup": NOBODY, "seccompProfile": {"type": "RuntimeDefault"}},
        # On nodes that are only waiting for a network, and not for long on one that is lost.
        "tolerations": [
            {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/network-unavailable", "operator": "Exists", "effect": "NoSchedule"},
            *(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
                for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
            ),
        ],
        "terminationGracePeriodSeconds": 10,
        "volumes": [
            {"name": "run", "emptyDir": {"medium": "Memory"}},
            {"name": "config", "configMap": {"name": CONTROLLER}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(CONTROLLER, namespaced=True),
        "spec": {
            # One at a time. Two for a moment, on both sides of a partition, only cost each other conflicts: every write
            # names the version that it is based on.
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _marks(CONTROLLER)},
            "template": {"metadata": _template(CONTROLLER, text), "spec": pod},
        },
    }


def _pod(account: str, container: Plain) -> Plain:
    """What both have: they are there before the network of pods is, and do without its names."""
    return {
        "serviceAccountName": account,
        "hostNetwork": True,
        "dnsPolicy": "Default",
        "enableServiceLinks": False,
        "containers": [container],
    }


def _marks(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name}


def _template(name: str, text: str) -> Plain:
    """Metadata of pods; another configuration makes other pods."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {"labels": {**LABELS, **_marks(name)}, "annotations": {"mizar.com/config": digest}}


def _downward(name: str, path: str) -> Plain:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _asked(question: str) -> Plain:
    return _python("node_agent.agent.probe", question, f"{RUN}/agent.sock")


def _turning(most: int) -> Plain:
    figure = "mizar_controller_turn_age_seconds"
    return _python("node_agent.metrics.probe", f"{CONTROLLER_RUN}/metrics.sock", figure, str(most))


def _python(*arguments: str) -> Plain:
    return {"exec": {"command": ["/usr/bin/python3", "-S", "-m", *arguments]}}
