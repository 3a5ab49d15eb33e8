"""The health gate of a cluster on a real one: healthy it passes, and each way to break it is told by name."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from infra import images
from infra.providers.pod_health import PodHealthProps, PodHealthProvider
from infra.providers.probe_pods import Cluster
from infra.render import probe_pods
from infra.render.access import AGENT, NAMESPACE
from infra.render.dns import Names, name_server
from infra.render.manifests import Wanted
from infra.render.probe_pods import MARKS, ProbePod, Shared
from node_agent.datapath.direct import Question
from node_agent.emulation import fabric, hosts
from node_agent.emulation.cluster import programs
from node_agent.health import gate, paths
from node_agent.health.assess import Health
from node_agent.kernel import netns
from node_agent.model.addresses import pod_mtu
from node_agent.model.config import Listed
from node_agent.model.errors import NotFound, Permanent, Temporary
from node_agent.model.objects import Subnet, SubnetSpec, Vpc, VpcSpec
from node_agent.store import kubernetes_access, kubernetes_exec
from tests.lab import cluster, deployed
from tests.lab.cluster import Lab
from tests.lab.deployed import put, rolled_out
from tests.waiting import until

pytestmark = pytest.mark.root

PATIENCE = 60.0  # seconds; a bound for a loaded machine, nothing is measured by it
STARTED = 30  # seconds, when some pods will not start
SETTLED = 3.0  # seconds after that, when some probe will not be answered
# Each with the addresses of the other.
NETWORKS = (("blue", "front", "10.50.1.0/24"), ("blue", "back", "10.50.2.0/24"), ("red", "red-a", "10.50.1.0/24"))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> images.Built:
    return deployed.image(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def lab(reference: images.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Control plane and two workers with Mizar, names and two VPCs of equal addresses, once all agents are ready."""
    vpcs = [Vpc(name=name, spec=VpcSpec(cidr="10.50.0.0/16", set_size=2)) for name in ("blue", "red")]
    subnets = [Subnet(name=name, spec=SubnetSpec(vpc=vpc, cidr=cidr)) for vpc, name, cidr in NETWORKS]
    with deployed.made(
        __name__, reference, lambda made: wanted(made, reference), *vpcs, *subnets, control_node=True
    ) as made:
        coredns = images.coredns(programs.where().coredns / "coredns", tmp_path_factory.mktemp("names"))
        deployed.load(made, cluster.CONTROL, coredns)
        there = Names(
            image=coredns.reference,
            host=cluster.CONTROL,
            address=made.cluster.address,
            services=made.cluster.services,
        )
        put(made, *name_server(there))
        rolled_out(made)
        made.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s", timeout=70)
        ready = [f"node/{name}" for name in made.nodes]
        made.kubectl("wait", "--for=condition=Ready", *ready, "--timeout=60s", timeout=70)
        yield made


def wanted(lab: Lab, reference: images.Built) -> Wanted:
    listed = [Listed(address=lab.cluster.address, port=53, protocol=protocol) for protocol in ("udp", "tcp")]
    listed.append(Listed(address=lab.cluster.address, port=lab.cluster.port, protocol="tcp"))
    return Wanted(
        stack="lab",
        image=reference.reference,
        underlay="198.18.0.0/24",
        pins="/sys/fs/bpf",
        vpc="blue",
        subnet="front",
        listed=tuple(listed),
    )


@pytest.fixture
def props(lab: Lab, reference: images.Built) -> PodHealthProps:
    return PodHealthProps(
        stack=lab.places.id,
        kubeconfig=lab.admin,
        image=reference.reference,
        nodes=tuple(lab.nodes),
        networks=tuple({"vpc": vpc, "subnet": subnet} for vpc, subnet, _ in NETWORKS),
        seconds=60,
        mtu=pod_mtu(1500),
    )


def examine(lab: Lab, props: PodHealthProps, patience: float = PATIENCE) -> Health:
    """The gate's verdict, asked from where the API server can be reached. `patience`: after pods have started."""
    there = lab.places.netns_path(cluster.CONTROL)
    return netns.call_in(there, lambda: PodHealthProvider().examine(props, patience))


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab) -> Iterator[None]:
    """Whatever came of a gate, nothing of it stays."""
    yield
    marks = ",".join(f"{key}={value}" for key, value in MARKS.items())
    until(lambda: not lab.get("pods", "-A", "-l", marks)["items"], PATIENCE, "the end of the gate's pods")
    until(lambda: not lab.get("networkendpoints")["items"], PATIENCE, "every address free again")
    until(lambda: not lab.get("namespaces", "-l", marks)["items"], PATIENCE, "the end of the gate's namespace")


