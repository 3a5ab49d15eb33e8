"""Runs the roles of traffic.c in network namespaces and reads the one line each of them says. Called by `scenarios`.

C rather than Python, where sendmmsg, a million datagrams a second and round trips of microseconds are out of reach.
"""

from __future__ import annotations

import contextlib
import json
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from node_agent.bench.pairs import Pair
from node_agent.emulation import supervisor
from node_agent.kernel import commands, netns
from node_agent.model.errors import Permanent

SOURCES = ("traffic.c", "bulk.c", "requests.c")
COMPILER = "clang"  # which `make setup` installs for the BPF programs anyhow
PATIENCE = 20.0  # seconds beyond a role's own time
WARM = 200  # milliseconds of a stream that are not counted
ANYWHERE = -1

Said = dict[str, float]


def compiled(folder: Path) -> Path:
    """The program, built into this folder. Raises Permanent naming what is missing."""
    if not shutil.which(COMPILER):
        raise Permanent(
            f"compile traffic: no {COMPILER} on this machine (Debian package clang; `make setup` installs it)"
        )
    here = Path(__file__).resolve().parent
    target = folder / "traffic"
    argv = [COMPILER, "-O2", "-pthread", "-o", str(target), *(str(here / name) for name in SOURCES)]
    commands.run(argv, 60.0)
    return target


class Traffic:
    """`cpus`: of the sending and of the receiving end where they are placed. Not for several threads at once."""

    def __init__(self, program: Path, folder: Path, cpus: tuple[int, int]) -> None:
        self._program, self._cpus = program, cpus
        self._env = {supervisor.MARK: str(folder)}  # a killed benchmark's cleanup finds them by it
        self._ports = 0

    def bulk(self, pair: Pair, streams: int, ms: int) -> Said:
        """{"bits": a second, "retransmits"}; both ends wherever the scheduler puts them."""
        port = self._port()
        with self._serving(pair.receiver.netns, "sink", port, streams, WARM, ms, ANYWHERE) as sink:
            source = self._start(pair.sender.netns, "source", pair.receiver.address, port, streams, ANYWHERE)
            with _ended(source):
                return {**_said(sink, ms), **_said(source, ms)}

    def datagrams(self, pair: Pair, ms: int) -> Said:
        """{"packets": received a second, "sent": a second}, one CPU sending and one receiving."""
        port, (near, far) = self._port(), self._cpus
        with self._serving(pair.receiver.netns, "udpsink", port, WARM, ms, far) as sink:
            source = self._start(pair.sender.netns, "udpsource", pair.receiver.address, port, ms + 2 * WARM, near)
            with _ended(source):
                return {**_said(sink, ms), **_said(source, ms)}

    def requests(self, pair: Pair, ms: int, *, one_cpu: bool) -> Said:
        """{"p50", "p99": ns, "count"} of one byte there and back over one connection."""
        near, far = self._cpus
        port = self._port()
        with self._serving(pair.receiver.netns, "echo", port, 1, near if one_cpu else far):
            return self._ask(pair, ms, "rr", pair.receiver.address, port, ms, near)

    def connections(self, pair: Pair, ms: int, open_at_once: int) -> Said:
        """{"connections": a second, "errors", "done"}; each of them is a flow of its own."""
        ports, (near, far) = 16, self._cpus
        port = self._port(ports)
        with self._serving(pair.receiver.netns, "echo", port, ports, far):
            return self._ask(pair, ms, "connect", pair.receiver.address, port, ports, open_at_once, ms, near)

    def first(self, pair: Pair, ms: int, base: int) -> Said:
        """{"first", "second", "first99": ns, "flows", "lost"}: round trips of a flow's first two datagrams, both ends
        on one CPU. `base`: source port of the first flow; up to 4,000 flows."""
        near, port = self._cpus[0], self._port()
        with self._serving(pair.receiver.netns, "echo", port, 1, near):
            return self._ask(pair, ms, "first", pair.receiver.address, port, base, ms, near)

    # --- inside ---

    def _port(self, number: int = 1) -> int:
        """So many ports that no recent run used."""
        first = 12000 + self._ports % 18000
        self._ports += number
        return first

    def _ask(self, pair: Pair, ms: int, *role: object) -> Said:
        client = self._start(pair.sender.netns, *role)
        with _ended(client):
            return _said(client, ms)

    def _start(self, path: Path, *role: object) -> subprocess.Popen[str]:
        with netns.enter(path):
            return subprocess.Popen(
                [str(self._program), *map(str, role)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self._env,
            )

    @contextlib.contextmanager
    def _serving(self, path: Path, *role: object) -> Iterator[subprocess.Popen[str]]:
        server = self._start(path, *role)
        with _ended(server):
            assert server.stdout is not None
            if not select.select([server.stdout], [], [], PATIENCE)[0] or server.stdout.readline() != "ready\n":
                server.kill()
                raise Permanent(f"serve {role[0]}: {server.communicate()[1].strip() or 'not ready in time'}")
            yield server


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Afterwards the process is gone, whatever it was doing, and its pipes are closed."""
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def _said(process: subprocess.Popen[str], ms: int) -> Said:
    try:
        out, errors = process.communicate(timeout=ms / 1000 + PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise Permanent(f"measure {process.args!r}: no figures in time") from error
    if process.returncode:
        raise Permanent(f"measure {process.args!r}: code {process.returncode}: {errors.strip()}")
    found: Said = json.loads(out)
    return found
