"""The API server itself on the CRDs: what it takes, what it refuses and with which words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from infra.render.crds import crds
from node_agent.kernel import netns
from node_agent.model.errors import Invalid
from node_agent.model.objects import KINDS
from node_agent.model.resources import API_VERSION, GROUP, RESOURCES, from_resource
from node_agent.store.base import Store
from node_agent.store.kubernetes_http import Api
from tests.contract.apiserver import CRDS, ApiServer, run

pytestmark = pytest.mark.root

GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "Vpc": ("blue", {"cidr": "10.0.0.0/16"}),
    "Subnet": ("web", {"vpc": "blue", "cidr": "10.0.1.0/24"}),
    "NetworkEndpoint": (
        "1000-10.0.1.2",
        {"vpc": "blue", "subnet": "web", "address": "10.0.1.2", "host": "host-1", "containerId": "c"},
    ),
    "NetworkService": (
        "shop",
        {
            "vpc": "blue",
            "vip": "10.0.9.9",
            "ports": [{"protocol": "tcp", "port": 80, "targetPort": 8080}],
            "backends": [{"address": "10.0.1.2"}],
        },
    ),
    "NetworkHost": ("host-1.example.test", {"address": "198.18.0.11"}),
    "Watermark": ("vni", {}),
}


@pytest.fixture
def api(kubernetes: Store, api_server: ApiServer) -> Iterator[Api]:
    with api_server.api() as api:
        yield api


def create(api: Api, kind: str, name: str = "", **changes: Any) -> dict[str, Any]:
    usual, spec = GOOD[kind]
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name or usual}, "spec": {**spec, **changes}}
    return api.ask(f"create {kind}", "POST", f"/apis/{API_VERSION}/{RESOURCES[kind].plural}", body=body)


def test_every_crd_is_structural_and_established(api: Api) -> None:
    found = {each["metadata"]["name"]: each for each in api.ask("list", "GET", CRDS)["items"]}
    for crd in crds():
        conditions = {each["type"]: each["status"] for each in found[crd["metadata"]["name"]]["status"]["conditions"]}
        assert conditions["NamesAccepted"] == conditions["Established"] == "True"
        assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_object_is_taken_and_completed_with_the_models_defaults(api: Api, kind: str) -> None:
    made = create(api, kind)
    assert from_resource(KINDS[kind], made).spec == from_resource(KINDS[kind], {**made, "spec": GOOD[kind][1]}).spec
    if kind == "Vpc":
        assert made["spec"] == {"cidr": "10.0.0.0/16", "setSize": 3, "bouncers": 2}


WRONG = [
    ("Vpc", {"cidr": "10.0.0.1/16"}, r"spec\.cidr: 10\.0\.0\.1/16: must be an IPv4 prefix without host bits"),
    ("Vpc", {"cidr": "10.0.0.0/7"}, r"spec\.cidr: 10\.0\.0\.0/7: must be"),
    ("Vpc", {"cidr": "10.0.0.0/31"}, r"spec\.cidr: .* from /8 to /30"),
    ("Vpc", {"cidr": "fd00::/64"}, r"spec\.cidr: fd00::/64: must be an IPv4"),
    ("Vpc", {"cidr": "ten"}, r"spec\.cidr: ten: must be"),
    ("Vpc", {"cidr": "127.0.0.0/16"}, r"spec\.cidr: 127\.0\.0\.0/16: must not overlap .*loopback"),
    ("Vpc", {"cidr": "169.0.0.0/8"}, r"spec\.cidr: .* must not overlap .*link-local"),
    ("Vpc", {"setSize": 1}, r"spec\.setSize"),
    ("Vpc", {"bouncers": 4}, r"bouncers: must be at most setSize"),
    ("Vpc", {"name": "Blue"}, r"metadata\.name"),
    ("Vpc", {"name": "9-lives"}, r"create Vpc: a name is 1 to 40"),
    ("Vpc", {"name": "x" * 41}, r"create Vpc: a name is 1 to 40"),
    ("Subnet", {"cidr": "10.0.1.0/33"}, r"spec\.cidr"),
    ("Subnet", {"vpc": ""}, r"spec\.vpc"),
    ("NetworkEndpoint", {"address": "10.0.1.3"}, r"the name of an endpoint is <VNI>-<address>"),
    ("NetworkEndpoint", {"name": "x-10.0.1.2"}, r"the name of an endpoint is <VNI>-<address>"),
    ("NetworkEndpoint", {"address": "10.0.1.02"}, r"spec\.address: 10\.0\.1\.02: must be an IPv4 address"),
    ("NetworkEndpoint", {"interface": "a" * 16}, r"spec\.interface"),
    ("NetworkService", {"vip": "10.0.9"}, r"spec\.vip: 10\.0\.9: must be an IPv4 address"),
    ("NetworkService", {"affinity": "cookie"}, r"spec\.affinity"),
    ("NetworkService", {"ports": [{"protocol": "sctp", "port": 1, "targetPort": 1}]}, r"spec\.ports\[0\]\.protocol"),
    ("NetworkService", {"ports": [{"protocol": "tcp", "port": 0, "targetPort": 1}]}, r"spec\.ports\[0\]\.port"),
    ("NetworkService", {"ports": [{"protocol": "tcp", "port": 1, "targetPort": 1}] * 2}, r"spec\.ports\[1\]"),
    ("NetworkService", {"backends": [{"address": "x"}]}, r"spec\.backends\[0\]\.address: x: must be"),
    ("NetworkService", {"backends": [{"address": f"10.0.1.{n}"} for n in range(252)]}, r"spec\.backends"),
    ("NetworkHost", {"address": "host"}, r"spec\.address: host: must be"),
    ("NetworkHost", {"mtu": 1000}, r"spec\.mtu"),
    ("NetworkHost", {"drain": "yes"}, r"spec\.drain"),
]


@pytest.mark.parametrize(("kind", "changes", "said"), WRONG)
def test_a_wrong_object_is_refused_saying_what_is_wanted(
    api: Api, kind: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        create(api, kind, **changes)


def test_every_mistake_is_told_at_once(api: Api) -> None:
    with pytest.raises(Invalid) as caught:
        create(api, "Vpc", cidr="10.0.0.1/16", setSize=1)
    assert len(caught.value.mistakes) == 3  # two bouncers are too many for it as well


FIXED = [
    ("Vpc", "cidr", "10.1.0.0/16"),
    ("Subnet", "vpc", "red"),
    ("Subnet", "cidr", "10.0.2.0/24"),
    ("NetworkEndpoint", "vpc", "red"),
    ("NetworkEndpoint", "subnet", "db"),
    ("NetworkService", "vpc", "red"),
]
OPEN = [
    ("Vpc", "setSize", 5),
    ("NetworkEndpoint", "host", "host-2"),
    ("NetworkService", "vip", "10.0.9.8"),
    ("NetworkHost", "drain", True),
]


def change(api: Api, kind: str, field: str, value: object) -> dict[str, Any]:
    path = f"/apis/{API_VERSION}/{RESOURCES[kind].plural}/{GOOD[kind][0]}"
    return api.ask(f"change {kind}", "PATCH", path, body=[{"op": "replace", "path": f"/spec/{field}", "value": value}])


@pytest.mark.parametrize(("kind", "field", "value"), FIXED)
def test_what_makes_an_object_what_it_is_cannot_be_changed(api: Api, kind: str, field: str, value: object) -> None:
    create(api, kind)
    with pytest.raises(Invalid, match=rf"spec\.{field}: .* cannot be changed: delete and create"):
        change(api, kind, field, value)


@pytest.mark.parametrize(("kind", "field", "value"), OPEN)
def test_the_rest_can(api: Api, kind: str, field: str, value: object) -> None:
    create(api, kind)
    assert change(api, kind, field, value)["spec"][field] == value


def test_a_status_goes_by_its_own_subresource(api: Api) -> None:
    create(api, "Vpc")
    path = f"/apis/{API_VERSION}/vpcs/blue"
    patch = [{"op": "add", "path": "/status", "value": {"vni": 7}}, {"op": "add", "path": "/spec/setSize", "value": 9}]
    by_main = api.ask("patch", "PATCH", path, body=patch)
    assert "status" not in by_main
    assert by_main["spec"]["setSize"] == 9
    by_status = api.ask("patch", "PATCH", f"{path}/status", body=[patch[0]])
    assert by_status["status"] == {"vni": 7}


def test_unknown_fields_are_not_kept(api: Api) -> None:
    assert "colour" not in create(api, "Vpc", colour="blue")["spec"]


def test_no_name_is_taken_by_another_api(api: Api) -> None:
    paths = ["/api/v1"] + [
        f"/apis/{group['preferredVersion']['groupVersion']}" for group in api.ask("list", "GET", "/apis")["groups"]
    ]
    taken = {
        name
        for path in paths
        if GROUP not in path
        for each in api.ask("list", "GET", path)["resources"]
        for name in (each["name"], each["singularName"], *each.get("shortNames", ()))
    }
    ours = {
        name
        for crd in crds()
        for names in [crd["spec"]["names"]]
        for name in (names["plural"], names["singular"], *names.get("shortNames", ()))
    }
    assert "svc" in taken
    assert not ours & taken


def test_people_see_columns(api: Api, api_server: ApiServer) -> None:
    for kind in KINDS:
        create(api, kind)
    argv = [str(api_server.programs / "kubectl"), f"--kubeconfig={api_server.kubeconfig}", "get", "vpc,subnet,nep,nsvc"]
    with netns.enter(api_server.netns):
        told = run([*argv, "-o", "wide"], 30).stdout
    assert [line.split()[1:-1] for line in told.splitlines() if line.startswith("networkendpoint")] == [
        ["blue", "web", "10.0.1.2", "c"]
    ]
    assert [line.split()[:3] for line in told.splitlines() if line.startswith("subnet.")] == [
        ["subnet.mizar.com/web", "blue", "10.0.1.0/24"]
    ]
