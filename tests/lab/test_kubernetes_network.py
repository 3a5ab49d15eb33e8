"""Mizar as the network of a cluster: agents make nodes Ready, and pods get what they or their namespace ask for."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.providers import daemons
from node_agent.datapath.layout import DropReason
from node_agent.datapath.maps import HostMaps
from node_agent.emulation.cluster import machines
from node_agent.kernel import commands, links, netns
from tests.lab import mizar, traffic
from tests.lab.cluster import Lab
from tests.lab.frames import GATEWAY_MAC
from tests.lab.mizar import PATIENCE, addresses, pod, reaches, space
from tests.waiting import until

pytestmark = pytest.mark.root

BURST = 20  # pods per node
GATEWAY = "169.254.1.1"
TUNNEL = 4789


lab = mizar.fixture()


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


def test_an_unknown_vpc_is_a_clear_event_and_no_address(lab: Lab) -> None:
    lab.apply(pod("lost", next(iter(lab.nodes)), vpc="nowhere", subnet="front"))

    def told() -> bool:
        events = lab.get("events", "--field-selector=involvedObject.name=lost")["items"]
        return any("pod default/lost: vpc: there is no VPC 'nowhere'" in event["message"] for event in events)

    until(told, PATIENCE, "the event")
    assert not lab.get("networkendpoints")["items"]


def test_a_namespace_that_may_use_one_vpc_gets_no_pod_into_another(lab: Lab) -> None:
    one, two = lab.nodes
    lab.kubectl("annotate", "namespace", "default", "mizar.com/vpcs=red", "mizar.com/vpc=red")
    lab.apply(pod("astray", one, vpc="blue"), pod("home", two))
    lab.kubectl("wait", "--for=condition=Ready", "pod/home", "--timeout=60s", timeout=70)

    def told() -> bool:
        events = lab.get("events", "--field-selector=involvedObject.name=astray")["items"]
        return any("VPC 'blue' is none that namespace default may use" in event["message"] for event in events)

    until(told, PATIENCE, "the event")
    assert [item["spec"]["vpc"] for item in lab.get("networkendpoints")["items"]] == ["red"]


def test_a_pod_is_bounded_as_its_annotations_say(lab: Lab) -> None:
    one, two = lab.nodes
    bounded = pod("bounded", one)
    bounded["metadata"]["annotations"] = {
        "kubernetes.io/ingress-bandwidth": "8M",
        "kubernetes.io/egress-bandwidth": "4M",
    }
    lab.apply(bounded, pod("free", two))
    found = addresses(lab, "bounded", "free")
    own, other = space(lab, one, "bounded"), space(lab, two, "free")
    assert (queued(lab, one, own), queued(lab, two, other)) == ((True, True), (False, False))
    assert reaches(own, other, found["free"]) and reaches(other, own, found["bounded"])


def test_many_pods_at_once_get_an_address_each(lab: Lab) -> None:
    names = {f"many-{node}-{n}": node for node in lab.nodes for n in range(BURST)}
    lab.apply(*(pod(name, node) for name, node in names.items()))
    found = addresses(lab, *names)
    assert len(set(found.values())) == len(names)


def test_a_pod_that_ends_while_no_agent_is_there_leaves_no_address(lab: Lab) -> None:
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


def test_a_pod_that_may_change_its_interface_gains_no_other_address_and_no_tunnel_port(lab: Lab) -> None:
    one, two = lab.nodes
    mallory = pod("mallory", one)
    mallory["spec"]["containers"][0]["securityContext"] = {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}
    lab.apply(mallory, pod("anna", one), pod("bert", two))
    found = addresses(lab, "mallory", "anna", "bert")
    own, anna, bert = space(lab, one, "mallory"), space(lab, one, "anna"), space(lab, two, "bert")
    assert reaches(own, bert, found["bert"])

    def ip(*words: str) -> None:
        commands.run(["nsenter", f"--net={own}", "ip", *words], PATIENCE)

    for node in lab.nodes.values():
        assert rise(lab, one, lambda to=node.address: say(own, to, TUNNEL)) == {DropReason.UNKNOWN_DESTINATION: 1}
    ip("address", "add", f"{found['anna']}/32", "dev", "eth0")
    told = rise(lab, one, lambda: say(own, found["bert"], traffic.PORT, source=found["anna"]))
    assert told == {DropReason.SOURCE_ADDRESS: 1}
    with links.opened(anna) as there:
        mac = there.need("eth0").mac
    ip("link", "set", "eth0", "address", mac)
    ip("neighbour", "replace", GATEWAY, "lladdr", GATEWAY_MAC, "dev", "eth0")
    told = rise(lab, one, lambda: say(own, found["bert"], traffic.PORT))
    assert told and told.keys() <= {DropReason.SOURCE_MAC, DropReason.SOURCE_ARP}  # the kernel may ask by ARP as well
    assert not reaches(own, bert, found["bert"])
    assert reaches(anna, bert, found["bert"]) and reaches(bert, anna, found["anna"])
    ip("link", "delete", "eth0")
    assert reaches(anna, bert, found["bert"])
    lab.kubectl("delete", "pod", "mallory", "--timeout=60s", timeout=70)
    until(lambda: len(lab.get("networkendpoints")["items"]) == 2, PATIENCE, "its address to be free")


def queued(lab: Lab, node: str, where: Path) -> tuple[bool, bool]:
    """Whether what a pod receives, and what it sends, passes a queue."""
    with links.opened(where) as pod, links.opened(lab.places.netns_path(node)) as host:
        inside = pod.need("eth0")
        [outside] = [link for link in host.all() if (link.index, link.peer) == (inside.peer, inside.index)]
        return outside.queued, inside.queued


def say(where: Path, target: str, port: int, source: str = "0.0.0.0") -> None:
    """One datagram."""
    with netns.enter(where):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind((source, 0))
        sock.sendto(b"x", (target, port))


def rise(lab: Lab, host: str, act: Callable[[], None]) -> dict[DropReason, int]:
    """What the host drops of it, by reason, once it drops anything; but for IPv6, which pods' kernels send unasked."""
    with HostMaps(lab.places.host(host).maps) as maps:

        def drops() -> dict[tuple[int, DropReason], int]:
            return {key: many for key, many in maps.drops().items() if key[1] != DropReason.UNSUPPORTED_PROTOCOL}

        before = drops()
        act()
        until(lambda: drops() != before, PATIENCE, "a drop")
        now = drops()
    return {reason: more for (vni, reason), many in now.items() if (more := many - before.get((vni, reason), 0))}


def test_conflist_and_plugin_outlive_the_agent(lab: Lab) -> None:
    node = next(iter(lab.nodes))
    path = machines.disk(lab.places, node) / "etc-cni" / "net.d" / "10-mizar.conflist"
    assert json.loads(path.read_text())["plugins"][0]["type"] == "mizar"
