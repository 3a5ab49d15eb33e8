"""Mizar as the network of a cluster: agents make nodes Ready, and pods get what they or their namespace ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest

from infra.providers import daemons
from node_agent.emulation.cluster import machines
from tests.lab import mizar
from tests.lab.cluster import Lab
from tests.lab.mizar import PATIENCE, addresses, pod, reaches, space

pytestmark = pytest.mark.root

Until = Callable[..., float]
BURST = 20  # pods per node


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes whose network is Mizar; VPC blue with subnet front is what pods get by default."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with mizar.made(__name__) as made:
        yield made


@pytest.fixture(autouse=True)
def clean(lab: Lab) -> Iterator[None]:
    """Each test's pods go, and their addresses with them."""
    yield
    mizar.clean(lab)


def test_pods_on_two_nodes_reach_each_other_and_say_where_they_live(lab: Lab) -> None:
    one, two = lab.nodes
    lab.apply(pod("anna", one), pod("bert", two))
    found = addresses(lab, "anna", "bert")
    assert all(address.startswith("10.50.1.") for address in found.values())
    spaces = {"anna": space(lab, one, "anna"), "bert": space(lab, two, "bert")}
    assert reaches(spaces["anna"], spaces["bert"], found["bert"])
    assert reaches(spaces["bert"], spaces["anna"], found["anna"])
    told = {item["spec"]["workload"]: item for item in lab.get("networkendpoints")["items"]}
    assert {name: item["spec"]["address"] for name, item in told.items()} == {
        f"default/{name}": address for name, address in found.items()
    }
    assert {item["status"]["host"] for item in told.values()} == {one, two}
    assert {item["spec"]["network"] for item in told.values()} == {"mizar"}


def test_pods_go_where_they_or_their_namespace_are_annotated_to(lab: Lab) -> None:
    one, two = lab.nodes
    lab.kubectl("annotate", "namespace", "default", "mizar.com/vpc=red")
    lab.apply(pod("own", one, vpc="blue"), pod("inherits", two))
    addresses(lab, "own", "inherits")
    placed = {item["spec"]["workload"]: item["spec"]["vpc"] for item in lab.get("networkendpoints")["items"]}
    assert placed == {"default/own": "blue", "default/inherits": "red"}


def test_an_unknown_vpc_is_a_clear_event_and_no_address(lab: Lab, until: Until) -> None:
    lab.apply(pod("lost", next(iter(lab.nodes)), vpc="nowhere", subnet="front"))

    def told() -> bool:
        events = lab.get("events", "--field-selector=involvedObject.name=lost")["items"]
        return any("pod default/lost: vpc: there is no VPC 'nowhere'" in event["message"] for event in events)

    until(told, PATIENCE, "the event")
    assert not lab.get("networkendpoints")["items"]


def test_many_pods_at_once_get_an_address_each(lab: Lab) -> None:
    names = {f"many-{node}-{n}": node for node in lab.nodes for n in range(BURST)}
    lab.apply(*(pod(name, node) for name, node in names.items()))
    found = addresses(lab, *names)
    assert len(set(found.values())) == len(names)


def test_a_pod_that_ends_while_no_agent_is_there_leaves_no_address(lab: Lab, until: Until) -> None:
    node = next(iter(lab.nodes))
    lab.apply(pod("ends", node))
    addresses(lab, "ends")
    folder = lab.places.host(node).root
    text = daemons.config(folder, "agent")
    daemons.processes.stop(folder, "agent")
    lab.kubectl("delete", "pod", "ends", "--timeout=60s", timeout=70)
    assert lab.get("networkendpoints")["items"]
    daemons.start(folder, "agent", text, netns=lab.places.netns_path(node))
    until(lambda: not lab.get("networkendpoints")["items"], PATIENCE, "the late removal")


def test_conflist_and_plugin_outlive_the_agent(lab: Lab) -> None:
    node = next(iter(lab.nodes))
    path = machines.disk(lab.places, node) / "etc-cni" / "net.d" / "10-mizar.conflist"
    assert json.loads(path.read_text())["plugins"][0]["type"] == "mizar"
