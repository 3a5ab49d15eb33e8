"""Which verbs the agent's resource asks: looking changes nothing on the host, only making and updating repair."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from infra.providers import agent, daemons, objects
from infra.providers.agent import AgentProvider
from node_agent.cni import client
from node_agent.cni.protocol import Reply, Request, Verb
from node_agent.model.errors import Permanent

PROPS = {"stack": "s", "host": "host-1", "config": "{}"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Verb]:
    """The verbs that an agent was asked which complains until it is asked to repair."""
    verbs: list[Verb] = []

    def call(path: Any, request: Request, timeout: float) -> Reply:
        verbs.append(request.verb)
        if "REPAIR" not in verbs:
            raise Permanent("transit_xdp is not attached")
        return Reply()

    monkeypatch.setattr(client, "call", call)
    monkeypatch.setattr(daemons, "agent", lambda stack, host: SimpleNamespace(pid=1))
    monkeypatch.setattr(daemons, "start", lambda *_, **__: None)
    monkeypatch.setattr(daemons, "config", lambda *_: PROPS["config"])
    monkeypatch.setattr(objects, "find", lambda *_: SimpleNamespace(status=SimpleNamespace(mode="generic")))
    return verbs


def test_to_look_repairs_nothing(asked: list[Verb]) -> None:
    state = {**PROPS, "ready": True, "mode": "generic"}
    provider = AgentProvider()
    assert provider.diff("s/host-1", state, PROPS).changes is True
    read = provider.read("s/host-1", state).outs
    assert read is not None
    assert read["ready"] is False
    assert set(asked) == {"STATUS"}


def test_an_update_repairs(asked: list[Verb]) -> None:
    outs = AgentProvider().update("s/host-1", {**PROPS, "ready": False}, PROPS).outs
    assert outs == {**PROPS, "ready": True, "mode": "generic"}
    assert asked == ["REPAIR"]


def test_an_agent_whose_complaint_stays_is_an_error_with_it(asked: list[Verb], monkeypatch: pytest.MonkeyPatch) -> None:
    def call(path: Any, request: Request, timeout: float) -> Reply:
        raise Permanent("uplink0 is down")

    monkeypatch.setattr(client, "call", call)
    monkeypatch.setattr(agent, "READY_SECONDS", 0.0)
    with pytest.raises(RuntimeError, match=r"start agent of host-1: not ready .*uplink0 is down"):
        AgentProvider().create(PROPS)
