"""The supervisor: restarts, adoption, orderly ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from node_agent.emulation import cleanup, endpoints, processes, supervisor
from node_agent.kernel import netns
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces
from tests.lab.network import READY
from tests.waiting import until

pytestmark = pytest.mark.root

SLEEPER = "import time\ntime.sleep(600)\n"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)\n"


def spec(places: StackPlaces, program: str = SLEEPER, **changes: object) -> processes.Spec:
    fields = {"folder": places.root / "thing", "name": "thing", "argv": (sys.executable, "-I", "-S", "-c", program)}
    return processes.Spec(**{**fields, **changes})  # type: ignore[arg-type]


def seen(places: StackPlaces) -> processes.Observed | None:
    return processes.inspect(places.root / "thing", "thing")


def pid(places: StackPlaces) -> int:
    present = seen(places)
    return present.pid if present else 0


def lives(number: int) -> bool:
    return supervisor.start_time(number) != "0"


def test_starting_twice_keeps_the_process(places: StackPlaces) -> None:
    first = processes.start(spec(places))
    assert first.pid and first.supervisor_pid and first.restarts == 0
    assert processes.start(spec(places)) == first


def test_another_spec_replaces_the_process(places: StackPlaces) -> None:
    first = processes.start(spec(places))
    second = processes.start(spec(places, SLEEPER + "# changed"))
    assert second.pid != first.pid
    assert not lives(first.pid) and not lives(first.supervisor_pid)


def test_a_killed_process_is_back_each_time_at_first_at_once_and_never_after_a_long_pause(places: StackPlaces) -> None:
    old = processes.start(spec(places)).pid
    for _ in range(6):
        os.kill(old, signal.SIGKILL)
        until(lambda old=old: pid(places) not in (0, old), READY, "restart")
        old = pid(places)
    present = seen(places)
    assert present is not None and present.restarts == 6
    log = (places.root / "thing" / "thing.log").read_text()
    first, *later = (float(each) for each in re.findall(r"starting again in (\S+) s", log))
    assert first == 0.0 and len(later) == 5
    assert max(later) <= supervisor.PAUSE_MOST <= 1.0


def test_a_program_that_always_fails_is_tried_again_with_pauses(places: StackPlaces) -> None:
    processes.start(spec(places, "raise SystemExit(3)"))
    log = places.root / "thing" / "thing.log"
    until(lambda: log.read_text().count("exit code 3") >= 4, READY, "four tries")
    assert log.read_text().count("exit code 3") < 10
    processes.stop(places.root / "thing", "thing")


def test_a_killed_supervisor_spares_the_process_and_the_next_start_adopts_it(places: StackPlaces) -> None:
    first = processes.start(spec(places))
    os.kill(first.supervisor_pid, signal.SIGKILL)
    until(lambda: not lives(first.supervisor_pid), READY, "the supervisor's end")
    orphaned = seen(places)
    assert orphaned is not None and orphaned.pid == first.pid and orphaned.supervisor_pid == 0
    second = processes.start(spec(places))
    assert second.pid != first.pid and second.supervisor_pid
    assert not lives(first.pid)
    assert len(processes.marked(places.root)) == 2


def test_stop_ends_both_and_may_be_repeated(places: StackPlaces) -> None:
    first = processes.start(spec(places))
    processes.stop(places.root / "thing", "thing")
    assert not lives(first.pid) and not lives(first.supervisor_pid)
    assert seen(places) is None
    processes.stop(places.root / "thing", "thing")
    processes.remove(places.root / "thing", "thing")
    assert not (places.root / "thing").exists()


def test_a_terminated_supervisor_ends_its_process(places: StackPlaces) -> None:
    first = processes.start(spec(places, STUBBORN))
    os.kill(first.supervisor_pid, signal.SIGTERM)
    until(lambda: not lives(first.supervisor_pid), READY, "the supervisor's end")
    assert not lives(first.pid)


def test_a_reused_pid_is_not_taken_for_the_process(places: StackPlaces) -> None:
    folder = places.root / "thing"
    folder.mkdir()
    bystander = subprocess.Popen([sys.executable, "-I", "-S", "-c", SLEEPER])
    try:
        number, _, boot, _ = supervisor.record(bystander.pid).split()
        (folder / "thing.pid").write_text(f"{number} 1 {boot} 0\n")
        (folder / "supervisor.pid").write_text(f"{number} 1 {boot} 0\n")
        assert seen(places) is None
        processes.stop(folder, "thing")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_program_that_is_not_there_fails_the_start_with_the_reason(places: StackPlaces) -> None:
    with pytest.raises(Permanent, match=r"start thing: run /nonexistent/thing: .*No such file"):
        processes.start(spec(places, argv=("/nonexistent/thing",)))
    assert seen(places) is None
    with pytest.raises(Permanent, match="absolute path"):
        processes.start(spec(places, argv=("thing",)))


def test_the_process_gets_its_environment_only(places: StackPlaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    started = processes.start(spec(places, env={"GREETING": "hello"}))
    for number in (started.pid, started.supervisor_pid):
        assert b"A_SECRET" not in Path(f"/proc/{number}/environ").read_bytes()
    assert b"GREETING=hello" in Path(f"/proc/{started.pid}/environ").read_bytes()


def test_the_log_is_put_aside_when_it_is_long(places: StackPlaces) -> None:
    folder = places.root / "thing"
    folder.mkdir()
    (folder / "thing.log").write_bytes(b"x" * (supervisor.LOG_LIMIT + 1))
    processes.start(spec(places))
    assert (folder / "thing.log").stat().st_size < 10_000
    assert (folder / "thing.log.1").stat().st_size == supervisor.LOG_LIMIT


def test_two_starts_at_once_leave_one_supervisor(places: StackPlaces) -> None:
    with ThreadPoolExecutor(4) as pool:
        started = [pool.submit(processes.start, spec(places)) for _ in range(4)]
    assert len({future.result().pid for future in started}) == 1
    assert len(processes.marked(places.root)) == 2


def test_a_supervisor_is_small(places: StackPlaces) -> None:
    started = processes.start(spec(places))
    status = Path(f"/proc/{started.supervisor_pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    print(f"\nsupervisor: {resident} kB resident")
    assert resident < 12 * 1024


def test_it_runs_in_the_namespace_and_follows_it_when_that_is_made_anew(places: StackPlaces) -> None:
    path = places.netns_path("pod")
    netns.create(path)
    inside = spec(places, netns=path)
    first = processes.start(inside)
    assert netns.identity(Path(f"/proc/{first.pid}/ns/net")) == netns.identity(path)
    # Held by this test too, so that the new one cannot get the old one's inode number.
    with netns.opened(path):
        netns.delete(path)
        netns.create(path)
        stale = seen(places)
        assert stale is not None and not stale.placed
        second = processes.start(inside)
    assert second.placed and second.pid != first.pid


def test_the_program_may_be_started_by_hand(places: StackPlaces) -> None:
    started = processes.start(spec(places))
    config = places.root / "thing" / "supervisor.json"
    argv = [sys.executable, "-m", "node_agent.emulation.supervisor", "--config", str(config)]
    refused = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=processes.ROOT, check=False)
    assert refused.returncode == 1 and "another supervisor holds" in refused.stderr
    assert pid(places) == started.pid
    wrong = subprocess.run([*argv[:-1], "/nonexistent"], capture_output=True, text=True, timeout=20, check=False)
    assert wrong.returncode == 2


def test_a_workload_answers_and_comes_back(places: StackPlaces) -> None:
    endpoints.make(places, "web")
    started = endpoints.start_workload(places, "web", vpc="a", address="10.0.0.2")
    inside = places.netns_path("web")

    def fetch(path: str) -> str:
        with netns.enter(inside), socket.create_connection(("127.0.0.1", 8080), timeout=2) as stream:
            stream.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return stream.makefile().read().partition("\n\n")[2]

    def answers() -> bool:
        try:
            return fetch("/") == '{"address": "10.0.0.2", "name": "web", "vpc": "a"}\n'
        except OSError:
            return False

    until(answers, READY, "the first answer")
    assert '"127.0.0.1": {"tcp": 1}' in fetch("/seen")
    assert "only GET" in fetch("/other")
    with netns.enter(inside), socket.create_connection(("127.0.0.1", 8081), timeout=5) as stream:
        sent = os.urandom(3 << 20)
        got = bytearray()
        writer = threading.Thread(target=stream.sendall, args=(sent,))
        writer.start()
        while len(got) < len(sent):
            got += stream.recv(1 << 16)
        writer.join()
        assert bytes(got) == sent
    os.kill(started.pid, signal.SIGKILL)
    until(answers, READY, "an answer after the kill")
    cleanup.remove(places.id)
    assert endpoints.inspect_workload(places, "web") is None


def test_unrecorded_processes_of_a_stack_are_found(places: StackPlaces) -> None:
    started = processes.start(spec(places))
    for file in ("thing.pid", "supervisor.pid"):
        (places.root / "thing" / file).unlink()
    assert seen(places) is None
    assert processes.marked(places.root) == tuple(sorted((started.pid, started.supervisor_pid)))
    assert processes.end_marked(places.root)
    assert not lives(started.pid)


def test_what_the_process_started_goes_along_when_it_must_be_killed(places: StackPlaces) -> None:
    program = textwrap.dedent("""
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = os.fork()
        if child:
            print("child", child, flush=True)
        time.sleep(600)
    """)
    processes.start(spec(places, program))
    log = places.root / "thing" / "thing.log"
    until(lambda: "child" in log.read_text(), READY, "the child")
    child = int(log.read_text().split("child ")[1].split()[0])
    processes.stop(places.root / "thing", "thing")
    until(lambda: not lives(child), READY, "the child's end")
