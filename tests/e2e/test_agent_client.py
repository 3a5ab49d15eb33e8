"""The socket client against an agent that behaves as agents may: absent, slow, silent, refusing, talking nonsense."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node_agent.cni import client, protocol
from node_agent.cni.protocol import Reply, Request
from node_agent.model.errors import Permanent, Temporary

STATUS = Request(verb="STATUS")
Answer = Callable[[bytes], bytes | None]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Answer], Path]]:
    """Starts an agent of that answer on a socket; None: it says nothing and holds the line."""
    ends: list[socket.socket] = []

    def start(answer: Answer) -> Path:
        path = tmp_path / "agent.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        ends.append(listener)

        def loop() -> None:
            while True:
                try:
                    conn, _ = listener.accept()
                except OSError:
                    return
                said = answer(conn.makefile("rb").readline())
                if said is None:
                    ends.append(conn)
                    continue
                conn.sendall(said)
                conn.close()

        threading.Thread(target=loop, daemon=True).start()
        return path

    yield start
    for end in ends:
        end.close()


def test_one_line_out_one_line_in(serve: Callable[[Answer], Path]) -> None:
    def answer(line: bytes) -> bytes:
        asked = protocol.decode_request(line)
        return protocol.encode(Reply(address=asked.address, endpoint="7-10.0.0.9"))

    reply = client.call(
        serve(answer), Request(verb="ADD", container_id="c", netns="/x", vpc="v", subnet="s", address="10.0.0.9")
    )
    assert (reply.address, reply.endpoint) == ("10.0.0.9", "7-10.0.0.9")


def test_absent_and_silent_agents_are_temporary(serve: Callable[[Answer], Path], tmp_path: Path) -> None:
    with pytest.raises(Temporary, match="No such file"):
        client.call(tmp_path / "none.sock", STATUS)
    with pytest.raises(Temporary, match="no answer in time"):
        client.call(serve(lambda _: None), STATUS, timeout=0.2)


@pytest.mark.parametrize("said", [b"", b'{"code": 0'])
def test_a_hang_up_is_temporary(serve: Callable[[Answer], Path], said: bytes) -> None:
    with pytest.raises(Temporary, match="hung up"):
        client.call(serve(lambda _: said), STATUS)


@pytest.mark.parametrize(
    ("code", "kind"), [(protocol.TRY_AGAIN, Temporary), (protocol.FAILED, Permanent), (protocol.EXHAUSTED, Permanent)]
)
def test_codes_are_errors(serve: Callable[[Answer], Path], code: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="the reason"):
        client.call(serve(lambda _: protocol.encode(Reply(code=code, message="the reason"))), STATUS)


def test_nonsense_is_permanent(serve: Callable[[Answer], Path]) -> None:
    with pytest.raises(Permanent, match="not JSON"):
        client.call(serve(lambda _: b"hello\n"), STATUS)


def test_persist_repeats_what_is_temporary(serve: Callable[[Answer], Path]) -> None:
    replies = [Reply(code=protocol.TRY_AGAIN, message="not yet"), Reply(mtu=1450)]
    path = serve(lambda _: protocol.encode(replies.pop(0)))
    assert client.persist(path, STATUS, 5).mtu == 1450
    with pytest.raises(Temporary):
        client.persist(path.with_name("none.sock"), STATUS, 0.1)