def test_a_healthy_cluster_passes_and_its_paths_are_asked_for(
    lab: Lab, props: PodHealthProps, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str | None]] = []
    look = Cluster.flows

    def spied(self: Cluster, agents: Any, questions: Mapping[str, Sequence[Question]]) -> Any:
        found = look(self, agents, questions)
        asked.extend(found.values())
        return found

    monkeypatch.setattr(Cluster, "flows", spied)
    began = time.monotonic()
    health = examine(lab, props)
    print(f"\n{health.probes} probes over {len(health.pairs)} pairs in {time.monotonic() - began:.1f} s")
    assert health.ok, health.problems
    assert sorted(host.name for host in health.hosts) == sorted(lab.nodes)
    relations = {pair.relation for pair in health.pairs}
    assert {"same subnet", "other subnet", "same host", "service", "common"} <= relations
    for target in ("API server", "name server for vpc-blue.mizar-health-", "service red/vpc-red (10.96."):
        assert {pair.source_host for pair in health.pairs if pair.target.startswith(target)} == set(lab.nodes)
    assert len(asked) == len(lab.nodes) and all(asked) and not any(any(each) for each in asked)


def test_a_flow_that_goes_elsewhere_than_it_should_fails(
    lab: Lab, props: PodHealthProps, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = paths.Wanted

    def swapped(*, hosts: Mapping[str, str], **more: Any) -> Any:
        exchanged = {"worker-1": hosts["worker-2"], "worker-2": hosts["worker-1"]}
        return wanted(hosts={**hosts, **exchanged}, **more)

    monkeypatch.setattr(paths, "Wanted", swapped)
    health = examine(lab, props, SETTLED)
    assert health.problems and all(": direct: host " in each for each in health.problems), health.problems
    assert "by host 198.18.0.12 instead of 198.18.0.11" in "\n".join(health.problems)


def test_hosts_that_cannot_reach_each_other_are_named(lab: Lab, props: PodHealthProps) -> None:
    def isolated(on: str) -> None:
        with netns.enter(lab.places.netns_path(fabric.NAME)):
            for host in ("worker-1", "worker-2"):  # both reach the control plane
                argv = ["bridge", "link", "set", "dev", hosts.port_name(host), "isolated", on]
                subprocess.run(argv, check=True)

    isolated("on")
    try:
        health = examine(lab, props, SETTLED)
    finally:
        isolated("off")
    assert any(each.startswith("worker-1 -> worker-2: blue/") for each in health.problems), health.problems
    assert any(each.startswith("worker-2 -> worker-1: red/") for each in health.problems)
    told = "\n".join(health.problems)
    assert "icmp: 0 of 3 echoes answered within 3 s" in told
    assert "tcp: no answer within 3 s" in told and "udp: no answer within 3 s" in told
    assert not [pair for pair in health.pairs if pair.relation == "same host" and not pair.ok]


def test_a_pod_that_cannot_be_scheduled_fails_with_the_schedulers_word(lab: Lab, props: PodHealthProps) -> None:
    lab.kubectl("cordon", "worker-2")
    try:
        health = examine(lab, replace(props, seconds=STARTED))
    finally:
        lab.kubectl("uncordon", "worker-2")
    assert {host.name for host in health.hosts if not host.ok} == {"worker-2"}
    assert any("worker-2: a pod of red/red-a" in each and "unschedulable" in each for each in health.problems)


def test_a_leak_between_vpcs_fails(lab: Lab, props: PodHealthProps, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = probe_pods.pod

    def leaking(wanted: ProbePod, shared: Shared) -> dict[str, Any]:
        return rendered(wanted, shared) | {
            "metadata": rendered(wanted, shared)["metadata"]
            | {"annotations": {probe_pods.VPC: "blue", probe_pods.SUBNET: "back"}}
        }

    monkeypatch.setattr(probe_pods, "pod", leaking)
    health = examine(lab, props, SETTLED)
    leaks = [each for each in health.problems if each.endswith("though red and blue must not reach each other")]
    assert leaks and any(": tcp: answered by blue/" in each for each in leaks), health.problems
    assert any(": udp: answered by blue/" in each for each in leaks)


def test_a_service_without_backends_fails(lab: Lab, props: PodHealthProps, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = probe_pods.service

    def astray(vpc: str, shared: Shared) -> dict[str, Any]:
        made = rendered(vpc, shared)
        return made | {"spec": made["spec"] | {"selector": {probe_pods.VPC: "nobody"}}} if vpc == "red" else made

    monkeypatch.setattr(probe_pods, "service", astray)
    health = examine(lab, props, SETTLED)
    assert health.problems and all("-> service red/vpc-red (" in each for each in health.problems), health.problems
    for protocol in ("tcp 80", "udp 80"):
        assert any(f": {protocol}: no answer within 3 s" in each for each in health.problems)


def test_a_cluster_without_name_server_fails(lab: Lab, props: PodHealthProps) -> None:
    scaled = ("-n", "kube-system", "scale", "deployment/coredns")
    lab.kubectl(*scaled, "--replicas=0")
    try:
        health = examine(lab, props, SETTLED)
    finally:
        lab.kubectl(*scaled, "--replicas=1")
        lab.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s", timeout=70)
    named = [each for each in health.problems if "-> name server for vpc-" in each and ": dns: no answer" in each]
    assert named and named == list(health.problems), health.problems


def test_a_node_without_agent_and_programs_is_named_twice(lab: Lab, props: PodHealthProps) -> None:
    def kept_off(terms: list[dict[str, Any]] | None) -> None:
        node = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}} if terms else None
        patch = {"spec": {"template": {"spec": {"affinity": {"nodeAffinity": node} if node else None}}}}
        lab.kubectl(f"--namespace={NAMESPACE}", "patch", "daemonset", AGENT, "-p", json.dumps(patch))
        rolled_out(lab)

    only = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["worker-2"]}
    kept_off([{"matchExpressions": [only]}])
    try:
        (lab.places.host("worker-2").links / "uplink").unlink()
        health = examine(lab, replace(props, seconds=STARTED))
    finally:
        kept_off(None)
    told = [each for each in health.problems if each.startswith("worker-2: ")]
    assert "worker-2: 0 agents are ready there instead of 1" in told, health.problems
    # Whoever is first: the kubelet, whose runtime or plugin finds no agent, or the scheduler, who heard of it already.
    assert any(
        re.search("does not start: (FailedCreatePodSandBox|Network)|untolerated taint", each) for each in told
    ), told
    assert examine(lab, props).ok


