"""What the programs of a cluster are told: configuration texts and command lines. Pure. Called by its neighbours.

Flags that are there for this kind of place only carry their reason; the rest is what any cluster sets.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAUSE = "mizar.local/pause:1"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
KUBELET = "/var/lib/kubelet"  # on a machine
ETCD = "https://127.0.0.1:2379"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What all programs of one cluster know. `address`, `port`: of the API server on the underlay; `services`, `pods`:
    prefixes; `dns`: address of the DNS service, "" for none."""

    address: str
    port: int = 443
    services: str = "10.96.0.0/16"
    pods: str = "10.244.0.0/16"
    dns: str = ""
    domain: str = "cluster.local"


def containerd() -> str:
    """config.toml of containerd 2 on an emulated machine."""
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# Asked for by nobody here; each costs a complaint in the log, or a start.
disabled_plugins = [
    "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
    "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime"]
# runc may not lower a pod's score below our own where we are not allowed to raise it again: no pod would start.
restrict_oom_score_adj = true
# The computer's profiles, if it has any, are not the machine's.
disable_apparmor = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni/bin"]
conf_dir = "/etc/cni/net.d"
"""


def kubelet(cluster: Cluster, taints: Sequence[str]) -> str:
    """KubeletConfiguration, as JSON. `taints`: "key=value:effect" or "key:effect"."""
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{KUBELET}/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{KUBELET}/pki/kubelet.crt",
        "tlsPrivateKeyFile": f"{KUBELET}/pki/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",  # there is no systemd on a machine
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [cluster.dns] if cluster.dns else [],
        "clusterDomain": cluster.domain,
        "resolvConf": "",  # the computer's own name servers cannot be reached from a machine
        "registerWithTaints": [_taint(text) for text in taints],
        "makeIPTablesUtilChains": False,  # nobody here uses them: services are the data plane's
        "nodeStatusUpdateFrequency": "2s",  # a node whose network comes or goes says so soon
        "maxPods": 250,
        # A limit of the caller's may be lower than the kubelet's million, and it may not be raised.
        "maxOpenFiles": 20000,
        # The computer's disk may be full without the cluster being at fault.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": dict.fromkeys(
            ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"),
            "0%",
        ),
        "volumePluginDir": f"{KUBELET}/plugins/volume",  # the default lies in /usr
        "podLogsDir": "/var/log/pods",
    }
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def kubelet_argv(name: str, address: str) -> tuple[str, ...]:
    return (
        "/opt/kubernetes/bin/kubelet",
        f"--config={KUBELET}/config.json",
        f"--kubeconfig={KUBELET}/kubeconfig",
        f"--hostname-override={name}",
        f"--node-ip={address}",
    )


def etcd(folder: Path) -> tuple[str, ...]:
    """Arguments; `folder`: data, and a folder pki above it."""
    pki = folder.parent / "pki"
    return (
        "--name=etcd",
        f"--data-dir={folder / 'data'}",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        # One member: nobody ever calls it there.
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=etcd=http://127.0.0.1:2380",
        # Pods in the host's network reach 127.0.0.1 too: only who has the API server's certificate gets in.
        "--client-cert-auth=true",
        f"--trusted-ca-file={pki / 'etcd-ca.crt'}",
        f"--cert-file={pki / 'etcd.crt'}",
        f"--key-file={pki / 'etcd.key'}",
        "--unsafe-no-fsync=true",  # a cluster that ends with the computer need not survive its power failure
    )


def api_server(pki: Path, cluster: Cluster) -> tuple[str, ...]:
    return (
        f"--etcd-servers={ETCD}",
        f"--etcd-cafile={pki / 'etcd-ca.crt'}",
        f"--etcd-certfile={pki / 'apiserver-etcd-client.crt'}",
        f"--etcd-keyfile={pki / 'apiserver-etcd-client.key'}",
        f"--advertise-address={cluster.address}",
        f"--secure-port={cluster.port}",
        f"--service-cluster-ip-range={cluster.services}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer=https://kubernetes.default.svc.{cluster.domain}",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
    )


def controller_manager(folder: Path, cluster: Cluster) -> tuple[str, ...]:
    pki = folder.parent / "pki"
    return (
        *_client(pki / "controller-manager.conf"),
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        "--use-service-account-credentials=true",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--allocate-node-cidrs=true",
        f"--cluster-cidr={cluster.pods}",
        f"--service-cluster-ip-range={cluster.services}",
        # The default account of a new namespace waits behind everything else at the default rate, for seconds.
        "--kube-api-qps=1000",
        "--kube-api-burst=1000",
        f"--flex-volume-plugin-dir={folder / 'volume-plugins'}",  # the default lies in /usr
    )


def scheduler(folder: Path) -> tuple[str, ...]:
    return _client(folder.parent / "pki" / "scheduler.conf")


def _client(kubeconfig: Path) -> tuple[str, ...]:
    return (
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    )


def _taint(text: str) -> dict[str, str]:
    key, _, effect = text.partition(":")
    key, _, value = key.partition("=")
    return {"key": key, "effect": effect} | ({"value": value} if value else {})
