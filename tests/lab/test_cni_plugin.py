"""The plugin's program against agents that behave as agents may, and runtimes that say what they should not."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node_agent.cni import protocol, spec
from node_agent.cni.protocol import Reply, Request
from node_agent.cni.queue import Queue
from tests.lab import cni

pytestmark = pytest.mark.root

OWN = Path("/proc/self/ns/net")
ODD = 'quote " backslash \\ newline \n tab \t bell \x07 \u00e4 {"nested": ["]", "}"]}'


class Agent:
    """Takes requests on a socket and answers each with `reply`; None: it hangs up instead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reply: Reply | bytes | None = Reply()
        self.asked: list[Request] = []
        self.namespaces: list[os.stat_result] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            with conn:
                line = b""
                while not line.endswith(b"\n"):
                    part, descriptors, _, _ = socket.recv_fds(conn, 65536, 1)
                    line += part
                    for descriptor in descriptors:
                        self.namespaces.append(os.fstat(descriptor))
                        os.close(descriptor)
                self.asked.append(protocol.decode_request(line))
                if self.reply is not None:
                    conn.sendall(self.reply if isinstance(self.reply, bytes) else protocol.encode(self.reply))


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    cni.build()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path / "agent.sock")
    yield made
    made.close()


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """Of a network whose agent, if there is one, is at the socket in the test's folder."""
    return {"cniVersion": "1.1.0", "name": "net", "type": "mizar", "socket": str(tmp_path / "agent.sock")}


def test_the_agent_hears_all_that_the_runtime_said(agent: Agent, config: dict[str, Any]) -> None:
    config |= {"odd": ODD, "socket2": "/elsewhere", "deep": {"socket": "/not/this"}}
    answer = cni.run("ADD", config, "c1", namespace=OWN, interface="net1", args="K8S_POD_NAME=x;A=b")
    assert answer == cni.Answer(0, None)
    asked = agent.asked[0]
    assert (asked.verb, asked.container_id, asked.interface) == ("ADD", "c1", "net1")
    assert (asked.sandbox, asked.args) == (str(OWN), "K8S_POD_NAME=x;A=b")
    assert json.loads(asked.config) == config
    assert [found.st_ino for found in agent.namespaces] == [OWN.stat().st_ino]


def test_the_runtime_hears_the_agents_result_to_the_letter(agent: Agent, config: dict[str, Any]) -> None:
    said = {"cniVersion": "1.1.0", "odd": ODD, "ips": [{"address": "10.0.0.1/32"}]}
    agent.reply = Reply(result=json.dumps(said), message=ODD)
    assert cni.run("ADD", config, "c1", namespace=OWN) == cni.Answer(0, said)


def test_a_refusal_has_the_agents_code_and_words_and_the_runtimes_version(agent: Agent, config: dict[str, Any]) -> None:
    agent.reply = Reply(code=protocol.INVALID_CONFIG, message='vpc: there is no VPC "bl\u00e4u \u20ac"\nnor red')
    answer = cni.run("ADD", {**config, "cniVersion": "1.0.0"}, "c1", namespace=OWN)
    assert answer == cni.Answer(1, {"cniVersion": "1.0.0", "code": 7, "msg": agent.reply.message})


def test_version_needs_no_agent(config: dict[str, Any]) -> None:
    answer = cni.run("VERSION", {"cniVersion": "1.0.0"})
    assert answer == cni.Answer(0, {"cniVersion": "1.0.0", "supportedVersions": list(spec.VERSIONS)})


@pytest.mark.parametrize(
    ("verb", "code"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)], ids=lambda value: str(value)
)
def test_without_an_agent_what_cannot_be_put_off_fails(config: dict[str, Any], verb: str, code: int) -> None:
    answer = cni.run(verb, config, "c1", namespace=OWN)
    assert answer.error == code
    assert config["socket"] in answer.said["msg"]
    assert not Queue.beside(Path(config["socket"])).waiting()


@pytest.mark.parametrize("reply", [None, b'{"code": 0', b"[]\n", b'{"code":0}\n'])
def test_an_agent_that_dies_or_talks_nonsense_is_one_to_try_again(
    agent: Agent, config: dict[str, Any], reply: bytes | None
) -> None:
    agent.reply = reply
    assert cni.run("ADD", config, "c1", namespace=OWN).error == protocol.TRY_AGAIN


def test_without_an_agent_a_removal_is_put_off(config: dict[str, Any]) -> None:
    queue = Queue.beside(Path(config["socket"]))
    for _ in range(2):  # repeated, it is still one
        assert cni.run("DEL", config, "c1", namespace="/gone").error == 0
        assert [queue.read(path) for path in queue.waiting()] == [Request(verb="DEL", container_id="c1")]
    assert queue.waiting() == [queue.entry("c1", "eth0")]
    assert stat.S_IMODE(queue.entry("c1", "eth0").stat().st_mode) == 0o600
    assert stat.S_IMODE(queue.folder.stat().st_mode) == 0o700


def test_a_removal_that_the_agent_refuses_is_not_put_off(agent: Agent, config: dict[str, Any]) -> None:
    agent.reply = Reply(code=protocol.TRY_AGAIN, message="starting")
    assert cni.run("DEL", config, "c1").error == protocol.TRY_AGAIN
    assert not Queue.beside(agent.path).waiting()


def test_no_more_removals_are_put_off_than_fit(config: dict[str, Any]) -> None:
    folder = Queue.beside(Path(config["socket"])).folder
    folder.mkdir()
    for number in range(4096):
        (folder / f"old{number}@eth0").touch()
    answer = cni.run("DEL", config, "c1")
    assert answer.error == protocol.TRY_AGAIN
    assert len(list(folder.iterdir())) == 4096


@pytest.mark.parametrize(
    ("verb", "how", "code"),
    [
        ("PUT", {}, 4),
        ("ADD", {"container": ""}, 4),
        ("ADD", {"container": "../c"}, 4),
        ("ADD", {"container": "c" * 201}, 4),
        ("DEL", {"container": "-c"}, 4),
        ("ADD", {"interface": "a/b"}, 4),
        ("ADD", {"interface": "sixteen-letters-"}, 4),
        ("ADD", {"namespace": ""}, 4),
        ("ADD", {"namespace": "/gone"}, 3),
        ("ADD", {"config": ""}, 6),
        ("ADD", {"config": "{"}, 6),
        ("ADD", {"config": "[1]"}, 6),
        ("ADD", {"config": '{"socket": "x"} {'}, 6),
        ("ADD", {"config": '{"socket": "relative"}'}, 7),
        ("ADD", {"config": json.dumps({"socket": "/" + "x" * 200})}, 7),
    ],
)
def test_what_a_runtime_must_not_say_is_refused(
    agent: Agent, config: dict[str, Any], verb: str, how: dict[str, Any], code: int
) -> None:
    said: dict[str, Any] = {"config": config, "container": "c1", "namespace": OWN, **how}
    assert cni.run(verb, **said).error == code
    assert not agent.asked
    assert not Queue.beside(agent.path).waiting()


def test_a_removal_needs_no_namespace(agent: Agent, config: dict[str, Any]) -> None:
    assert cni.run("DEL", config, "c1").error == 0
    assert cni.run("DEL", config, "c1", namespace="/gone").error == 0
    assert [asked.verb for asked in agent.asked] == ["DEL", "DEL"]


def test_the_program_needs_nothing_of_the_host() -> None:
    told = cni.commands.run(["readelf", "--program-headers", str(cni.BUILD / "mizar")], 10.0).stdout
    assert "INTERP" not in told and "DYNAMIC" not in told
