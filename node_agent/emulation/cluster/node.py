"""A Kubernetes node on a host of the emulated network: the host's machine with containerd and a kubelet on it, each
supervised. What runs in its pods' network is not its business. Called by the Pulumi provider.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node_agent.emulation import hosts, processes
from node_agent.emulation.cluster import configs, images, machines, programs
from node_agent.emulation.cluster.configs import Cluster
from node_agent.emulation.cluster.machines import Bind
from node_agent.kernel import limits, links
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces

DAEMONS = ("containerd", "kubelet")
SOCKET_PATIENCE = 20.0  # seconds
# Inotify instances of a node's daemons and a few pods. A kubelet that gets none registers no node and says nothing.
WATCHES = 12


@dataclass(frozen=True, kw_only=True)
class Spec:
    """`address`: of the host on the underlay. `files`: the kubelet's ca.crt, kubelet.crt, kubelet.key and kubeconfig.
    `taints`: that the node has when it first shows, "key=value:effect"."""

    host: str
    address: str
    cluster: Cluster
    files: Mapping[str, str]
    taints: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Observed:
    """`machine`: pid of its first process; `pids`, `restarts`: by daemon. `problems`: one sentence each."""

    host: str
    machine: int
    pids: Mapping[str, int]
    restarts: Mapping[str, int]
    problems: tuple[str, ...]


def make(places: StackPlaces, spec: Spec) -> Observed:
    """The node as specified, its daemons running; repairs what is there. Whether it is Ready is the network's affair.
    Raises Permanent."""
    built = programs.where()
    kubelet = processes.inspect(machines.root(places, spec.host) / "kubelet", "kubelet")
    if not (kubelet and kubelet.pid):
        limits.need_inotify(WATCHES)
    _write(places, spec)
    machines.make(places, spec.host, _extras(built))
    with links.opened(places.netns_path(spec.host)) as net:
        # The service `kubernetes`, without anything that serves services: its address is the control plane's own.
        service = str(ipaddress.ip_network(spec.cluster.services)[1])
        if spec.address != spec.cluster.address:
            net.ensure_route(f"{service}/32", spec.cluster.address, hosts.UPLINK)
    env = {"GOMAXPROCS": "2"}  # a machine is a slice of a computer: its daemons need no thread per processor
    runtime = ("/opt/containerd/bin/containerd", "--config=/var/lib/containerd.toml")
    processes.start(machines.program(places, spec.host, "containerd", runtime, env=env, config=configs.containerd()))
    _wait_for_containerd(places, spec.host)
    _pause(places, spec.host, built.kubernetes / "pause")
    argv = configs.kubelet_argv(spec.host, spec.address)
    config = json.dumps([configs.kubelet(spec.cluster, spec.taints), dict(spec.files)], sort_keys=True)
    processes.start(machines.program(places, spec.host, "kubelet", argv, env=env, config=config))
    observed = inspect(places, spec.host)
    if observed is None or observed.problems:
        raise Permanent(f"make node {spec.host}: " + "; ".join(observed.problems if observed else ["it is gone again"]))
    return observed


def inspect(places: StackPlaces, host: str) -> Observed | None:
    """The node as it is; None: there is none."""
    machine = machines.inspect(places, host)
    root = machines.root(places, host)
    found = {name: processes.inspect(root / name, name) for name in DAEMONS}
    if machine is None and not any(found.values()):
        return None
    problems = [] if machine and machine.pid else ["the machine is down"]
    if machine and not machine.placed:
        problems.append("the machine runs in a namespace that is gone")
    problems += [f"{name} is not kept running" for name, seen in found.items() if not seen or not seen.supervisor_pid]
    return Observed(
        host=host,
        machine=machine.pid if machine else 0,
        pids={name: seen.pid if seen else 0 for name, seen in found.items()},
        restarts={name: seen.restarts if seen else 0 for name, seen in found.items()},
        problems=tuple(problems),
    )


def remove(places: StackPlaces, host: str) -> None:
    """End daemons, pods and machine, and remove every file of theirs; absent is success. The Node object is the
    cluster's."""
    for name in reversed(DAEMONS):
        processes.remove(machines.root(places, host) / name, name)
    machines.remove(places, host)


def _write(places: StackPlaces, spec: Spec) -> None:
    var = machines.disk(places, spec.host) / "var"
    kubelet = var / configs.KUBELET.removeprefix("/var/")
    pki = kubelet / "pki"
    pki.mkdir(mode=0o700, parents=True, exist_ok=True)
    (var / "lib/containerd.toml").write_text(configs.containerd())
    (kubelet / "config.json").write_text(configs.kubelet(spec.cluster, spec.taints))
    for name, text in spec.files.items():
        path = kubelet / name if name == "kubeconfig" else pki / name
        path.touch(mode=0o600)
        path.write_text(text)


def _extras(built: programs.Programs) -> machines.Extras:
    """The programs, where a node has them. Plugins as links: whoever installs more finds a folder of the node's own."""
    return machines.Extras(
        binds=(
            Bind(source=str(built.containerd / "bin"), path="/opt/containerd/bin", read_only=True),
            Bind(source=str(built.containerd / "cni"), path="/opt/containerd/cni", read_only=True),
            Bind(source=str(built.kubernetes), path="/opt/kubernetes/bin", read_only=True),
        ),
        links={
            f"/opt/cni/bin/{plugin.name}": f"/opt/containerd/cni/{plugin.name}"
            for plugin in sorted((built.containerd / "cni").iterdir())
        },
    )


def _wait_for_containerd(places: StackPlaces, host: str) -> None:
    """Its socket takes connections; it lies on the machine's own /run."""
    until = time.monotonic() + SOCKET_PATIENCE
    while not _answers(places, host):
        if time.monotonic() > until:
            log = machines.root(places, host) / "containerd" / "containerd.log"
            raise Permanent(f"make node {host}: containerd does not answer; see {log}")
        time.sleep(0.02)


def _answers(places: StackPlaces, host: str) -> bool:
    machine = machines.inspect(places, host)
    if machine is None or not machine.pid:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(f"/proc/{machine.pid}/root{configs.CONTAINERD_SOCKET}")
        except OSError:
            return False
    return True


def _pause(places: StackPlaces, host: str, program: Path) -> None:
    """The image of the process that holds a pod's namespaces; nothing pulls it."""
    image = images.Image(
        name=configs.PAUSE, files={"pause": program.read_bytes()}, command=("/pause",), user="65535:65535"
    )
    content = images.archive(image)
    kept = machines.root(places, host) / f"pause-{hashlib.sha256(content).hexdigest()[:12]}.tar"
    if kept.exists() and configs.PAUSE in images.names(places, host):
        return
    kept.write_bytes(content)
    images.load(places, host, kept, configs.PAUSE)
