"""What went wrong in the field with the Kubernetes integrations before this one, and must not here. Numbers in names:
docs/upstream-cases.md, which also names the tests of the other cases."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.providers import daemons
from infra.render.policies import policies
from node_agent.emulation.cluster import machines
from node_agent.kernel import cgroups
from node_agent.kernel.commands import CommandError
from node_agent.model.objects import Subnet, SubnetSpec
from node_agent.model.resources import to_resource
from node_agent.model.users import guarded
from tests.lab import cluster, mizar
from tests.lab.cluster import CONTROL, Lab
from tests.lab.mizar import PATIENCE, addresses, pod, reaches, space
from tests.waiting import until

pytestmark = pytest.mark.root

JOINED = "worker-9"


lab = mizar.fixture(control_node=True)  # the control plane's host is a third node


@pytest.fixture(autouse=True)
def clean(lab: Lab) -> Iterator[None]:
    yield
    mizar.clean(lab)


def endpoints(lab: Lab) -> dict[str, dict[str, Any]]:
    """Pod -> the specification of its endpoint."""
    return {item["spec"]["workload"]: item["spec"] for item in lab.get("networkendpoints")["items"]}


def ready(lab: Lab, node: str) -> bool:
    conditions = lab.get("node", node)["status"]["conditions"]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def sandboxes(lab: Lab, node: str) -> list[int]:
    """Pids of the processes that hold pods' namespaces on a node."""
    found = []
    for pid in cgroups.processes(machines.cgroup(lab.places, node)):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"pause"):
            found.append(pid)
    return found


def test_1_15_29_a_joined_node_gets_ready_with_its_network_and_then_runs_the_pods_that_waited(lab: Lab) -> None:
    cluster.join(lab, JOINED, "198.18.0.29")
    until(lambda: JOINED in {each["metadata"]["name"] for each in lab.get("nodes")["items"]}, PATIENCE, "the node")
    names = [f"early-{number}" for number in range(10)]
    lab.apply(*(pod(name, JOINED) for name in names), pod("elsewhere", "worker-1"))
    lab.kubectl("wait", "--for=condition=Ready", "pod/elsewhere", "--timeout=60s", timeout=70)
    assert not ready(lab, JOINED)
    mizar.start_agent(lab, JOINED, f"kubernetes:{lab.places.root}/admin.kubeconfig")
    lab.kubectl("wait", "--for=condition=Ready", f"node/{JOINED}", "--timeout=60s", timeout=70)
    found = addresses(lab, *names, "elsewhere")
    assert len(set(found.values())) == 11
    here, there = space(lab, JOINED, "early-0"), space(lab, "worker-1", "elsewhere")
    assert reaches(here, there, found["elsewhere"]) and reaches(there, here, found["early-0"])


def test_3_11_12_annotations_decide_and_pods_without_any_are_not_held_up_by_a_second_vpc(lab: Lab) -> None:
    lab.apply(
        pod("of-red", "worker-1", vpc="red"),
        pod("of-red-a", "worker-2", vpc="red", subnet="red-a"),
        pod("plain", "worker-1"),
        pod("plain-too", "worker-2"),
    )
    addresses(lab, "of-red", "of-red-a", "plain", "plain-too")
    assert {name: spec["subnet"] for name, spec in endpoints(lab).items()} == {
        "default/of-red": "red-a",
        "default/of-red-a": "red-a",
        "default/plain": "front",
        "default/plain-too": "front",
    }


def test_4_a_namespace_may_live_in_a_vpc_that_another_uses_too(lab: Lab) -> None:
    lab.kubectl("create", "namespace", "tenant-a")
    lab.kubectl("annotate", "namespace", "tenant-a", "mizar.com/vpc=red")
    try:
        lab.apply({**pod("guest", "worker-1"), "metadata": {"name": "guest", "namespace": "tenant-a"}})
        lab.kubectl("-n", "tenant-a", "wait", "--for=condition=Ready", "pod/guest", "--timeout=60s", timeout=70)
        assert endpoints(lab)["tenant-a/guest"]["vpc"] == "red"
    finally:
        lab.kubectl("delete", "namespace", "tenant-a", "--timeout=60s", timeout=70)


