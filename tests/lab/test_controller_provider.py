"""The controller's resource over real processes: one that works, one that cannot begin, one that hangs."""

from __future__ import annotations

import os
import signal

import pytest

from infra.providers import controller, daemons
from infra.providers.controller import ControllerProvider
from node_agent.metrics import server
from node_agent.model.config import ControllerConfig, dump
from node_agent.model.places import StackPlaces
from node_agent.store.open import open_store

pytestmark = pytest.mark.root


@pytest.fixture
def props(places: StackPlaces, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a controller whose store is there."""
    store = f"sqlite:{places.store}"
    open_store(store, create=True).close()
    monkeypatch.setattr(controller, "LOOK_SECONDS", 0.5)
    return {"stack": places.id, "config": dump(ControllerConfig(stack_id=places.id, store=store)), "code": "a"}


def pid(props: dict[str, str]) -> int:
    found = daemons.controller(props["stack"])
    assert found and found.pid
    return found.pid


def test_made_is_at_work_and_other_code_is_a_restart(props: dict[str, str]) -> None:
    provider = ControllerProvider()
    made = provider.create(props).outs
    assert provider.diff("s", made, props).changes is False
    first = pid(props)
    assert provider.update("s", made, props).outs == made
    assert pid(props) == first, "nothing to do"
    edited = {**props, "code": "b"}
    assert provider.diff("s", made, edited).changes is True
    assert provider.update("s", made, edited).outs == {**edited, "working": True}
    assert pid(props) != first


def test_one_that_cannot_begin_is_told_with_its_last_words(
    props: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "START_SECONDS", 4.0)
    with pytest.raises(RuntimeError, match="start controller: not at work") as told:
        ControllerProvider().create({**props, "config": "no JSON"})
    assert "read ControllerConfig: Expecting value" in str(told.value)
    assert ControllerProvider().diff("s", {**props, "config": "no JSON", "working": True}, props).changes is True


def test_one_that_hangs_is_started_anew(props: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    provider = ControllerProvider()
    made = provider.create(props).outs
    hung = pid(props)
    os.kill(hung, signal.SIGSTOP)
    monkeypatch.setattr(server, "PATIENCE", 0.5)
    monkeypatch.setattr(controller, "START_SECONDS", 15.0)
    assert provider.diff("s", made, props).changes is True
    assert provider.update("s", made, props).outs == made
    assert pid(props) != hung
