"""The health gate's pods on a cluster: made, waited for, asked from inside, removed. Called by `pod_health` only.

Everything goes by the API server, from wherever the program runs. No resource of its own.
"""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote

from infra.render import probe_pods
from infra.render.access import AGENT, NAMESPACE
from infra.render.manifests import RUN
from infra.render.probe_pods import CONTAINER, MARKS, PREFIX, PYTHON, ProbePod, Shared
from node_agent.datapath.direct import Question
from node_agent.health import answers, pairs, paths, pod_states
from node_agent.health.answers import Answer, Request
from node_agent.model.errors import MizarError, NotFound, Permanent, Temporary
from node_agent.store import kubernetes_access, kubernetes_exec
from node_agent.store.kubernetes_access import Access
from node_agent.store.kubernetes_http import Api

MANAGER = "mizar-health"
AT_ONCE = 32  # requests to the API server
STARTED_SECONDS = 30.0  # beyond its requests' own time, for a program in a pod to begin and end
GONE_SECONDS = 10.0  # patience with pods that end
LOOK_SECONDS = 0.2  # between two looks at pods
FREE_SECONDS = 30.0  # patience with namespaces that end: the cluster waits five seconds before it begins
OUTLIVES = 120  # seconds, by which pods of a gate that was killed outlive its patience

T = TypeVar("T")
S = TypeVar("S")
Plain = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class State:
    """`ready`: pods that run, with their addresses; `problems`: (node, why one of its pods does not)."""

    ready: tuple[pairs.Endpoint, ...]
    problems: tuple[tuple[str, str], ...]


