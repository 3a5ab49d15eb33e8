"""Services of a cluster without kube-proxy: the controller makes them services of VPCs. Numbers in names:
docs/upstream-cases.md."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.providers import daemons
from node_agent.kernel import commands
from node_agent.model.config import Listed
from node_agent.model.objects import Vpc, VpcSpec
from node_agent.model.resources import to_resource
from tests.lab import mizar, traffic
from tests.lab.cluster import Lab
from tests.lab.mizar import pod, space
from tests.lab.server import NAME_BYTES, Server
from tests.waiting import until

pytestmark = pytest.mark.root

PATIENCE = 60.0  # seconds; a bound for a loaded machine, nothing is measured by it
TCP, UDP, TARGET = 80, 53, 8080
ROUNDS = 24  # connections, each a flow of its own: none of two backends is missed by chance
GATE = "test/open"
BLUE, RED = ("blue-0", "blue-1"), ("red-0", "red-1")
SUBNETS = {"blue": "front", "red": "red-a"}
LISTED = (Listed(address="198.18.0.10", port=443, protocol="tcp"),)
GRACE = 600  # seconds that a pod takes to end, unless it is forced: longer than any test


lab = mizar.fixture(listed=LISTED)


class Shop:
    """Pods that serve, services of both VPCs over all of them, and clients in both."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.servers, self.spaces = lab, dict[str, Server](), dict[str, Path]()
        self.vips: dict[str, str] = {}

    def add(self, *names: str, gated: bool = False) -> None:
        """Pods `<vpc>-<number>`, which serve, on the first and second node in turn, and `<vpc>-client`. Those that are
        `gated` are not Ready before they are opened."""
        hosts, made = {}, []
        for number, name in enumerate(names):
            vpc, _, role = name.partition("-")
            hosts[name] = list(self.lab.nodes)[number % 2]
            one = pod(name, hosts[name], vpc=vpc, subnet=SUBNETS[vpc])
            one["metadata"]["labels"] = {"app": "client" if role == "client" else "shop"}
            one["spec"]["terminationGracePeriodSeconds"] = GRACE
            one["spec"]["containers"][0]["ports"] = [{"name": "dgram", "containerPort": TARGET, "protocol": "UDP"}]
            if gated:
                one["spec"]["readinessGates"] = [{"conditionType": GATE}]
            made.append(one)
        self.lab.apply(*made)
        wanted = "ContainersReady" if gated else "Ready"
        pods = [f"pod/{name}" for name in names]
        self.lab.kubectl("wait", f"--for=condition={wanted}", *pods, "--timeout=60s", timeout=70)
        for name, host in hosts.items():
            self.spaces[name] = space(self.lab, host, name)
            if not name.endswith("-client"):
                self.servers[name] = Server(self.spaces[name], TARGET, name)

    def serve(self, name: str, vpc: str) -> None:
        self.lab.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "annotations": {"mizar.com/vpc": vpc}},
                "spec": {
                    "selector": {"app": "shop"},
                    "ports": [
                        {"name": "http", "port": TCP, "targetPort": TARGET, "protocol": "TCP"},
                        {"name": "dgram", "port": UDP, "targetPort": "dgram", "protocol": "UDP"},
                    ],
                },
            }
        )
        self.vips[name] = self.lab.get("service", name)["spec"]["clusterIP"]

    def open(self, name: str) -> None:
        """The gate of a pod: it is Ready now."""
        patch = {"status": {"conditions": [{"type": GATE, "status": "True"}]}}
        self.lab.kubectl("patch", "pod", name, "--subresource=status", "--type=strategic", "-p", json.dumps(patch))

    def remove(self, name: str, *, wait: bool = False) -> None:
        how = ["--grace-period=0", "--force", "--timeout=60s"] if wait else ["--wait=false"]
        self.lab.kubectl("delete", "pod", name, *how, timeout=70)

    def states(self, service: str, vpc: str) -> dict[str, str]:
        """Of the backends of the NetworkService, by address."""
        try:
            found = self.lab.get("networkservice", f"default.{service}.{vpc}")
        except commands.CommandError:
            return {}
        return {each["address"]: each["state"] for each in found["spec"].get("backends", ())}

    def dial(self, client: str, service: str) -> tuple[socket.socket, str]:
        """A connection, and who answered. Raises OSError."""
        with contextlib.ExitStack() as undo:
            sock = undo.enter_context(traffic.connect(self.spaces[client], self.vips[service], TCP))
            name = sock.recv(NAME_BYTES, socket.MSG_WAITALL).decode().strip()
            undo.pop_all()
        return sock, name

    def who(self, client: str, service: str) -> set[str]:
        """Who answers connections, over many. Raises OSError."""
        found = set()
        for _ in range(ROUNDS):
            sock, name = self.dial(client, service)
            sock.close()
            found.add(name)
        return found

    def who_by_datagram(self, client: str, service: str) -> set[str]:
        found = set()
        for _ in range(ROUNDS):
            with traffic.udp_socket(self.spaces[client]) as sock:
                sock.sendto(b"who", (self.vips[service], UDP))
                found.add(sock.recv(64).decode())
        return found

    def answers(self, client: str, service: str, *names: str) -> Callable[[], bool]:
        """Whether exactly these answer now, for `until`."""

        def look() -> bool:
            try:
                return self.who(client, service) == self.who_by_datagram(client, service) == set(names)
            except OSError:
                return False

        return look


