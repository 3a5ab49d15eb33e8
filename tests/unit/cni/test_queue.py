import os
from pathlib import Path

import pytest

from node_agent.cni import protocol
from node_agent.cni.protocol import Request
from node_agent.cni.queue import LEFT_AFTER, Queue

DEL = Request(verb="DEL", container_id="c")


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    found = Queue.beside(tmp_path / "agent.sock")
    found.folder.mkdir()
    return found


def test_entries_are_found_oldest_first(queue: Queue) -> None:
    for age, name in ((10, "b"), (20, "a"), (5, "c")):
        path = queue.entry(name, "eth0")
        path.write_bytes(protocol.encode(Request(verb="DEL", container_id=name)))
        os.utime(path, (1000 - age, 1000 - age))
    found = [queue.read(path) for path in queue.waiting()]
    assert [one.container_id for one in found if one] == ["a", "b", "c"]


def test_no_folder_is_no_entry(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "none")
    assert queue.waiting() == []
    assert queue.read(queue.entry("c", "eth0")) is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"verb":"ADD"}\n', protocol.encode(Request(verb="STATUS")), b"\xff"])
def test_nonsense_is_removed_and_hinders_nobody(queue: Queue, content: bytes) -> None:
    queue.entry("c", "eth0").write_bytes(content)
    assert queue.read(queue.entry("c", "eth0")) is None
    assert queue.waiting() == []


def test_what_is_being_written_is_no_entry_and_goes_when_nobody_goes_on(queue: Queue) -> None:
    half, left = queue.folder / ".1-c", queue.folder / ".2-c"
    for path in (half, left):
        path.write_bytes(protocol.encode(DEL)[:5])
    old = half.stat().st_mtime - LEFT_AFTER - 10
    os.utime(left, (old, old))
    assert queue.waiting() == []
    assert half.exists() and not left.exists()
