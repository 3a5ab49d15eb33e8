"""Starts, inspects and stops processes under a supervisor (`supervisor` is the daemon): agent, controller, workload.

One folder per process (`model.places`): supervisor.json, supervisor.pid, <name>.pid, <name>.log. Called by the Pulumi
providers, `emulation.cleanup` and the CLI.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from node_agent.emulation import folders, supervisor
from node_agent.kernel import commands, netns
from node_agent.model.errors import MizarError, Permanent

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(supervisor.__file__).resolve()
START_TIMEOUT = 15.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What to keep running. `argv[0]`: an absolute path; `netns`: path of the namespace to run in, None for here.

    The program sees `env` and nothing of the caller's environment, which may hold secrets.
    """

    folder: Path
    name: str
    argv: tuple[str, ...]
    netns: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A supervised process as it is. Pids are 0 for the dead; `restarts` counts since its supervisor began;
    `placed`: the program lives in the namespace that its configuration names (false once that was made anew)."""

    name: str
    argv: tuple[str, ...]
    netns: str
    supervisor_pid: int
    pid: int
    restarts: int
    placed: bool


def module(folder: Path, name: str, module: str, *arguments: str, netns: Path | None = None) -> Spec:
    """The spec of a module of this project, run by the interpreter that runs the caller."""
    return Spec(
        folder=folder,
        name=name,
        argv=(sys.executable, "-m", module, *arguments),
        netns=netns,
        env={"PATH": PATH, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def start(spec: Spec) -> Observed:
    """The program runs under a live supervisor with exactly this spec; returns once it has been started.

    An equal one that is whole is left alone; anything else of that folder and name (another spec, an orphan, a program
    in a namespace that is gone) is stopped first. Raises Permanent with the reason of a failed start.
    """
    text = _config(spec)
    folders.make_private(spec.folder)
    with _alone(spec.folder):
        present = inspect(spec.folder, spec.name)
        config = spec.folder / "supervisor.json"
        if present and present.supervisor_pid and present.placed and supervisor.read(str(config)) == text:
            return present
        _end(spec.folder, spec.name)
        supervisor.write(str(config), text)
        # -I -S: no site packages, no folder of the caller on the path; that halves the daemon's memory.
        argv = [sys.executable, "-I", "-S", str(PROGRAM), "--config", str(config)]
        with netns.enter(spec.netns):
            try:
                commands.run(argv, START_TIMEOUT, env={"PATH": PATH, supervisor.MARK: str(spec.folder)}, cwd="/")
            except commands.CommandError as error:
                raise Permanent(error.stderr.strip() or str(error)) from error
        started = inspect(spec.folder, spec.name)
    if started is None:
        raise Permanent(f"start {spec.name}: it ended at once; see {spec.folder / (spec.name + '.log')}")
    return started


def inspect(folder: Path, name: str) -> Observed | None:
    """The process as it is; None when neither it nor its supervisor lives."""
    own = supervisor.alive(supervisor.read(str(folder / "supervisor.pid")))
    line = supervisor.read(str(folder / f"{name}.pid"))
    pid = supervisor.alive(line)
    if not own and not pid:
        return None
    config = _read_config(folder)
    where = str(config.get("netns", ""))
    argv = config.get("argv", ())
    return Observed(
        name=name,
        argv=tuple(argv) if isinstance(argv, list) else (),
        netns=where,
        supervisor_pid=own,
        pid=pid,
        restarts=int((line.split() + ["0"] * 4)[3]),
        placed=_placed(pid or own, where),
    )


def stop(folder: Path, name: str) -> None:
    """Neither supervisor nor program lives, and their pid records are gone; absent is success. Logs stay."""
    if folder.is_dir():
        with _alone(folder):
            _end(folder, name)


def remove(folder: Path, name: str) -> None:
    """Stop, and remove the folder with its logs."""
    stop(folder, name)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise Permanent(f"remove {folder}: files remain")


def marked(folder: Path) -> tuple[int, ...]:
    """Pids of living processes that a supervisor of this folder, or of one below it, started; recorded or not."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _belongs(entry, folder):
            found.append(int(entry.name))
    return tuple(sorted(found))


def end_marked(folder: Path) -> tuple[int, ...]:
    """End every process of `marked`; returns their pids. Raises MizarError when one survives."""
    pids = marked(folder)
    lines = {pid: supervisor.record(pid) for pid in pids}
    # Supervisors first: one would restart a program that was just ended.
    keepers = [pid for pid in pids if str(PROGRAM) in _words(Path(f"/proc/{pid}"), "cmdline")]
    for wave in (keepers, [pid for pid in pids if pid not in keepers]):
        with ThreadPoolExecutor(len(wave) or 1, thread_name_prefix="end") as pool:
            list(pool.map(supervisor.end, (lines[pid] for pid in wave)))
    left = [str(pid) for pid in pids if supervisor.alive(lines[pid])]
    if left:
        raise MizarError(f"end processes of {folder}: pid {', '.join(left)} still runs")
    return pids


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One start or stop of a folder at a time, on the whole machine."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _end(folder: Path, name: str) -> None:
    # The supervisor needs its program's patience and a little more to end it in an orderly way.
    supervisor.end(supervisor.read(str(folder / "supervisor.pid")), supervisor.TERM_PATIENCE + 0.5)
    supervisor.end(supervisor.read(str(folder / f"{name}.pid")))
    for leftover in ("supervisor.pid", f"{name}.pid"):
        (folder / leftover).unlink(missing_ok=True)


def _belongs(entry: Path, folder: Path) -> bool:
    for word in _words(entry, "environ"):
        key, _, value = word.partition("=")
        if key == supervisor.MARK:
            return Path(value) == folder or folder in Path(value).parents
    return False


def _words(entry: Path, file: str) -> list[str]:
    try:
        return (entry / file).read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []  # it has just ended


def _placed(pid: int, where: str) -> bool:
    if not where:
        return True
    wanted = netns.identity(Path(where))
    return wanted is not None and netns.identity(Path(f"/proc/{pid}/ns/net")) == wanted


def _config(spec: Spec) -> str:
    if not spec.argv or not Path(spec.argv[0]).is_absolute():
        raise Permanent(f"start {spec.name}: {spec.argv[:1]!r} is not an absolute path of a program")
    raw = {
        "name": spec.name,
        "argv": list(spec.argv),
        "env": dict(spec.env),
        "folder": str(spec.folder),
        "netns": str(spec.netns or ""),
    }
    return json.dumps(raw, indent=2, sort_keys=True) + "\n"


def _read_config(folder: Path) -> dict[str, object]:
    try:
        raw = json.loads(supervisor.read(str(folder / "supervisor.json")) or "{}")
    except ValueError:
        return {}
    return raw if isinstance(raw, dict) else {}
