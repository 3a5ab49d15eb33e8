"""The agent's configuration as a pod completes it, and what its probes ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from node_agent.agent import pod, probe
from node_agent.cni import client
from node_agent.cni.protocol import Reply, Request
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Invalid, MizarError, Permanent, Temporary

COMMON = AgentConfig(
    host="",
    stack_id="s",
    address="",
    uplink="",
    underlay_prefixes=("198.18.0.0/24",),
    store="kubernetes:",
    pins="/p",
    socket="/s",
    bpf_objects="/b",
)
TOLD = {"MIZAR_HOST": "node-1", "MIZAR_ADDRESS": "198.18.0.11"}


def test_a_node_says_who_it_is() -> None:
    own = pod.completed(COMMON, TOLD, "ens4")
    assert own == replace(COMMON, host="node-1", address="198.18.0.11", uplink="ens4")


def test_what_the_configuration_says_stays() -> None:
    own = pod.completed(replace(COMMON, uplink="bond0"), TOLD, "ens4")
    assert own.uplink == "bond0"


def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(Invalid) as error:
        pod.completed(COMMON, {}, "")
    assert len(error.value.mistakes) == 2
    with pytest.raises(Invalid, match=r"no interface of this node has the address 198\.18\.0\.11"):
        pod.completed(COMMON, TOLD, "")


def absent() -> MizarError:
    error = Temporary("ask agent /s for STATUS: No such file or directory")
    error.__cause__ = FileNotFoundError()
    return error


@pytest.mark.parametrize(
    ("answer", "alive", "ready"),
    [
        (None, 0, 0),
        (Permanent("it says what is wrong"), 0, 1),
        (Temporary("it says that it is starting"), 0, 1),
        (absent(), 1, 1),
    ],
    ids=["well", "damaged", "starting", "absent"],
)
def test_probes(answer: MizarError | None, alive: int, ready: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(path: Path, request: Request, timeout: float) -> Reply:
        assert request.verb == "STATUS"
        if answer:
            raise answer
        return Reply()

    monkeypatch.setattr(client, "call", call)
    assert (probe.main(["alive", "/s"]), probe.main(["ready", "/s"])) == (alive, ready)
