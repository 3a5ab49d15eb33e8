"""When container runtimes are told of the network."""

import io
import threading
from pathlib import Path

import pytest

from node_agent.agent import __main__ as module
from node_agent.agent.log import Log
from node_agent.cni import protocol
from node_agent.cni.protocol import Reply, Request
from node_agent.model.config import AgentConfig, CniConfig


class Agent:
    """Answers with what it is given, one after the other; nothing may be in place before the last."""

    def __init__(self, path: Path, *replies: Reply) -> None:
        self.path, self.replies = path, list(replies)

    def handle(self, request: Request) -> Reply:
        assert request == Request(verb="STATUS") and not self.path.exists()
        return self.replies.pop(0)


def config(conflist: str) -> AgentConfig:
    return AgentConfig(
        host="h", stack_id="s", address="198.18.0.1", uplink="u", underlay_prefixes=(), store="sqlite:/none",
        pins="/none", socket="/run/agent.sock", bpf_objects="/none", cni=CniConfig(conflist=conflist),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.0)


def test_runtimes_are_told_once_the_agent_serves(tmp_path: Path) -> None:
    path, log = tmp_path / "10-mizar.conflist", io.StringIO()
    starting = Reply(code=protocol.TRY_AGAIN, message="it is starting")
    agent = Agent(path, starting, starting, Reply())
    module._install(config(str(path)), agent, Log("h", log, lambda: 0.0), threading.Event())  # type: ignore[arg-type]
    assert path.exists() and not agent.replies
    assert log.getvalue().count("it is starting") == 1


def test_without_a_list_to_write_nothing_is_asked(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    module._install(config(""), agent, Log("h", io.StringIO(), lambda: 0.0), threading.Event())  # type: ignore[arg-type]


def test_an_agent_that_is_told_to_stop_tells_nobody(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    path = tmp_path / "10-mizar.conflist"
    module._install(config(str(path)), Agent(path), Log("h", io.StringIO(), lambda: 0.0), stop)  # type: ignore[arg-type]
    assert not path.exists()
