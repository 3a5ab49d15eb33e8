"""What runtimes say becomes requests, and replies results; what waits is done once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from node_agent.agent.log import Log
from node_agent.agent.plugin import Plugin
from node_agent.agent.pods import NoPods
from node_agent.cni import protocol
from node_agent.cni.protocol import Reply, Request
from node_agent.cni.queue import Queue
from node_agent.model.bandwidth import Bandwidth, Rate
from node_agent.model.errors import Temporary
from node_agent.model.objects import NetworkEndpoint, NetworkEndpointSpec
from node_agent.model.places import veth_name
from node_agent.model.wishes import Wish
from node_agent.testing.store import FakeStore

T = TypeVar("T")

CONFIG: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net", "vpc": "red", "subnet": "red-a"}


class Host:
    """A plugin over an agent that answers everything with `reply`, and remembers what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[Request] = []
        self.reply = Reply(endpoint="7-10.0.0.9", address="10.0.0.9", mac="02:00:00:00:00:09", mtu=1450)
        self.store, self.queue = FakeStore(), Queue(folder)
        folder.mkdir()
        log = Log("h", io.StringIO(), lambda: 0.0)
        self.plugin = Plugin("h", self.store, NoPods(), self.queue, self._under, log)

    def _under(self, request: Request) -> Reply:
        self.asked.append(request)
        return self.reply

    def ask(self, verb: protocol.Verb, config: dict[str, Any] | None = None, **how: str) -> Reply:
        said = {"container_id": "c", "netns": "/proc/self/fd/9", "sandbox": "/run/netns/c", **how}
        return self.plugin.handle(Request(verb=verb, config=json.dumps(config or CONFIG), **said))

    def put_off(self, container: str) -> Path:
        path = self.queue.entry(container, "eth0")
        path.write_bytes(protocol.encode(Request(verb="DEL", container_id=container)))
        return path


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "deleted")


def test_what_is_no_cni_passes_unchanged(host: Host) -> None:
    request = Request(verb="ADD", container_id="c", vpc="v", subnet="s", netns="/x")
    assert host.plugin.handle(request) == host.reply
    assert host.asked == [request]


def test_add_asks_for_the_network_and_answers_with_a_result(host: Host) -> None:
    reply = host.ask("ADD", args="K8S_POD_NAMESPACE=default;K8S_POD_NAME=web")
    assert host.asked == [
        Request(
            verb="ADD", container_id="c", netns="/proc/self/fd/9", vpc="red", subnet="red-a", network="net",
            workload="default/web",
        )
    ]  # fmt: skip
    result = json.loads(reply.result)
    assert [each["name"] for each in result["interfaces"]] == [veth_name("c", "eth0"), "eth0"]
    assert result["interfaces"][1]["sandbox"] == "/run/netns/c"


def test_a_bounded_container_makes_a_bounded_endpoint(host: Host) -> None:
    config = {**CONFIG, "runtimeConfig": {"bandwidth": {"ingressRate": 8_000, "egressRate": 4_000, "egressBurst": 800}}}
    host.ask("ADD", config)
    assert [each.bandwidth for each in host.asked] == [Bandwidth(ingress=Rate(8_000), egress=Rate(4_000, 800))]


@pytest.mark.parametrize(
    ("where", "said"),
    [({"hostVpc": "blue"}, "as the hosts are in VPC 'blue' only"), ({}, "as the hosts are in no VPC")],
)
def test_a_port_of_the_host_is_only_for_the_vpc_of_the_hosts(host: Host, where: dict[str, str], said: str) -> None:
    ports = {"runtimeConfig": {"portMappings": [{"hostPort": 8080}]}}
    refused = host.ask("ADD", {**CONFIG, **ports, **where})
    assert refused.code == protocol.INVALID_CONFIG
    assert "hostPort: 8080" in refused.message and said in refused.message
    assert not host.asked
    assert host.ask("ADD", {**CONFIG, **ports, "hostVpc": "red"}).code == 0
    assert len(host.asked) == 1


def test_a_port_that_hosts_need_is_nobody_elses(host: Host) -> None:
    ports = [{"hostPort": port} for port in (8080, 10250, 443, 443)]
    config = {**CONFIG, "runtimeConfig": {"portMappings": ports}, "hostVpc": "blue", "reserved": [443, 10250]}
    assert host.ask("ADD", config).message.splitlines() == [
        "hostPort: 443, 8080, 10250: not for a pod of VPC 'red', as the hosts are in VPC 'blue' only",
        "hostPort: 443: hosts need it themselves",
        "hostPort: 10250: hosts need it themselves",
    ]
    assert not host.asked


def test_a_refused_add_says_whose_wish_it_was(host: Host) -> None:
    host.reply = Reply(code=protocol.INVALID_CONFIG, message="vpc: there is no VPC 'red'")
    reply = host.ask("ADD")
    assert (reply.code, reply.result) == (protocol.INVALID_CONFIG, "")
    assert reply.message == "default of network net: vpc: there is no VPC 'red'"


def test_add_without_a_namespace_or_of_another_version_asks_nobody(host: Host) -> None:
    assert host.ask("ADD", netns="").code == protocol.INVALID_CONFIG
    assert host.ask("ADD", {**CONFIG, "cniVersion": "0.4.0"}).code == protocol.OTHER_VERSION
    assert not host.asked