@pytest.fixture(scope="module")
def shop(lab: Lab) -> Iterator[Shop]:
    """Two pods and a client in each VPC; the services `sky` (blue) and `ruby` (red) select all of the pods. A test that
    needs more, or needs to harm some, makes its own."""
    made = Shop(lab)
    try:
        made.add(*BLUE, *RED, "blue-client", "red-client")
        made.serve("sky", "blue")
        made.serve("ruby", "red")
        yield made
    finally:
        for server in made.servers.values():
            server.close()


def test_17_22_clients_of_two_vpcs_with_equal_addresses_reach_their_own_backends_only(lab: Lab, shop: Shop) -> None:
    until(shop.answers("blue-client", "sky", *BLUE), PATIENCE, "blue's own answer")
    until(shop.answers("red-client", "ruby", *RED), PATIENCE, "red's own answer")
    held = {
        vpc: {each["spec"]["address"] for each in lab.get("networkendpoints")["items"] if each["spec"]["vpc"] == vpc}
        for vpc in ("blue", "red")
    }
    assert held["blue"] & held["red"], "there are equal addresses"
    for client, service in (("blue-client", "ruby"), ("red-client", "sky")):
        with pytest.raises(OSError):
            shop.dial(client, service)
    found = {each["metadata"]["name"]: each for each in lab.get("networkservices")["items"]}
    assert {"default.sky.blue", "default.ruby.red"} <= found.keys()
    for name in ("default.sky.blue", "default.ruby.red"):
        [condition] = found[name]["status"]["conditions"]
        assert (condition["type"], condition["status"]) == ("Ready", "True")
        assert "no endpoint of VPC" in condition["message"], "the pods of the other VPC"


def test_a_terminating_pod_keeps_its_connections_and_gets_no_new_ones(shop: Shop) -> None:
    shop.add("blue-2")
    until(shop.answers("blue-client", "sky", *BLUE, "blue-2"), PATIENCE, "all three answer")
    with contextlib.ExitStack() as stack:
        held = {}
        while held.keys() != {*BLUE, "blue-2"}:
            sock, name = shop.dial("blue-client", "sky")
            held[name] = stack.enter_context(sock)
        shop.remove("blue-2")
        until(lambda: "terminating" in shop.states("sky", "blue").values(), PATIENCE, "it is known to end")
        until(lambda: shop.who("blue-client", "sky") == set(BLUE), PATIENCE, "the others have all that is new")
        assert shop.who_by_datagram("blue-client", "sky") == set(BLUE)
        for sock in held.values():
            sock.sendall(b"word")
            assert sock.recv(4, socket.MSG_WAITALL) == b"word"
        assert "terminating" in shop.states("sky", "blue").values(), "it was there all the time"
    shop.remove("blue-2", wait=True)


