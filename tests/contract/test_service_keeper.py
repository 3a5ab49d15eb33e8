"""The keeper of services as the controller's account, over a real API server that may restart."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.render.access import CONTROLLER
from infra.render.manifests import controller_config
from node_agent.controller.log import Log
from node_agent.controller.loop import Controller
from node_agent.controller.service_keeper import PATIENCE as UNTOLD
from node_agent.controller.service_keeper import ServiceKeeper
from node_agent.model.config import load_controller
from node_agent.model.errors import MizarError
from node_agent.model.objects import (
    READY,
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkService,
    NetworkServiceSpec,
    ServiceBackend,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
)
from node_agent.model.users import guarded
from node_agent.store.base import Store
from node_agent.store.kubernetes_http import Api
from node_agent.store.kubernetes_services import Services
from node_agent.store.open import open_api, open_store
from tests.contract.accounts import LISTED, WANTED, administrator, ruled, url
from tests.contract.apiserver import ApiServer
from tests.waiting import until

pytestmark = pytest.mark.root

PATIENCE = 60.0
SERVICES, SLICES = "/api/v1/namespaces/default/services", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with ruled() as found:
        yield found


@pytest.fixture
def admin(server: ApiServer) -> Iterator[Store]:
    with administrator(server) as store:
        for vpc in ("blue", "red"):
            store.create(guarded(Vpc(name=vpc, spec=VpcSpec(cidr="10.0.0.0/16"))))
            store.create(guarded(Subnet(name=f"{vpc}-a", spec=SubnetSpec(vpc=vpc, cidr="10.0.1.0/24"))))
        yield store


class Kept:
    """A keeper with what the deployment's is given, and the API as an administrator has it."""

    def __init__(self, server: ApiServer, folder: Path, root: Api) -> None:
        self.root, self.said, self.url = root, io.StringIO(), url(server, folder, CONTROLLER)
        self.now, self._made = 0.0, list[str]()
        self.start()

    def start(self) -> None:
        api = open_api(self.url)
        assert api is not None
        source, self.store = Services(api), open_store(self.url)
        source.start()
        config = load_controller(controller_config(WANTED))
        self.keeper = ServiceKeeper(source, self.store, config, lambda: time.time() + self.now, Log(self.said))

    def stop(self) -> None:
        self.keeper.close()
        self.store.close()

    def make(self, path: str, body: dict[str, Any]) -> None:
        self.root.ask("make", "POST", path, body={**body, "metadata": {"namespace": "default", **body["metadata"]}})
        self._made.append(f"{path}/{body['metadata']['name']}")

    def service(self, name: str, **spec: Any) -> str:
        """Its cluster IP."""
        ports = [{"name": "http", "port": 80, "targetPort": 8080}]
        self.make(SERVICES, {"metadata": {"name": name}, "spec": {"ports": ports, **spec}})
        return str(self.root.ask("look", "GET", f"{SERVICES}/{name}")["spec"].get("clusterIP"))

    def pods(self, service: str, *endpoints: dict[str, Any]) -> None:
        body = {
            "metadata": {"name": f"{service}-1", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": list(endpoints),
        }
        self.make(SLICES, body)

    def clean(self) -> None:
        for path in self._made:
            with contextlib.suppress(MizarError):
                self.root.ask("clean", "DELETE", path)

    def until(self, true: Any, what: str) -> None:
        def look() -> bool:
            self.keeper.turn()
            return bool(true())

        until(look, PATIENCE, lambda: f"{what}: {self.said.getvalue()}")


@pytest.fixture
def kept(server: ApiServer, admin: Store, tmp_path: Path) -> Iterator[Kept]:
    with server.api() as root:
        found = Kept(server, tmp_path, root)
        yield found
        found.stop()
        found.clean()


def pod(address: str, name: str, ready: bool = True, **more: bool) -> dict[str, Any]:
    return {
        "addresses": [address],
        "conditions": {"ready": ready, **more},
        "targetRef": {"kind": "Pod", "namespace": "default", "name": name},
    }


def endpoint(vpc: str, address: str, name: str) -> NetworkEndpoint:
    spec = NetworkEndpointSpec(
        vpc=vpc, subnet=f"{vpc}-a", address=address, host="node-1", container_id=name, workload=f"default/{name}"
    )
    return guarded(NetworkEndpoint(name=f"{1 if vpc == 'blue' else 2}-{address}", spec=spec))


def specs(store: Store) -> dict[str, NetworkServiceSpec]:
    return {each.name: each.spec for each in store.list(NetworkService)}


def test_16_a_service_is_made_followed_and_removed_with_the_controllers_rights(admin: Store, kept: Kept) -> None:
    admin.create(endpoint("blue", "10.0.1.2", "one"))
    admin.create(endpoint("red", "10.0.1.2", "theirs"))
    own = admin.create(NetworkService(name="own", spec=NetworkServiceSpec(vpc="blue", vip="10.0.9.9")))
    vip = kept.service("web")
    kept.pods("web", pod("10.0.1.2", "one"), pod("10.0.1.2", "theirs"), pod("10.0.1.3", "two", ready=False))
    name = "default.web.blue"
    kept.until(lambda: name in specs(admin) and specs(admin)[name].backends, "the service")
    found = specs(admin)[name]
    assert (found.vip, found.vpc, found.source) == (vip, "blue", "default/web")
    assert found.backends == (ServiceBackend(address="10.0.1.2"),)
    kept.until(lambda: admin.get(NetworkService, name).status.conditions, "its condition")
    [condition] = admin.get(NetworkService, name).status.conditions
    assert (condition.type, condition.status, condition.reason) == (READY, "True", "Answers")

    patch = [{"op": "add", "path": "/metadata/annotations", "value": {"mizar.com/vpc": "red"}}]
    kept.root.ask("move", "PATCH", f"{SERVICES}/web", body=patch)
    kept.until(lambda: "default.web.red" in specs(admin) and name not in specs(admin), "it moved")
    kept.root.ask("delete", "DELETE", f"{SERVICES}/web")
    kept.until(lambda: "default.web.red" not in specs(admin), "it is gone")
    assert admin.get(NetworkService, "own") == own


def test_what_changed_while_no_controller_ran_is_made_up_for(admin: Store, kept: Kept) -> None:
    admin.create(endpoint("blue", "10.0.1.2", "one"))
    kept.service("stays")
    kept.pods("stays", pod("10.0.1.2", "one"))
    kept.service("goes")
    wanted = {"default.stays.blue", "default.goes.blue"}
    kept.until(lambda: wanted <= specs(admin).keys() and specs(admin)["default.stays.blue"].backends, "both")
    before = admin.get(NetworkService, "default.stays.blue")
    kept.stop()
    kept.root.ask("delete", "DELETE", f"{SERVICES}/goes")
    kept.service("comes")
    kept.start()
    kept.until(lambda: "default.comes.blue" in specs(admin) and "default.goes.blue" not in specs(admin), "the rest")
    assert admin.get(NetworkService, "default.stays.blue") == before, "not written again"


def test_it_goes_on_when_the_api_server_restarts(server: ApiServer, admin: Store, kept: Kept) -> None:
    kept.service("before")
    kept.until(lambda: "default.before.blue" in specs(admin), "the first")
    server.stop("kube-apiserver")
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        kept.keeper.turn()
    server.start()

    def made() -> bool:
        try:
            kept.service("after")
        except MizarError:
            return False
        return True

    until(made, PATIENCE, "a service")
    kept.until(lambda: "default.after.blue" in specs(admin), "the second")


def test_28_a_listed_service_is_in_every_vpc_and_keeps_none(admin: Store, kept: Kept) -> None:
    # The API server of this test is not where the deployment's is: this service stands in for its own.
    ports = [{"name": "https", "port": 443, "targetPort": LISTED.port}]
    kept.service("api", ports=ports)
    body = {
        "metadata": {"name": "api-1", "labels": {"kubernetes.io/service-name": "api"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": LISTED.port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [LISTED.address], "conditions": {"ready": True}}],
    }
    kept.make(SLICES, body)
    kept.until(lambda: {"default.api.blue", "default.api.red"} <= specs(admin).keys(), "both VPCs")
    assert specs(admin)["default.api.red"].backends == (ServiceBackend(address=LISTED.address, egress=True),)
    kept.until(lambda: {"default.kubernetes.blue"} <= specs(admin).keys(), "the one that is not listed here")
    assert "default.kubernetes.red" not in specs(admin)
    assert not specs(admin)["default.kubernetes.blue"].backends

    controller = Controller(load_controller(controller_config(WANTED)), kept.store, time.time, Log(kept.said))
    try:
        admin.create(guarded(Vpc(name="green", spec=VpcSpec(cidr="10.0.0.0/16"))))
        kept.until(lambda: "default.api.green" in specs(admin), "one that is made later")
        controller.turn()
        admin.delete(Vpc, "green")

        def gone() -> bool:
            controller.turn()
            return "green" not in {vpc.name for vpc in admin.list(Vpc)} and "default.api.green" not in specs(admin)

        kept.until(gone, "the VPC, which its services do not keep")
    finally:
        controller.close()


def test_why_a_service_is_not_made_is_among_its_events(kept: Kept) -> None:
    body = {
        "metadata": {"name": "lost", "annotations": {"mizar.com/vpc": "nowhere"}},
        "spec": {"ports": [{"port": 80}]},
    }
    kept.make(SERVICES, body)

    def told() -> bool:
        kept.now += UNTOLD
        events = kept.root.ask("look", "GET", "/api/v1/namespaces/default/events")["items"]
        return any(
            each["involvedObject"]["name"] == "lost" and "there is no VPC 'nowhere'" in each["message"]
            for each in events
        )

    kept.until(told, "the event")
