"""The control plane of a cluster on one host: etcd, API server, controller manager, scheduler, each supervised in the
host's network namespace. A host may be a node as well. Called by the Pulumi provider.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import json
import shutil
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from node_agent.emulation import processes
from node_agent.emulation.cluster import configs, programs
from node_agent.emulation.cluster.configs import Cluster
from node_agent.kernel import links, netns
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces

# In the order to start them in. The last two end at once while the API server is not ready.
STORE, SERVED, SERVES = ("etcd", "kube-apiserver", ("kube-controller-manager", "kube-scheduler"))
PROGRAMS = (STORE, SERVED, *SERVES)
READY_PATIENCE = 60.0  # seconds; 3 on a quiet machine
LOG_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Spec:
    """`files`: name -> text of every certificate, key and kubeconfig, as `configs` names them."""

    host: str
    cluster: Cluster
    files: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """`pids`, `restarts`: by program, 0 for a dead one. `ready`: the API server says so. `problems`: one sentence each,
    none when all is well."""

    host: str
    pids: Mapping[str, int]
    restarts: Mapping[str, int]
    ready: bool
    problems: tuple[str, ...]


def root(places: StackPlaces, host: str) -> Path:
    """Folder with pki/ and one folder per program."""
    return places.host(host).root / "control-plane"


def make(places: StackPlaces, spec: Spec) -> Observed:
    """The control plane as specified, ready; repairs what is there. Raises Permanent with the end of the log."""
    if not netns.exists(places.netns_path(spec.host)):
        raise Permanent(f"make control plane on {spec.host}: the host has no namespace")
    own = root(places, spec.host)
    _write(own / "pki", spec.files)
    with links.opened(places.netns_path(spec.host)) as net:
        # The service `kubernetes` without anything that serves services: its address is this host's own.
        net.add_address("lo", f"{ipaddress.ip_network(spec.cluster.services)[1]}/32")
    if processes.inspect(own / STORE, STORE) is None:
        # Long without its store, an API server tries it less and less often: minutes apart, which nobody waits for.
        processes.stop(own / SERVED, SERVED)
    for name in (STORE, SERVED):
        processes.start(_spec(places, spec, name))
    until = time.monotonic() + READY_PATIENCE
    while not _ready(places, spec.host, spec.cluster):
        if time.monotonic() > until:
            words = "\n".join(f"{name}:\n{last_words(places, spec.host, name)}" for name in (STORE, SERVED))
            raise Permanent(f"make control plane on {spec.host}: the API server does not get ready\n{words}")
        time.sleep(0.05)
    for name in SERVES:
        processes.start(_spec(places, spec, name))
    return inspect(places, spec.host, spec.cluster) or Observed(
        host=spec.host, pids={}, restarts={}, ready=False, problems=("it is gone again",)
    )


def inspect(places: StackPlaces, host: str, cluster: Cluster) -> Observed | None:
    """The control plane as it is; None: there is none."""
    own = root(places, host)
    if not own.is_dir():
        return None
    found = {name: processes.inspect(own / name, name) for name in PROGRAMS}
    problems = [f"{name} is not kept running" for name, seen in found.items() if not seen or not seen.supervisor_pid]
    problems += [f"{name} runs in a namespace that is gone" for name, seen in found.items() if seen and not seen.placed]
    ready = netns.exists(places.netns_path(host)) and _ready(places, host, cluster)
    if not ready:
        problems.append("the API server is not ready")
    return Observed(
        host=host,
        pids={name: seen.pid if seen else 0 for name, seen in found.items()},
        restarts={name: seen.restarts if seen else 0 for name, seen in found.items()},
        ready=ready,
        problems=tuple(problems),
    )


def remove(places: StackPlaces, host: str) -> None:
    """Stop the four and remove their files, the store's data with them; absent is success."""
    own = root(places, host)
    for name in reversed(PROGRAMS):
        processes.remove(own / name, name)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(own)


def last_words(places: StackPlaces, host: str, name: str) -> str:
    """The end of a program's log, for error messages."""
    try:
        lines = (root(places, host) / name / f"{name}.log").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "    no log"
    return "\n".join(f"    {line}" for line in lines[-LOG_LINES:]) or "    an empty log"


def _spec(places: StackPlaces, spec: Spec, name: str) -> processes.Spec:
    own = root(places, spec.host)
    arguments = {
        "etcd": configs.etcd(own / "etcd"),
        "kube-apiserver": configs.api_server(own / "pki", spec.cluster),
        "kube-controller-manager": configs.controller_manager(own / "kube-controller-manager", spec.cluster),
        "kube-scheduler": configs.scheduler(own / "kube-scheduler"),
    }[name]
    return processes.Spec(
        folder=own / name,
        name=name,
        argv=(str(programs.where().kubernetes / name), *arguments),
        netns=places.netns_path(spec.host),
        # New certificates are a restart of those that read them; a store that need not restart should not.
        env={"PATH": processes.PATH, "MIZAR_FILES_DIGEST": _digest(spec.files, "etcd" if name == STORE else "")},
    )


def _digest(files: Mapping[str, str], only: str) -> str:
    chosen = {name: text for name, text in files.items() if only in name}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text)


def _ready(places: StackPlaces, host: str, cluster: Cluster) -> bool:
    """Whether the API server answers, proves who it is, and calls itself ready."""

    def ask() -> bool:
        try:
            context = ssl.create_default_context(cafile=str(root(places, host) / "pki" / "ca.crt"))
            connection = http.client.HTTPSConnection(cluster.address, cluster.port, timeout=5.0, context=context)
            with contextlib.closing(connection):
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    return netns.call_in(places.netns_path(host), ask)