def test_backends_come_and_go_and_one_that_is_not_ready_gets_nothing(shop: Shop) -> None:
    until(shop.answers("blue-client", "sky", *BLUE), PATIENCE, "both answer")
    shop.add("blue-3", gated=True)
    until(lambda: "serving" in shop.states("sky", "blue").values(), PATIENCE, "the new one is known")
    assert shop.who("blue-client", "sky") == shop.who_by_datagram("blue-client", "sky") == set(BLUE)
    shop.open("blue-3")
    until(shop.answers("blue-client", "sky", *BLUE, "blue-3"), PATIENCE, "all three answer")
    shop.remove("blue-3", wait=True)
    until(shop.answers("blue-client", "sky", *BLUE), PATIENCE, "the two that are left answer")


def test_services_go_on_without_the_controller_and_what_was_missed_is_made_up_for(lab: Lab, shop: Shop) -> None:
    shop.add("red-4")
    shop.serve("jade", "red")
    until(shop.answers("red-client", "jade", *RED, "red-4"), PATIENCE, "all three answer")
    daemons.processes.stop(lab.places.controller, "controller")
    try:
        assert shop.who("red-client", "ruby") == shop.who_by_datagram("red-client", "ruby") == {*RED, "red-4"}
        shop.remove("red-4", wait=True)
        lab.kubectl("delete", "service", "jade")
        assert "default.jade.red" in lab.kubectl("get", "networkservices")
    finally:
        mizar.start_controller(lab, f"kubernetes:{lab.places.root / 'admin.kubeconfig'}", LISTED)
    until(shop.answers("red-client", "ruby", *RED), PATIENCE, "those that are left answer")
    until(lambda: "default.jade.red" not in lab.kubectl("get", "networkservices"), PATIENCE, "the stale one goes")


def test_31_a_deleted_service_is_gone_everywhere(lab: Lab, shop: Shop) -> None:
    shop.serve("opal", "red")
    until(shop.answers("red-client", "opal", *RED), PATIENCE, "both answer")
    lab.kubectl("delete", "service", "opal")
    until(lambda: "default.opal.red" not in lab.kubectl("get", "networkservices"), PATIENCE, "the object goes")

    def silent() -> bool:
        try:
            shop.dial("red-client", "opal")[0].close()
        except OSError:
            return True
        return False

    until(silent, PATIENCE, "nobody answers for its address")


def test_28_the_api_server_has_its_address_in_every_vpc(lab: Lab, shop: Shop) -> None:
    def found() -> dict[str, Any]:
        items = lab.get("networkservices")["items"]
        return {each["spec"]["vpc"]: each["spec"] for each in items if each["spec"]["source"] == "default/kubernetes"}

    until(lambda: found().keys() == {"blue", "red"}, PATIENCE, "one in each")
    for spec in found().values():
        assert spec["vip"] == "10.96.0.1"
        [backend] = spec["backends"]
        assert (backend["address"], backend["egress"]) == (lab.cluster.address, True)

    def reached(client: str) -> bool:
        try:
            traffic.connect(shop.spaces[client], spec["vip"], lab.cluster.port).close()
        except OSError:
            return False
        return True

    for client in ("blue-client", "red-client"):
        until(lambda client=client: reached(client), PATIENCE, f"the API server, of {client}")
    green = Vpc(name="green", spec=VpcSpec(cidr="10.50.0.0/16", set_size=2))
    lab.apply(to_resource(green))
    until(lambda: "green" in found(), PATIENCE, "in the new one too")
    lab.kubectl("delete", "vpc", "green", "--timeout=30s", timeout=40)
    until(lambda: "green" not in found(), PATIENCE, "it goes with its VPC")


def test_addresses_by_hand_that_are_no_endpoints_are_told(lab: Lab) -> None:
    name = "elsewhere"
    lab.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["192.0.2.7"]}],
        },
    )

    def told() -> bool:
        events = lab.get("events", f"--field-selector=involvedObject.name={name}")["items"]
        return any("no endpoint of VPC blue, so no backend: 192.0.2.7" in each["message"] for each in events)

    try:
        until(told, PATIENCE, "the event")
        found = lab.get("networkservice", f"default.{name}.blue")
        assert "backends" not in found["spec"] or not found["spec"]["backends"]
        assert found["status"]["conditions"][0]["reason"] == "NoBackends"
    finally:
        lab.kubectl("delete", "service", name)
        lab.kubectl("delete", "endpointslice", f"{name}-1", "--ignore-not-found")
