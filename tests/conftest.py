"""Rules for every test: what a fast test may not touch, what needs root, and that a skip is not a pass.

Loaded by pytest before any test.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Helpers that assert say what they saw, as tests do.
pytest.register_assert_rewrite(*(f"tests.{layer}" for layer in ("contract", "datapath", "e2e", "engine", "lab")))

HERE = Path(__file__).parent
# Tests of pure code: the same result on any machine, with any user.
SEALED = ("unit", "golden", "component", "transition")
# Ids of the stacks that tests make: the number is the pid of the run.
OWN_ID = re.compile(r"(?:test|e2e)-(\d+)-[0-9a-f]{6}")

_NETWORK = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"}
_PROCESS = {
    "subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.system",
    "pty.spawn",
}  # fmt: skip

_sealed_test: str | None = None


class SealBroken(AssertionError):
    """A test of pure code reached for the network or for another process."""


def _audit(event: str, args: tuple[Any, ...]) -> None:
    # An audit hook sees the call itself, however the module under test imported the function; it cannot be removed
    # again, hence the switch.
    if _sealed_test is None:
        return
    if event in _PROCESS or event in _NETWORK:
        raise SealBroken(f"{_sealed_test} may not use {event}: tests under {', '.join(SEALED)} touch nothing outside")
    if event == "socket.__new__" and args[1] != socket.AF_UNIX:  # asyncio's wake-up pair is AF_UNIX, and harmless
        raise SealBroken(f"{_sealed_test} may not open a socket (family {args[1]!r})")


sys.addaudithook(_audit)


def _folder(path: Path) -> str:
    parts = path.relative_to(HERE).parts if path.is_relative_to(HERE) else ()
    return parts[0] if parts else ""


@pytest.fixture(autouse=True)
def _sealed(request: pytest.FixtureRequest) -> Iterator[None]:
    global _sealed_test
    if _folder(request.path) in SEALED:
        _sealed_test = request.node.nodeid
    try:
        yield
    finally:
        _sealed_test = None


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need root: skipped by hand, failed in CI, where a skip would go unseen."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        if _in_ci():
            pytest.fail("needs root, and CI runs as another user", pytrace=False)
        pytest.skip("needs root")


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers_of_killed_runs(request: pytest.FixtureRequest) -> None:
    """A run that was killed could not clean up; the ids of its stacks carry the pid of a process that is gone."""
    if os.geteuid() != 0 or not any(item.get_closest_marker("root") for item in request.session.items):
        return
    from node_agent.emulation import cleanup  # not for tests of pure code, nor where these rules alone are tried

    # One at a time: all workers of a run begin with this, and so does another run.
    lock = os.open("/run", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for id in cleanup.ids():
            match = OWN_ID.fullmatch(id)
            if match and not Path(f"/proc/{int(match[1])}").exists():
                cleanup.remove(id)
    finally:
        os.close(lock)


class _Skips:
    """Collects the skips of a run, and in CI fails the run for each."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # An expected failure is reported as skipped too, but it did run.
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        told = report.longrepr
        reason = str(told[2] if isinstance(told, tuple) else told).removeprefix("Skipped: ")
        self.refused.append(f"{report.nodeid}: {reason}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.refused and _in_ci() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.refused and _in_ci():
            terminalreporter.section("skipped: the run fails", red=True)
            for line in self.refused:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Count skips from the first one on."""
    config.pluginmanager.register(_Skips(), "mizar-skips")
