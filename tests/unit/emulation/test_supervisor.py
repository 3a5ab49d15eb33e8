"""Pid records and files of the supervisor; no process is started here."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from node_agent.emulation import supervisor
from node_agent.emulation.supervisor import Supervisor


def test_a_record_of_a_living_process_is_recognised() -> None:
    line = supervisor.record(os.getpid(), restarts=7)
    assert supervisor.alive(line) == os.getpid()
    assert line.split()[3] == "7"


@pytest.mark.parametrize(
    "line", ["", "x", "12", "12 34", pytest.param(f"{os.getpid()} 1 boot 0", id="ours but older"), "0 0 0 0"]
)
def test_a_record_of_nobody_is_not(line: str) -> None:
    assert supervisor.alive(line) == 0


def test_a_record_of_a_later_process_of_the_same_pid_is_not() -> None:
    pid, started, boot, restarts = supervisor.record(os.getpid()).split()
    assert supervisor.alive(f"{pid} {int(started) + 1} {boot} {restarts}") == 0
    assert supervisor.alive(f"{pid} {started} another-boot {restarts}") == 0


def test_the_start_time_of_nobody_is_zero() -> None:
    assert supervisor.start_time(2**22 + 1) == "0"


def test_ending_nobody_succeeds() -> None:
    supervisor.end("")
    supervisor.end("4194305 77 boot 0")


def test_a_file_is_written_in_one_step(tmp_path: Path) -> None:
    path = str(tmp_path / "a.pid")
    assert supervisor.read(path) == ""
    before = os.umask(0)
    try:
        supervisor.write(path, "one\n")
        supervisor.write(path, "two\n")
    finally:
        os.umask(before)
    assert supervisor.read(path) == "two\n"
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pid"]


@pytest.mark.parametrize("arguments", [[], ["--config"], ["--config", "a", "b"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert supervisor.main(arguments) == 2
    assert "usage: python -m node_agent.emulation.supervisor --config FILE" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "a"}'])
def test_a_wrong_configuration_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "supervisor.json").write_text(text)
    assert supervisor.main(["--config", str(tmp_path / "supervisor.json")]) == 2
    assert f"read {tmp_path}/supervisor.json" in capsys.readouterr().err


def kept(folder: Path) -> Supervisor:
    return Supervisor({"name": "it", "argv": ["it"], "env": {}, "folder": str(folder)})


def test_a_long_log_begins_anew_under_its_writer_and_its_end_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LOG_LIMIT", 10)
    log, aside = tmp_path / "it.log", tmp_path / "it.log.1"
    one = kept(tmp_path)
    one.trim()
    assert not log.exists(), "a log that nobody has begun"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"0123456789")
        one.trim()
        assert not aside.exists()
        writer.write(b"abc")
        one.trim()
        writer.write(b"on")
    assert (log.read_bytes(), aside.read_bytes()) == (b"on", b"3456789abc")
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600


def test_a_log_is_looked_at_while_its_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_LIMIT", 10)
    (tmp_path / "it.log").write_bytes(b"0123456789abc")
    heard = [None, SimpleNamespace(si_signo=signal.SIGTERM)]  # a look's time is up, then the end
    monkeypatch.setattr(signal, "sigtimedwait", lambda _, seconds: heard.pop(0))
    monkeypatch.setattr(signal, "sigwaitinfo", lambda _: pytest.fail("waits without a look"))
    one = kept(tmp_path)
    monkeypatch.setattr(one, "reap", lambda pid: False)
    assert not one.wait(None, 7)
    assert (tmp_path / "it.log").read_bytes() == b""
