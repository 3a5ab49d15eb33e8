"""Stacks whose agents, controller and workloads are pods (`kinds`): what is known and done goes through the API server.

Only the maps are read on this computer, and traces run the clone's own compiled programs: those of the agents are in
their image. A trace refuses when the two are not the same.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from node_agent.cli import execute
from node_agent.cli.kinds import Log
from node_agent.cli.running import CONTROLLER, Process, Running, on_hosts
from node_agent.health import pod_states
from node_agent.model import resources
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkEndpoint
from node_agent.model.places import StackPlaces
from node_agent.model.resources import NAMESPACE
from node_agent.store import kubernetes_access, kubernetes_exec
from node_agent.store.kubernetes import MANAGER
from node_agent.store.kubernetes_http import Api

OBJECTS = Path(__file__).resolve().parents[2] / "bpf" / "build"
CONFIG = "controller.json"
FIGURES = ("/usr/bin/python3", "-S", "-m", "node_agent.metrics.server", "/run/mizar-controller/metrics.sock")
FIGURES_SECONDS = 15.0
INTERRUPTED = 130  # as a shell has it
_NAME = "app.kubernetes.io/name"
_DEFAULT = "kubectl.kubernetes.io/default-container"

Pod = Mapping[str, Any]


class OnCluster:
    def __init__(self, places: StackPlaces) -> None:
        self._places = places

    def store(self) -> str:
        return f"kubernetes:{self._places.kubeconfig}"

    def processes(self) -> Sequence[Process]:
        return on_hosts(self._places.root, "kubelet", "node/kubelet/kubelet.pid")

    def running(self) -> Mapping[str, Running]:
        return {
            name: Running(pod=pod["metadata"]["name"], ready=pod_states.ready(pod))
            for name, pod in self._own().items()
            if pod_states.runs(pod)
        }

    def objects(self, agent: AgentConfig) -> Path:
        if not OBJECTS.is_dir():
            raise Permanent(f"find compiled programs: there is no {OBJECTS}: run make bpf")
        return OBJECTS

    def controller_config(self) -> str:
        path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{resources.CONTROLLER}"
        found = self._api.ask("read the controller's configuration", "GET", path)
        return str(found.get("data", {}).get(CONFIG, ""))

    def controller_figures(self) -> str:
        pod = self._own().get(CONTROLLER)
        if pod is None:
            raise Permanent(f"ask the controller: there is no pod of {resources.CONTROLLER} in {NAMESPACE}")
        name, container = pod["metadata"]["name"], container_of(pod)
        return kubernetes_exec.run(self._access, NAMESPACE, name, container, FIGURES, "", FIGURES_SECONDS)

    def logs(self) -> Mapping[str, Log]:
        return {name: functools.partial(self._lines, pod) for name, pod in self._own().items()}

    def workload_log(self, endpoint: NetworkEndpoint) -> Log:
        if not _is_pod(endpoint):
            raise Permanent(f"read log of {endpoint.spec.workload}: it is no pod")
        return functools.partial(self._lines, self._pod(endpoint))

    def execute(self, endpoint: NetworkEndpoint, argv: Sequence[str]) -> int:
        if not _is_pod(endpoint):
            return execute.replace(self._places.netns_path(endpoint.spec.host), argv)
        files = {kubernetes_exec.STDOUT: sys.stdout.buffer, kubernetes_exec.STDERR: sys.stderr.buffer}

        def hear(channel: int, data: bytes) -> None:
            files[channel].write(data)
            files[channel].flush()

        try:
            return self._run(endpoint, argv, hear)
        except KeyboardInterrupt:
            return INTERRUPTED

    def captured(self, endpoint: NetworkEndpoint, argv: Sequence[str]) -> dict[str, Any]:
        if not _is_pod(endpoint):
            return execute.capture(self._places.netns_path(endpoint.spec.host), argv)
        said = {kubernetes_exec.STDOUT: bytearray(), kubernetes_exec.STDERR: bytearray()}
        code = self._run(endpoint, argv, lambda channel, data: said[channel].extend(data))
        stdout, stderr = (bytes(each).decode(errors="replace") for each in said.values())
        return {"code": code, "stdout": stdout, "stderr": stderr}

    # --- inside ---

    @functools.cached_property
    def _access(self) -> kubernetes_access.Access:
        return kubernetes_access.from_kubeconfig(self._places.kubeconfig)

    @functools.cached_property
    def _api(self) -> Api:
        return Api(self._access, MANAGER)

    def _own(self) -> dict[str, Pod]:
        """The pods of Mizar by the names that they go by here."""
        query = {"labelSelector": "app.kubernetes.io/part-of=mizar"}
        listed = self._api.ask("list Mizar's pods", "GET", f"/api/v1/namespaces/{NAMESPACE}/pods", query)
        return own(listed.get("items") or [])

    def _pod(self, endpoint: NetworkEndpoint) -> Pod:
        path = _path(*endpoint.spec.workload.split("/", 1))
        return self._api.ask(f"look after pod {endpoint.spec.workload}", "GET", path)

    def _run(self, endpoint: NetworkEndpoint, argv: Sequence[str], hear: kubernetes_exec.Hear) -> int:
        pod = self._pod(endpoint)
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        return kubernetes_exec.follow(self._access, namespace, name, container_of(pod), argv, hear)

    def _lines(self, pod: Pod, follow: bool) -> Iterator[str]:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        query = {"container": container_of(pod), **({"follow": "true"} if follow else {})}
        path = f"{_path(namespace, name)}/log"
        with self._api.stream(f"read log of pod {namespace}/{name}", path, query, silence=None) as stream:
            for line in stream.lines():
                yield line.decode(errors="replace").rstrip("\n")


def own(pods: Sequence[Pod]) -> dict[str, Pod]:
    """Of these pods the controller's, as "controller", and the agents', by host; where there are several of one, as
    while one replaces another, one that runs, and of those the newest. Pure."""
    found: dict[str, Pod] = {}
    for pod in sorted(pods, key=lambda pod: (pod_states.runs(pod), pod["metadata"].get("creationTimestamp", ""))):
        what, node = pod["metadata"].get("labels", {}).get(_NAME), pod["spec"].get("nodeName", "")
        name = {resources.CONTROLLER: CONTROLLER, resources.AGENT: node}.get(what, "")
        if name:
            found[name] = pod
    return found


def container_of(pod: Pod) -> str:
    """Name of the container that is meant when nobody names one: as kubectl has it. Pure."""
    first = pod["spec"]["containers"][0]["name"]
    return str((pod["metadata"].get("annotations") or {}).get(_DEFAULT, first))


def _is_pod(endpoint: NetworkEndpoint) -> bool:
    """Hosts too may be endpoints, of a VPC that they reach."""
    return "/" in endpoint.spec.workload


def _path(namespace: str, pod: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}"
