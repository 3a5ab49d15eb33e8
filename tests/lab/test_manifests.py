"""Mizar's manifests on a real cluster: image, accounts, policies, daemonset, deployment, and what comes of them."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra import images
from infra.render.access import AGENT, NAMESPACE
from infra.render.manifests import CONFLIST, Wanted, manifests
from node_agent.cni import client
from node_agent.cni.protocol import Request
from node_agent.emulation.cluster import machines
from node_agent.kernel import cgroups, netns
from node_agent.model.objects import Subnet, SubnetSpec, Vpc, VpcSpec
from tests.lab import deployed
from tests.lab.cluster import ROOT, Lab
from tests.lab.deployed import put, rolled_out
from tests.lab.mizar import pod
from tests.waiting import until

pytestmark = pytest.mark.root

PATIENCE = 120.0
MIZAR = f"--namespace={NAMESPACE}"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> images.Built:
    return deployed.image(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def wanted(reference: images.Built) -> Wanted:
    return Wanted(
        stack="lab",
        image=reference.reference,
        underlay="198.18.0.0/24",
        pins="/sys/fs/bpf",
        vpc="default",
        subnet="default-a",
    )


@pytest.fixture(scope="module")
def lab(reference: images.Built, wanted: Wanted) -> Iterator[Lab]:
    """Two nodes with Mizar on them."""
    vpc = Vpc(name="default", spec=VpcSpec(cidr="10.20.0.0/16"))
    subnet = Subnet(name="default-a", spec=SubnetSpec(vpc="default", cidr="10.20.1.0/24"))
    with deployed.made(__name__, reference, lambda _: wanted, vpc, subnet) as made:
        yield made


def test_agents_and_controller_get_ready_and_make_their_nodes_so(lab: Lab) -> None:
    rolled_out(lab)
    lab.kubectl("wait", "--for=condition=Ready", *(f"node/{name}" for name in lab.nodes), "--timeout=60s", timeout=70)
    hosts = {each["metadata"]["name"]: each for each in lab.get("networkhosts")["items"]}
    assert {name: each["spec"]["address"] for name, each in hosts.items()} == {
        name: spec.address for name, spec in lab.nodes.items()
    }
    assert all(each["status"]["ready"] for each in hosts.values())
    for host in lab.nodes:
        assert (machines.disk(lab.places, host) / "etc-cni/net.d" / CONFLIST).exists()
        client.call(lab.places.host(host).socket, Request(verb="STATUS"))  # where tools of this computer ask


def test_an_agent_has_the_listed_capabilities_and_no_more(lab: Lab) -> None:
    rolled_out(lab)
    [pod, *_] = lab.get("pods", MIZAR, "-l", f"app.kubernetes.io/name={AGENT}")["items"]
    said = lab.kubectl(
        MIZAR,
        "exec",
        pod["metadata"]["name"],
        "--",
        "/usr/bin/python3",
        "-S",
        "-c",
        "print([line for line in open('/proc/1/status') if line.startswith('CapEff')])",
    )
    bits = int(said.split("\\t")[1].split("\\n")[0], 16)
    assert {number for number in range(64) if bits >> number & 1} == {12, 21}  # NET_ADMIN, SYS_ADMIN


@pytest.fixture
def pods(lab: Lab) -> Iterator[dict[str, str]]:
    """One pod per node that says nothing of VPCs: node -> address."""
    rolled_out(lab)
    wanted = {host: pod(f"probe-{host}", host) for host in lab.nodes}
    names = [f"probe-{host}" for host in wanted]
    lab.apply(*wanted.values())
    lab.kubectl("wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), "--timeout=60s", timeout=70)
    yield {host: lab.get("pod", f"probe-{host}")["status"]["podIP"] for host in wanted}
    lab.kubectl("delete", "pod", *names, "--wait=true", timeout=60)
    until(lambda: not lab.get("networkendpoints")["items"], PATIENCE, "every address free again")


def inside(lab: Lab, host: str) -> Path:
    """The network namespace of the node's one pod."""
    for pid in cgroups.processes(machines.cgroup(lab.places, host)):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == "tool":
                return Path(f"/proc/{pid}/ns/net")
    raise AssertionError(f"no pod of the test runs on {host}")


@contextlib.contextmanager
def pinged(lab: Lab, source: str, address: str) -> Iterator[list[int]]:
    """A hundred echoes a second while the block lasts; then how many were sent and answered."""
    result: list[int] = []
    with netns.enter(inside(lab, source)):
        ping = subprocess.Popen(["ping", "-n", "-i", "0.01", address], stdout=subprocess.PIPE, text=True)
    try:
        yield result
    finally:
        ping.send_signal(signal.SIGINT)
        said, _ = ping.communicate(timeout=20)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert found, said
    result += [int(found[1]), int(found[2])]


def test_pods_get_addresses_of_the_default_subnet_and_give_them_back(pods: dict[str, str]) -> None:
    assert len(set(pods.values())) == len(pods)
    assert all(address.startswith("10.20.1.") for address in pods.values())


def test_a_rollout_replaces_every_agent_and_loses_no_packet(lab: Lab, wanted: Wanted, pods: dict[str, str]) -> None:
    def agents() -> set[str]:
        found = lab.get("pods", MIZAR, "-l", f"app.kubernetes.io/name={AGENT}")["items"]
        return {each["metadata"]["uid"] for each in found}

    before = agents()
    source, target = pods
    with pinged(lab, source, pods[target]) as counted:
        put(lab, *manifests(replace(wanted, flow_entries=8192)))
        rolled_out(lab)
    assert not before & agents()
    sent, answered = counted
    assert sent > 100 and sent - answered <= 1, "the last echo may have been on its way"
    for host in lab.nodes:
        own = json.loads((lab.places.host(host).root / "agent.json").read_text())
        found = (own["host"], own["address"], own["uplink"], own["flow_entries"])
        assert found == (host, lab.nodes[host].address, "uplink0", 8192)


def test_the_image_is_the_same_whenever_it_is_built(reference: images.Built, tmp_path: Path) -> None:
    assert images.build(ROOT, tmp_path).reference == reference.reference