def test_13_a_subnet_in_use_is_not_deleted_and_an_unused_one_goes_at_once(lab: Lab) -> None:
    lab.apply(*policies())
    lab.apply(to_resource(guarded(Subnet(name="by-hand", spec=SubnetSpec(vpc="blue", cidr="10.50.7.0/24")))))
    lab.apply(pod("inside", "worker-1", subnet="by-hand"))
    addresses(lab, "inside")

    def refused() -> bool:
        with pytest.raises(CommandError) as told:
            lab.kubectl("delete", "subnet.mizar.com", "by-hand", "--timeout=2s")
        return "used by NetworkEndpoint" in str(told.value)

    until(refused, PATIENCE, "the refusal that names the user")
    assert not lab.get("subnet.mizar.com", "by-hand")["metadata"].get("deletionTimestamp")
    lab.kubectl("delete", "pod", "inside", "--timeout=60s", timeout=70)
    until(lambda: "InUse" not in str(lab.get("subnet.mizar.com", "by-hand")["status"]), PATIENCE, "nobody's subnet")
    lab.kubectl("delete", "subnet.mizar.com", "by-hand", "--timeout=30s", timeout=40)


def test_21_a_pod_that_starts_over_again_and_again_holds_one_address(lab: Lab) -> None:
    lab.apply(pod("restless", "worker-2"))
    addresses(lab, "restless")
    for _ in range(3):
        before = endpoints(lab)["default/restless"]["containerId"]
        for pid in sandboxes(lab, "worker-2"):
            os.kill(pid, signal.SIGKILL)

        def anew(old: str = before) -> bool:
            return endpoints(lab).get("default/restless", {}).get("containerId", old) != old

        until(anew, PATIENCE, "another sandbox")
        until(lambda: len(endpoints(lab)) == 1, PATIENCE, "the old address back")
    lab.kubectl("wait", "--for=condition=Ready", "pod/restless", "--timeout=60s", timeout=70)


def test_23_pods_come_and_go_while_no_controller_runs(lab: Lab) -> None:
    text = daemons.config(lab.places.controller, "controller")
    daemons.processes.stop(lab.places.controller, "controller")
    try:
        lab.apply(pod("one", "worker-1"), pod("two", "worker-2"))
        found = addresses(lab, "one", "two")
        assert reaches(space(lab, "worker-1", "one"), space(lab, "worker-2", "two"), found["two"])
        lab.kubectl("delete", "pods", "--all", "--timeout=60s", timeout=70)
        until(lambda: not endpoints(lab), PATIENCE, "their addresses back")
    finally:
        daemons.start(lab.places.controller, "controller", text, netns=lab.places.netns_path(CONTROL))


def test_24_the_control_planes_host_is_programmed_as_every_other(lab: Lab) -> None:
    hosts = {each["metadata"]["name"]: each["status"] for each in lab.get("networkhosts")["items"]}
    assert {CONTROL, "worker-1", "worker-2"} <= set(hosts)
    assert all(status["ready"] and status["programs"] for status in hosts.values())
    system = pod("system", CONTROL)
    system["spec"]["tolerations"] = [{"operator": "Exists"}]
    lab.apply(system, pod("plain", "worker-1"))
    found = addresses(lab, "system", "plain")
    here, there = space(lab, CONTROL, "system"), space(lab, "worker-1", "plain")
    assert reaches(here, there, found["plain"]) and reaches(there, here, found["system"])


def test_30_a_pod_of_the_same_name_may_follow_at_once(lab: Lab) -> None:
    for _ in range(4):
        lab.apply(pod("same", "worker-1"))
        addresses(lab, "same")
        lab.kubectl("delete", "pod", "same", "--timeout=60s", timeout=70)