def test_check_compares_with_the_result_the_runtime_kept(host: Host) -> None:
    kept = json.loads(host.ask("ADD").result)
    assert host.ask("CHECK", {**CONFIG, "prevResult": kept}).code == 0
    kept["ips"][0]["address"] = "10.0.0.8/32"
    assert host.ask("CHECK", {**CONFIG, "prevResult": kept}).code == protocol.FAILED
    assert host.ask("CHECK").code == protocol.INVALID_CONFIG


@pytest.mark.parametrize(
    ("code", "told"),
    [(0, 0), (protocol.TRY_AGAIN, protocol.NOT_AVAILABLE), (protocol.LIMITED, protocol.LIMITED)],
)
def test_status_of_an_agent_that_is_about_to_serve_is_not_available(host: Host, code: int, told: int) -> None:
    host.reply = Reply(code=code)
    assert host.ask("STATUS").code == told


def test_gc_removes_those_of_this_host_and_network_that_are_not_valid(host: Host) -> None:
    for number, (of, container, network) in enumerate(
        (
            ("h", "kept", "net"),
            ("h", "stale", "net"),
            ("h", "others", "other"),
            ("h", "program", ""),
            ("g", "far", "net"),
        )
    ):
        where = {"vpc": "red", "subnet": "red-a", "address": f"10.0.0.{number}", "host": of}
        spec = NetworkEndpointSpec(**where, container_id=container, network=network)
        host.store.create(NetworkEndpoint(name=f"7-10.0.0.{number}", spec=spec))
    assert host.ask("GC").code == 0 and not host.asked
    valid = [{"containerID": "kept", "ifname": "eth0"}]
    host.reply = Reply()
    assert host.ask("GC", {**CONFIG, "cni.dev/valid-attachments": valid}).code == 0
    assert [(asked.verb, asked.container_id) for asked in host.asked] == [("DEL", "stale")]
    host.reply = Reply(code=protocol.TRY_AGAIN, message="later")
    assert host.ask("GC", {**CONFIG, "cni.dev/valid-attachments": valid}) == host.reply


def test_removals_that_wait_are_done_once(host: Host) -> None:
    for name in ("a", "b"):
        host.put_off(name)
    host.reply = Reply(code=protocol.TRY_AGAIN, message="starting")
    assert host.plugin.settle() == "starting"
    assert len(host.asked) == 1 and len(host.queue.waiting()) == 2
    host.reply = Reply()
    assert host.plugin.settle() == "" and not host.queue.waiting()
    assert sorted(asked.container_id for asked in host.asked[1:]) == ["a", "b"]


def test_a_removal_that_cannot_be_done_does_not_hold_up_the_next(host: Host) -> None:
    for name in ("a", "b"):
        host.put_off(name)
    host.reply = Reply(code=protocol.FAILED, message="broken")
    assert host.plugin.settle() == "broken"
    assert len(host.asked) == 2


def test_add_first_does_the_removal_that_waits_for_the_same_attachment(host: Host) -> None:
    path = host.put_off("c")
    other = host.put_off("d")
    assert host.ask("ADD").code == 0
    assert [asked.verb for asked in host.asked] == ["DEL", "ADD"]
    assert not path.exists() and other.exists()
    host.put_off("c")
    host.reply = Reply(code=protocol.FAILED, message="broken")
    assert host.ask("ADD").code == protocol.TRY_AGAIN
    assert [asked.verb for asked in host.asked] == ["DEL", "ADD", "DEL"]


class KnownPods:
    """Pods of a namespace that was once `before` and is `now`."""

    def __init__(self, before: Wish, now: Wish | Temporary) -> None:
        self.before, self.now = before, now

    def wishes(self, namespace: str, name: str, uid: str, annotations: Any = None) -> Sequence[Wish]:
        if isinstance(self.now, Temporary):
            raise self.now
        return (self.now,)

    def likely(self, namespace: str, name: str, annotations: Any) -> Sequence[Wish]:
        return (self.before,)


RED, BLUE = (Wish(whose="namespace default", vpc=vpc, subnet=f"{vpc}-a") for vpc in ("red", "blue"))
POD = {"args": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"}


def knowing(folder: Path, before: Wish, now: Wish | Temporary) -> Host:
    host = Host(folder / "deleted")
    log = Log("h", io.StringIO(), lambda: 0.0)
    host.plugin = Plugin("h", host.store, KnownPods(before, now), host.queue, host._under, log, beside=when_asked)
    return host


def when_asked(work: Callable[[], T]) -> Callable[[], T]:
    """The answer comes when it is waited for."""
    return work


def test_what_was_true_a_moment_ago_and_still_is_makes_the_endpoint_once(tmp_path: Path) -> None:
    host = knowing(tmp_path, RED, RED)
    assert host.ask("ADD", **POD).result
    assert [(each.verb, each.vpc) for each in host.asked] == [("ADD", "red")]


def test_what_is_no_longer_true_leaves_nothing_and_what_is_true_counts(tmp_path: Path) -> None:
    host = knowing(tmp_path, RED, BLUE)
    assert host.ask("ADD", **POD).result
    assert [(each.verb, each.vpc) for each in host.asked] == [("ADD", "red"), ("DEL", ""), ("ADD", "blue")]
    assert {each.container_id for each in host.asked} == {"c"}


def test_without_an_answer_nothing_is_left_and_the_runtime_is_to_try_again(tmp_path: Path) -> None:
    host = knowing(tmp_path, RED, Temporary("find namespace default: nobody answers"))
    reply = host.ask("ADD", **POD)
    assert (reply.code, reply.result) == (protocol.TRY_AGAIN, "")
    assert [each.verb for each in host.asked] == ["ADD", "DEL"]
