"""Facts about the machine that figures mean nothing without, and who else was using it. Called by `run`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """`memory`: GiB. `congestion`: what TCP uses unless told otherwise (here it is told: cubic)."""

    processor: str
    cpus: int
    virtual: bool
    memory: float
    kernel: str
    congestion: str


def describe() -> Machine:
    """The machine as it is now."""
    processor = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", processor, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.*)$", processor, re.MULTILINE)
    total = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    release = re.match(r"\d+(\.\d+)*", os.uname().release)
    return Machine(
        processor=model.group(1).strip() if model else os.uname().machine,
        cpus=len(os.sched_getaffinity(0)),
        virtual=bool(flags and "hypervisor" in flags.group(1).split()),
        memory=int(total.group(1)) / (1 << 20) if total else 0.0,
        kernel=release.group(0)
        if release
        else os.uname().release,  # without what a builder added, which may name somebody
        congestion=Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
    )


class Others:
    """How much of the CPUs other programs had, from when it was made until `share`: their user time, which is what a
    compiler or a test run beside us mostly takes, and what the hypervisor gave to others. Of ours, user time is known:
    this process's, its ended children's, and that of `pids`."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._before = self._taken()
        self._began = time.monotonic()

    def share(self) -> float:
        """A part of all CPUs, 0 to 1."""
        passed = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (self._taken() - self._before) / passed))

    def _taken(self) -> float:
        """Seconds of CPU since boot that were not ours."""
        tick = os.sysconf("SC_CLK_TCK")
        user, nice, _, _, _, _, _, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
        own = os.times()
        ours = sum(_user_ticks(pid) for pid in self._pids)
        return (user + nice + steal - ours) / tick - own.user - own.children_user


def _user_ticks(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
    except OSError:
        return 0  # it has ended
