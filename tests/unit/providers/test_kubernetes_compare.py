from __future__ import annotations

from typing import Any

from tools.providers.kubernetes import checks, objects
from tools.providers.kubernetes.compare import another_object, changes, refused_changes, replacing
from tools.providers.kubernetes.differing import answer
from tools.providers.kubernetes.values import UNKNOWN, text_of

NONE: frozenset[str] = frozenset()


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": "here"}, "data": data}


def test_bookkeeping_of_the_server_is_no_change() -> None:
    old, new = config_map(a="1"), config_map(a="1")
    old["metadata"] |= {"resourceVersion": "7", "generation": 1, "managedFields": [{}]}
    new["metadata"] |= {"resourceVersion": "8", "generation": 2}
    assert changes(old | {"status": {"x": 1}}, new) == []


def test_every_leaf_is_named() -> None:
    old = {"a": {"b": 1, "gone": {"x": 1}}, "list": [{"n": 1}, {"n": 2}]}
    new = {"a": {"b": 2, "come.er": {"y": "z"}}, "list": [{"n": 1}, {"n": 3}]}
    found = {text_of(each.path): each.kind for each in changes(old, new)}
    assert found == {'a["come.er"].y': "added", "a.b": "changed", "a.gone.x": "removed", "list[1].n": "changed"}


def test_an_unknown_value_is_a_change() -> None:
    assert [each.path for each in changes(config_map(a="1"), config_map(a=UNKNOWN))] == [("data", "a")]


def test_another_name_or_group_is_another_object_and_another_version_is_not() -> None:
    old = config_map()
    assert another_object(old, config_map()) == []
    assert another_object(old, old | {"metadata": {"name": "two", "namespace": "here"}}) == [("metadata", "name")]
    deployment = {"apiVersion": "apps/v1beta1", "kind": "Deployment", "metadata": {"name": "web"}}
    assert another_object(deployment, deployment | {"apiVersion": "apps/v1"}) == []
    assert another_object(deployment, deployment | {"apiVersion": "extensions/v1"}) == [("apiVersion",)]


def test_data_of_a_config_map_needs_a_new_one_unless_it_may_change() -> None:
    found = changes(config_map(a="1"), config_map(a="2"))
    assert replacing("ConfigMap", found, NONE) == [("data", "a")]
    assert replacing("ConfigMap", found, frozenset({"ConfigMap"})) == []
    assert replacing("Deployment", found, NONE) == []


def test_only_refusals_to_change_ask_for_a_new_object() -> None:
    immutable = {"field": "spec.selector", "message": "Invalid value: ...: field is immutable"}
    wrong = {"field": "spec.replicas", "message": "Invalid value: -1: must be greater than or equal to 0"}
    assert refused_changes([immutable]) == ["spec.selector"]
    assert refused_changes([immutable, wrong]) is None
    assert refused_changes([]) is None


def test_a_given_name_is_free_before_it_is_used_again() -> None:
    old = config_map(a="1")
    auto = old | {"metadata": {**old["metadata"], "annotations": {objects.AUTONAMED: "true"}}}
    found = changes(old, config_map(a="2"))
    assert answer(found, [("data", "a")], old, config_map(a="2")).deleteBeforeReplace
    assert not answer(found, [("data", "a")], auto, auto).deleteBeforeReplace
    assert not answer(found, [], old, config_map(a="2")).deleteBeforeReplace


def test_drift_of_a_secret_shows_no_values() -> None:
    found = changes({"data": {"word": "b2xk"}, "type": "a"}, {"data": {"word": "bmV3"}, "type": "b"})
    told = checks.drift(found, [("data",)])
    assert told == ["data.word", "type is 'a', 'b' is wanted"]
