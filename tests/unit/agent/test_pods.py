"""Which VPC and subnet a pod gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from node_agent.agent.pods import MIRRORED, KubernetesPods, NoPods, choose
from node_agent.model.errors import Invalid, NotFound, Temporary
from node_agent.model.objects import Subnet, SubnetSpec
from node_agent.model.wishes import ALLOWED, SUBNET, VPC, Wish
from node_agent.testing.store import FakeStore


class Api:
    """Knows the pod default/web, with this uid and these annotations, and its namespace."""

    def __init__(self, pod: Mapping[str, str], namespace: Mapping[str, str], uid: str = "u1") -> None:
        self.objects: dict[str, dict[str, Any]] = {
            "/api/v1/namespaces/default/pods/web": {"uid": uid, "annotations": dict(pod)},
            "/api/v1/namespaces/default": {"annotations": dict(namespace)} if namespace else {},
        }

    def ask(self, what: str, method: str, path: str) -> dict[str, Any]:
        assert method == "GET"
        if path not in self.objects:
            raise NotFound(f"{what}: not found")
        return {"metadata": self.objects[path]}


DEFAULT = Wish(whose="default of network net", vpc="red", subnet="red-a")


@pytest.fixture
def store() -> FakeStore:
    store = FakeStore()
    for name, vpc in (("red-a", "red"), ("red-b", "red"), ("blue-a", "blue")):
        store.create(Subnet(name=name, spec=SubnetSpec(vpc=vpc, cidr="10.0.0.0/24")))
    return store


def chosen(store: FakeStore, pod: Mapping[str, str], namespace: Mapping[str, str]) -> tuple[str, str, str]:
    pods = KubernetesPods(Api(pod, namespace))  # type: ignore[arg-type]
    found = choose([*pods.wishes("default", "web", "u1"), DEFAULT], store)
    return found.whose, found.vpc, found.subnet


@pytest.mark.parametrize(
    ("pod", "namespace", "expected"),
    [
        ({}, {}, ("default of network net", "red", "red-a")),
        ({"else": "x"}, {VPC: "blue"}, ("namespace default", "blue", "blue-a")),
        ({VPC: "red", SUBNET: "red-b"}, {VPC: "blue"}, ("pod default/web", "red", "red-b")),
        ({SUBNET: "red-b"}, {VPC: "blue", SUBNET: "blue-a"}, ("pod default/web", "red", "red-b")),
        ({VPC: "blue"}, {VPC: "red", SUBNET: "red-a"}, ("pod default/web", "blue", "blue-a")),
        # A wrong pair is for ADD to refuse, not for us to mend.
        ({VPC: "blue", SUBNET: "red-a"}, {}, ("pod default/web", "blue", "red-a")),
    ],
)
def test_the_nearest_that_names_anything_decides_both(
    store: FakeStore, pod: dict[str, str], namespace: dict[str, str], expected: tuple[str, str, str]
) -> None:
    assert chosen(store, pod, namespace) == expected


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        ({VPC: "red"}, "VPC 'red' has not one subnet but red-a, red-b"),
        ({VPC: "nowhere"}, "VPC 'nowhere' has not one subnet but none"),
        ({SUBNET: "nowhere"}, "there is no subnet 'nowhere'"),
    ],
)
def test_what_is_named_and_not_there_is_an_error_though_there_is_a_default(
    store: FakeStore, pod: dict[str, str], said: str
) -> None:
    with pytest.raises(Invalid) as caught:
        chosen(store, pod, {VPC: "blue"})
    assert said in str(caught.value) and "pod default/web" in str(caught.value)


def test_nothing_named_and_no_default_is_an_error_that_names_the_annotations(store: FakeStore) -> None:
    pods = KubernetesPods(Api({}, {}))  # type: ignore[arg-type]
    with pytest.raises(Invalid, match=VPC):
        choose([*pods.wishes("default", "web", "u1"), Wish(whose="default")], store)
    with pytest.raises(Invalid):
        choose(NoPods().wishes("default", "web", "u1"), store)


def test_a_pod_that_is_another_by_now_or_not_there_yet_is_to_be_asked_for_again() -> None:
    pods = KubernetesPods(Api({}, {}, uid="u2"))  # type: ignore[arg-type]
    assert pods.wishes("default", "web", "")
    for name, uid in (("web", "u1"), ("gone", "u2")):
        with pytest.raises(Temporary):
            pods.wishes("default", name, uid)


def test_a_static_pod_is_known_by_its_kubelets_uid() -> None:
    pods = KubernetesPods(Api({MIRRORED: "u1", VPC: "red"}, {}, uid="u2"))  # type: ignore[arg-type]
    assert pods.wishes("default", "web", "u1")[0].vpc == "red"


def test_what_the_runtime_says_of_the_pod_is_not_asked_for(store: FakeStore) -> None:
    pods = KubernetesPods(Api({VPC: "never"}, {VPC: "blue"}, uid="u2"))  # type: ignore[arg-type]
    found = pods.wishes("default", "unheard-of", "u1", {"else": "x"})
    assert [(each.whose, each.vpc) for each in found] == [("pod default/unheard-of", ""), ("namespace default", "blue")]


@pytest.mark.parametrize("pod", [{VPC: "blue"}, {SUBNET: "blue-a"}, {}])
def test_a_namespace_binds_its_pods_to_the_vpcs_it_lists(store: FakeStore, pod: dict[str, str]) -> None:
    for listed in ("red, blue", "blue"):
        assert chosen(store, pod, {VPC: "blue", ALLOWED: listed})[1] == "blue"
    for listed, names in (("red,other", "red, other"), ("", "none")):
        with pytest.raises(Invalid) as caught:
            chosen(store, pod, {VPC: "blue", ALLOWED: listed})
        said = f"VPC 'blue' is none that namespace default may use ({ALLOWED}: {names})"
        assert said in str(caught.value)


def test_a_namespace_binds_the_default_too_and_a_pod_allows_itself_nothing(store: FakeStore) -> None:
    with pytest.raises(Invalid, match="VPC 'red' is none that namespace default may use"):
        chosen(store, {}, {ALLOWED: "blue"})
    with pytest.raises(Invalid, match="VPC 'red' is none that namespace default may use"):
        chosen(store, {VPC: "red", SUBNET: "red-a", ALLOWED: "red"}, {ALLOWED: "blue"})


def test_what_is_likely_is_what_was_said_last_and_never_instead_of_asking() -> None:
    api = Api({}, {VPC: "blue"})
    pods = KubernetesPods(api)  # type: ignore[arg-type]
    assert pods.likely("default", "web", {}) is None
    said = pods.wishes("default", "web", "u1", {})
    assert pods.likely("default", "web", {}) == said
    assert pods.likely("default", "web", None) is None  # of the pod itself nothing is known
    api.objects["/api/v1/namespaces/default"] = {"annotations": {VPC: "red"}}
    assert pods.wishes("default", "web", "u1", {})[1].vpc == "red"
