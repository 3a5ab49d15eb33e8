"""The provider of services over a store in memory, with inputs as the engine hands them over."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from infra.providers import objects
from infra.providers.service import ServiceProvider
from node_agent.model.objects import NetworkService, ServiceBackend, ServicePort
from node_agent.testing.store import FakeStore


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    made = FakeStore()

    @contextlib.contextmanager
    def opened(stack: str, kubeconfig: str = "") -> Iterator[FakeStore]:
        yield made

    monkeypatch.setattr(objects, "opened", opened)
    monkeypatch.setattr(objects, "present", lambda stack, kubeconfig="": True)
    return made


def inputs(*backends: str, **changes: Any) -> dict[str, Any]:
    """Every number is a float, every sequence a list."""
    return {
        "stack": "s",
        "name": "web",
        "vpc": "blue",
        "vip": "10.0.0.10",
        "affinity": "none",
        "ports": [{"name": "http", "protocol": "tcp", "port": 80.0, "target_port": 8080.0}],
        "backends": [{"address": address, "state": "ready"} for address in backends],
        **changes,
    }


def through_the_engine(outs: Any) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads(json.dumps(outs), parse_int=float)
    return raw


def test_made_unchanged_updated_in_place_and_removed(store: FakeStore) -> None:
    provider = ServiceProvider()
    made = provider.create(inputs("10.0.1.2"))
    assert made.id == "s/web"
    spec = store.get(NetworkService, "web").spec
    assert (spec.ports, spec.backends) == (
        (ServicePort(name="http", protocol="tcp", port=80, target_port=8080),),
        (ServiceBackend(address="10.0.1.2"),),
    )
    olds = through_the_engine(made.outs)
    assert not provider.diff(made.id, olds, inputs("10.0.1.2")).changes
    other = provider.diff(made.id, olds, inputs("10.0.1.2", "10.0.1.3"))
    assert (other.changes, other.replaces) == (True, [])
    uid = store.get(NetworkService, "web").meta.uid
    provider.update(made.id, olds, inputs("10.0.1.2", "10.0.1.3", vip="10.0.0.11"))
    found = store.get(NetworkService, "web")
    assert (found.meta.uid, len(found.spec.backends), found.spec.vip) == (uid, 2, "10.0.0.11")
    provider.delete(made.id, inputs("10.0.1.2"))
    provider.delete(made.id, inputs("10.0.1.2"))
    assert not store.list(NetworkService)
    assert provider.read(made.id, olds).id == ""


def test_what_was_changed_by_hand_is_a_change(store: FakeStore) -> None:
    provider = ServiceProvider()
    olds = through_the_engine(provider.create(inputs("10.0.1.2")).outs)
    provider.update("s/web", olds, inputs())
    assert provider.diff("s/web", olds, inputs("10.0.1.2")).changes
    provider.update("s/web", olds, inputs("10.0.1.2"))
    assert not provider.diff("s/web", olds, inputs("10.0.1.2")).changes
    store.delete(NetworkService, "web")
    assert provider.diff("s/web", olds, inputs("10.0.1.2")).changes


def test_a_service_that_went_to_another_vpc_is_not_removed_with_its_first(store: FakeStore) -> None:
    provider = ServiceProvider()
    provider.create(inputs())
    provider.create(inputs(vpc="green"))
    provider.delete("s/web", inputs())
    assert store.get(NetworkService, "web").spec.vpc == "green"


def test_inputs_that_no_service_has_are_all_told(store: FakeStore) -> None:
    with pytest.raises(RuntimeError) as caught:
        ServiceProvider().create(inputs(affinity="host", ports=[{"protocol": "sctp"}]))
    for part in ("spec.affinity: 'host'", "spec.ports[0].protocol: 'sctp'", "spec.ports[0].port: missing"):
        assert part in str(caught.value)
