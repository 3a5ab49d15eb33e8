from __future__ import annotations

from google.protobuf.struct_pb2 import Struct

from tools.providers.kubernetes import objects
from tools.providers.kubernetes.values import UNKNOWN, has_unknown, path_of, text_of, unwrap, wrap


def test_secrets_survive_the_wire_both_ways() -> None:
    data = {"a": {"b": ["x", {"c": 3}]}, "d": True}
    struct = wrap(data, [("a", "b", 1, "c"), ("nowhere",)])
    assert "1b47061264138c4ac30d75fd1eb44270" in str(struct)
    assert unwrap(struct) == (data, frozenset({("a", "b", 1, "c")}))


def test_numbers_are_whole_and_nulls_are_nothing() -> None:
    struct = Struct()
    struct.update({"replicas": 2, "share": 0.5, "nothing": None})
    assert unwrap(struct)[0] == {"replicas": 2, "share": 0.5}
    assert isinstance(unwrap(struct)[0]["replicas"], int)


def test_paths_are_read_as_they_are_written() -> None:
    for path in (("spec", "ports", 0, "name"), ("metadata", "annotations", "a.b/c"), ("data", 'q"uote')):
        assert path_of(text_of(path)) == path
    assert text_of(("metadata", "labels", "a.b/c")) == 'metadata.labels["a.b/c"]'


def test_a_name_is_made_once_and_kept() -> None:
    made = objects.named({"kind": "Pod"}, {}, "Web", b"seed", None)
    assert objects.name_of(made).startswith("web-")
    assert objects.name_of(objects.named({"kind": "Pod"}, made, "web", b"other", None)) == objects.name_of(made)
    assert objects.name_of(objects.named({"kind": "Pod"}, {}, "web", b"seed", "proposed")) == "proposed"
    given = {"metadata": {"name": "mine"}}
    assert objects.named(given, made, "web", b"seed", None) is given


def test_the_field_manager_is_the_same_in_every_run() -> None:
    urn = "urn:pulumi:test::p::kubernetes:core/v1:ConfigMap::one"
    assert objects.manager(urn, {}, {}) == objects.manager(urn, {}, {})
    assert objects.manager(urn, {}, {}) != objects.manager(urn + "x", {}, {})
    assert objects.manager(urn, {}, {"__fieldManager": "kept"}) == "kept"
    chosen = {"metadata": {"annotations": {objects.MANAGER: "mine"}}}
    assert objects.manager(urn, chosen, {"__fieldManager": "kept"}) == "mine"


def test_string_data_is_sent_as_data_and_kept_as_written() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {}, "stringData": {"a": "x"}, "data": {"b": "eQ=="}}
    assert objects.sent(secret)["data"] == {"a": "eA==", "b": "eQ=="}
    assert "stringData" not in objects.sent(secret)
    assert objects.outputs(objects.sent(secret), secret, "m")["stringData"] == {"a": "x"}
    assert objects.secrets_of(secret, frozenset()) == {("data",), ("stringData",)}


def test_what_only_the_server_decides_is_unknown_in_a_preview() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "door"}, "spec": {"ports": [{"port": 80}]}}
    planned = objects.planned(service, None, "m")
    assert planned["spec"]["clusterIP"] == UNKNOWN and planned["status"] == UNKNOWN
    assert planned["metadata"]["name"] == "door" and planned["metadata"]["uid"] == UNKNOWN
    headless = {**service, "spec": {"clusterIP": "None"}}
    assert objects.planned(headless, None, "m")["spec"]["clusterIP"] == "None"
    assert has_unknown([{"a": UNKNOWN}]) and not has_unknown([{"a": "b"}])


def test_ignored_changes_keep_the_live_value() -> None:
    inputs = {"spec": {"replicas": 1, "ports": [{"port": 1}]}, "metadata": {"name": "x"}}
    live = {"spec": {"replicas": 5, "ports": [{"port": 2}]}, "metadata": {"labels": {"a": "b"}}}
    held = objects.held(inputs, live, [("spec", "replicas"), ("spec", "ports", 0, "port"), ("metadata", "labels", "a")])
    assert held == {"spec": {"replicas": 5, "ports": [{"port": 2}]}, "metadata": {"name": "x", "labels": {"a": "b"}}}


def test_refreshed_inputs_are_the_live_values_of_what_the_program_set() -> None:
    inputs = {"kind": "X", "spec": {"replicas": 1, "gone": 1, "list": [{"a": 1}]}, "__fieldManager": "m"}
    live = {"kind": "X", "spec": {"replicas": 3, "more": 2, "list": [{"a": 4, "default": 5}]}}
    assert objects.pruned(live, inputs) == {
        "kind": "X", "spec": {"replicas": 3, "list": [{"a": 4}]}, "__fieldManager": "m",
    }  # fmt: skip


def test_without_a_cluster_an_object_stays_in_its_namespace() -> None:
    old = {"metadata": {"name": "x", "namespace": "here"}}
    news: objects.Object = {"metadata": {"name": "x"}}
    objects.stay(news, old)
    assert news == old
    news = {"metadata": {"name": "x", "namespace": "there"}}
    objects.stay(news, old)
    assert objects.namespace_of(news) == "there"