class Cluster:
    """The API of the cluster that the text of a kubeconfig leads to. Raises Invalid for one of no use."""

    def __init__(self, kubeconfig: str) -> None:
        self._access: Access = kubernetes_access.from_text(kubeconfig)
        self._api = Api(self._access, MANAGER)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()

    # --- the agents ---

    def agents(self) -> Sequence[Plain]:
        """Pods of all agents."""
        return self._list("agents", "pods", NAMESPACE, f"app.kubernetes.io/name={AGENT}")

    def flows(self, agents: Sequence[Plain], asked: Mapping[str, Sequence[Question]]) -> Mapping[str, list[str | None]]:
        """What each node's agent's container finds in its maps: of each question None for yes, else why not."""
        names = {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in agents if pod_states.ready(pod)}

        def look(node: str) -> list[str | None]:
            questions = asked[node]
            try:
                if node not in names:
                    raise Temporary("it has no agent that is ready")
                argv = [*PYTHON, "node_agent.health.flows", f"{RUN}/agent.json"]
                line = paths.dump(questions)
                said = kubernetes_exec.run(self._access, NAMESPACE, names[node], "agent", argv, line, STARTED_SECONDS)
                return _as_many(json.loads(said), questions)
            except (MizarError, ValueError, TypeError) as error:
                return [f"host {node}: {error}"] * len(questions)

        return dict(zip(asked, _all(look, asked), strict=True))

    # --- probe pods ---

    @contextlib.contextmanager
    def made(
        self, pods: Sequence[ProbePod], image: str, seconds: float, *, services: bool
    ) -> Iterator[tuple[str, tuple[pairs.Service, ...]]]:
        """The pods, and for each VPC a service in front of its ones, in a namespace of their own, which is yielded and
        removed afterwards. What an earlier gate left is removed before."""
        self.sweep()
        shared = Shared(namespace=PREFIX + secrets.token_hex(3), image=image, seconds=int(seconds) + OUTLIVES)
        try:
            namespace, account = probe_pods.ground(shared)
            self._create(namespace)
            self._create(account)
            vpcs = sorted({pod.vpc for pod in pods}) if services else []
            # Before the pods: a name server that is asked too early remembers that there is no such name.
            made = _all(lambda vpc: self._create(probe_pods.service(vpc, shared)), vpcs)
            _all(lambda pod: self._create(probe_pods.pod(pod, shared)), pods)
            yield shared.namespace, tuple(_service(vpc, one, pods) for vpc, one in zip(vpcs, made, strict=True))
        finally:
            self._remove(shared.namespace)

    def state(self, namespace: str, pods: Sequence[ProbePod], patience: float) -> State:
        """The pods once all of them are ready, or how they are when that takes too long."""
        found: dict[str, Plain] = {}

        def ready() -> bool:
            found.clear()
            found.update({pod["metadata"]["name"]: pod for pod in self._list("probe pods", "pods", namespace)})
            return all(pod.name in found and pod_states.ready(found[pod.name]) for pod in pods)

        everyone = _until(ready, patience)
        events = () if everyone else self._list("events of probe pods", "events", namespace)
        running, problems = [], []
        for pod in pods:
            seen = found.get(pod.name)
            if seen is not None and pod_states.ready(seen):
                address = seen["status"].get("podIP", "")
                running.append(
                    pairs.Endpoint(
                        vpc=pod.vpc, subnet=pod.subnet, name=pod.name, address=address, host=pod.node, place=pod.name
                    )
                )
                continue
            own = [each for each in events if (each.get("involvedObject") or {}).get("name") == pod.name]
            why = "is gone" if seen is None else pod_states.trouble(seen, own)
            problems.append((pod.node, f"a pod of {pod.vpc}/{pod.subnet}, {pod.name}, {why}"))
        return State(ready=tuple(running), problems=tuple(problems))

    def probe(self, namespace: str, requests: Sequence[Request]) -> list[Answer]:
        """Send each from inside of the pod that is its source, all pods at once."""
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(request.source, []).append(number)
        # The ids of echoes differ between pods, as `probe.Sockets` says why.
        apart, start = 0x10000 // max(len(groups), 1), random.getrandbits(16)
        firsts = {pod: (start + apart * turn) & 0xFFFF for turn, pod in enumerate(groups)}

        def inside(pod: str) -> list[Answer]:
            own = [replace(requests[number], source="") for number in groups[pod]]
            argv = [*PYTHON, "node_agent.health.inside", str(firsts[pod])]
            patience = STARTED_SECONDS + max(request.timeout for request in own)
            try:
                said = kubernetes_exec.run(self._access, namespace, pod, CONTAINER, argv, answers.dump(own), patience)
                return _as_many(answers.load_answers(said), own)
            except (MizarError, ValueError, TypeError) as error:
                return [answers.nothing_sent(str(error))] * len(own)

        found: dict[int, Answer] = {}
        for numbers, answered in zip(groups.values(), _all(inside, groups), strict=True):
            found.update(zip(numbers, answered, strict=True))
        return [found[number] for number in range(len(requests))]

    def sweep(self, patience: float = 0.0) -> None:
        """Remove what gates left that were killed. `patience`: seconds to wait until nothing of any gate is there."""
        marks = ",".join(f"{key}={value}" for key, value in MARKS.items())

        def left() -> Sequence[Plain]:
            return self._list("namespaces of health gates", "namespaces", marks=marks)

        for namespace in left():
            if not namespace["metadata"].get("deletionTimestamp"):
                self._remove(namespace["metadata"]["name"])
        if patience and not _until(lambda: not left(), patience):
            raise Temporary(f"remove probe pods: their namespace is still there after {patience:g} s")

    # --- inside ---

    def _remove(self, namespace: str) -> None:
        """The pods, and when they are gone the namespace, whose end nobody waits for: it is empty. Raises as the API
        does, and does nothing about pods that do not end in time: they go with the namespace."""
        pods = f"/api/v1/namespaces/{quote(namespace)}/pods"
        with contextlib.suppress(NotFound):
            self._api.ask("remove probe pods", "DELETE", pods, {"gracePeriodSeconds": str(probe_pods.END_SECONDS)})
            _until(lambda: not self._list("probe pods", "pods", namespace), GONE_SECONDS)
            self._api.ask(f"remove namespace {namespace}", "DELETE", f"/api/v1/namespaces/{quote(namespace)}")

    def _create(self, manifest: Plain) -> Plain:
        kind, metadata = manifest["kind"], manifest["metadata"]
        path = "/api/v1/namespaces"
        if kind != "Namespace":
            path += f"/{quote(metadata['namespace'])}/{kind.lower()}s"
        return self._api.ask(f"make {kind} {metadata['name']}", "POST", path, body=manifest)

    def _list(self, what: str, plural: str, namespace: str = "", marks: str = "") -> Sequence[Plain]:
        path = f"/api/v1/namespaces/{quote(namespace)}/{plural}" if namespace else f"/api/v1/{plural}"
        found = self._api.ask(f"list {what}", "GET", path, {"labelSelector": marks} if marks else None)
        items: Sequence[Plain] = found.get("items") or ()
        return items


def _service(vpc: str, made: Plain, pods: Sequence[ProbePod]) -> pairs.Service:
    return pairs.Service(
        vpc=vpc,
        name=made["metadata"]["name"],
        address=made["spec"]["clusterIP"],
        ports=probe_pods.SERVICE_PORTS,
        backends=tuple(pod.name for pod in pods if pod.vpc == vpc),
    )


def _until(done: Callable[[], bool], patience: float) -> bool:
    """Whether it is done by then; asked once at least."""
    until = time.monotonic() + patience
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _all(function: Callable[[S], T], over: Sequence[S] | Mapping[S, Any]) -> list[T]:
    """The function's result for each, several at once."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe-pods") as pool:
        return list(pool.map(function, over))


def _as_many(found: list[T], asked: Sequence[Any]) -> list[T]:
    """Raises Permanent when there is not one answer to each."""
    if not isinstance(found, list) or len(found) != len(asked):
        raise Permanent(f"{len(asked)} were asked, and something else was answered")
    return found