def test_a_node_that_runs_another_image_fails(lab: Lab, props: PodHealthProps) -> None:
    other = f"{images.NAME}@sha256:{'0' * 64}"
    health = examine(lab, replace(props, image=other, seconds=STARTED))
    for node in lab.nodes:
        assert any(
            each.startswith(f"{node}: its agent runs image ") and each.endswith(other) for each in health.problems
        )
        assert any(each.startswith(f"{node}: a pod of ") and "ErrImage" in each for each in health.problems) or any(
            "ImagePullBackOff" in each for each in health.problems
        )


def test_what_a_killed_gate_left_is_removed_by_the_next(lab: Lab, props: PodHealthProps) -> None:
    shared = Shared(namespace=f"{probe_pods.PREFIX}killed", image=props.image, seconds=600)
    [pod] = probe_pods.choose(props.nodes[:1], [probe_pods.Network(vpc="red", subnet="red-a")])
    lab.apply(*probe_pods.ground(shared), probe_pods.service("red", shared), probe_pods.pod(pod, shared))
    lab.kubectl(f"--namespace={shared.namespace}", "wait", "--for=condition=Ready", "pod", "--all", timeout=40)
    assert examine(lab, props).ok
    left = {each["metadata"]["name"]: each for each in lab.get("namespaces")["items"]}.get(shared.namespace)
    assert left is None or "deletionTimestamp" in left["metadata"]


def test_an_interrupted_gate_leaves_nothing(lab: Lab, props: PodHealthProps, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(gate, "examine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        examine(lab, props)


def test_a_program_in_a_container_gets_its_line_and_tells_what_it_says(lab: Lab) -> None:
    [agent, *_] = lab.get("pods", f"--namespace={NAMESPACE}", "-l", f"app.kubernetes.io/name={AGENT}")["items"]
    there = lab.places.netns_path(cluster.CONTROL)

    def run(script: str, line: str = "", pod: str = agent["metadata"]["name"], timeout: float = PATIENCE) -> str:
        argv = ["/usr/bin/python3", "-S", "-c", script]
        access = kubernetes_access.from_text(lab.admin)
        return netns.call_in(there, lambda: kubernetes_exec.run(access, NAMESPACE, pod, "agent", argv, line, timeout))

    # More than fits into one message, both ways.
    assert run("print(input() * 2)", "line " * 20_000) == "line " * 40_000 + "\n"
    with pytest.raises(Permanent, match="no such luck"):
        run("raise SystemExit('no such luck')")
    with pytest.raises(Temporary, match=r"no answer within 0\.5 s"):
        run("import time; time.sleep(5)", timeout=0.5)
    with pytest.raises(NotFound, match="nobody"):
        run("print()", pod="nobody")
