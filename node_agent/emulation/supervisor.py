"""Keeps one program running: the process behind an agent, a controller or a workload.

    python -I -S supervisor.py --config FOLDER/supervisor.json      (or: python -m node_agent.emulation.supervisor ...)

`emulation.processes` starts, inspects and stops it, and writes the configuration:
    {"name": "agent", "argv": [...], "env": {...}, "folder": "/run/mizar/<id>/...", "netns": "/run/netns/..." or ""}
In `folder` it keeps supervisor.pid, <name>.pid and <name>.log. It turns itself into a daemon; its starter returns once
the program runs, or fails with the reason. A program that ends is started again: at once, then with growing pauses of
at most 1 s. SIGTERM ends the program, then the supervisor. A supervisor that is killed leaves the program alone; the
next one stops that orphan by its recorded pid and start time, and starts afresh.

One process of these runs per host and per workload, so it imports little and nothing of this project.
"""

# pathlib would add a tenth to the memory of every supervisor, and more to its start.
# ruff: noqa: PTH105, PTH108, PTH116, PTH118, PTH123

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time

LOG_LIMIT = 1 << 20  # bytes; of a log above it the end is put aside, and it begins anew
LOG_LOOK = 30.0  # seconds between two looks at its size
# Seconds between restarts of a program that does not stay up. With the time an agent takes to start, it is back within
# 2 s even when it is killed over and over.
PAUSE_FIRST, PAUSE_MOST = 0.1, 1.0
STEADY = 5.0  # seconds after which a program counts as having stayed up
TERM_PATIENCE = 1.5  # seconds between SIGTERM and SIGKILL
SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
USAGE = "usage: python -m node_agent.emulation.supervisor --config FILE"
# In the environment of supervisor and program: tells whose they are even when no pid was recorded.
MARK = "MIZAR_FOLDER"


# --- pid records: one line "pid start-time boot-id restarts" ---


def record(pid: int, restarts: int = 0) -> str:
    """What is written down about a living process; the start time tells it from a later one of the same pid."""
    return f"{pid} {start_time(pid)} {_boot()} {restarts}\n"


def alive(line: str) -> int:
    """The recorded process' pid if exactly that process still lives, else 0."""
    words = line.split()
    if len(words) < 3 or not words[0].isdigit() or words[2] != _boot():
        return 0
    return int(words[0]) if words[1] != "0" and start_time(int(words[0])) == words[1] else 0


def start_time(pid: int) -> str:
    """Clock ticks from boot to the process' start, from /proc/<pid>/stat; "0" for none and for a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The name, in brackets, may hold anything; the fields are counted from behind it.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return "0"
    return "0" if fields[0] in "ZX" else fields[19]


def read(path: str) -> str:
    """The file's text, "" if there is none."""
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(path: str, text: str) -> None:
    """Put the text in place in one step: a reader sees the old file or the new one. Mode 0600: for root alone."""
    aside = f"{path}.{os.getpid()}.new"
    with open(aside, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
    os.replace(aside, path)


def end(line: str, patience: float = TERM_PATIENCE) -> None:
    """End the recorded process and its group: SIGTERM, after `patience` seconds SIGKILL; gone already is success."""
    pid = alive(line)
    if not pid:
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if alive(line) != pid:  # the handle may be of a successor: look again now that it cannot change any more
            return
        for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
            if number == signal.SIGKILL and os.getpgid(pid) == pid:
                os.killpg(pid, number)  # what it started goes along
            else:
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], wait)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def _boot() -> str:
    return read("/proc/sys/kernel/random/boot_id").strip()


# --- the daemon ---


class Supervisor:
    """One program's life. `config`: as in the module's docstring."""

    def __init__(self, config: dict) -> None:  # type: ignore[type-arg]
        self.name: str = config["name"]
        self.argv: list[str] = config["argv"]
        self.folder: str = config["folder"]
        self.env: dict[str, str] = {**config["env"], MARK: self.folder}
        self.pid_file = os.path.join(self.folder, f"{self.name}.pid")
        self.own_file = os.path.join(self.folder, "supervisor.pid")
        self.log_file = os.path.join(self.folder, f"{self.name}.log")
        self.restarts = 0

    def run(self, started: int) -> int:
        """Until SIGTERM. Writes "ok" or the reason of a failed first start to the descriptor `started`."""
        lock = os.open(os.path.join(self.folder, "supervisor.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.write(started, f"supervise {self.name}: another supervisor holds {self.folder}".encode())
            return 1
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        write(self.own_file, record(os.getpid()))
        end(read(self.pid_file))  # the orphan of a killed supervisor
        pid, failure = self.spawn()
        os.write(started, (failure or "ok").encode())
        os.close(started)
        if failure:
            self.forget()
            return 1
        return self.watch(pid)

    def watch(self, pid: int) -> int:
        pause, began = 0.0, time.monotonic()
        while True:
            if not self.wait(None, pid):
                break
            lasted = time.monotonic() - began
            pause = 0.0 if lasted >= STEADY else min(max(pause * 2, PAUSE_FIRST), PAUSE_MOST) if self.restarts else 0.0
            self.say(f"ended after {lasted:.1f} s; starting again in {pause:.1f} s")
            if pause and not self.wait(pause, 0):
                pid = 0
                break
            self.restarts += 1
            began = time.monotonic()
            pid, failure = self.spawn()
            if failure:
                self.say(failure)
        if pid:
            end(read(self.pid_file))
        self.forget()
        return 0

    def wait(self, seconds: float | None, pid: int) -> bool:
        """True: the program ended, or the time is up. False: the supervisor is to end."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            if self.reap(pid):
                return True
            left = LOG_LOOK if until is None else max(until - time.monotonic(), 0)
            got = signal.sigtimedwait(SIGNALS, left)
            if got is None:
                if until is not None:
                    return True
                with contextlib.suppress(OSError):
                    self.trim()
            elif got.si_signo in (signal.SIGTERM, signal.SIGINT):
                return False

    def reap(self, pid: int) -> bool:
        """Collect ended children; whether the program (`pid`, 0 for none) is among them or never started (-1)."""
        if pid < 0:
            return True
        while True:
            try:
                done, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return pid != 0
            if not done:
                return False
            if done == pid:
                self.say(f"pid {pid}: exit code {os.waitstatus_to_exitcode(status)}")
                return True

    def spawn(self) -> tuple[int, str]:
        """Start the program. Returns its pid and "", or -1 and the reason: a full disk, say, must not end us."""
        pipes: list[int] = []
        try:
            self.open_log()
            pipes += os.pipe()
            pipes += os.pipe()
            go, go_write, said, said_write = pipes
            pid = os.fork()
            if pid == 0:
                os.close(go_write)
                self.become(go, said_write)
            os.close(said_write)
            pipes.remove(said_write)
            write(self.pid_file, record(pid, self.restarts))
            os.write(go_write, b"g")  # our end of `go` is open still: no EPIPE from a child that was just killed
            failure = os.read(said, 4096).decode(errors="replace")  # closed unwritten by a successful exec
            if failure:
                os.waitpid(pid, 0)
            return (-1, failure) if failure else (pid, "")
        except OSError as error:
            return -1, f"start {self.name}: {error}"
        finally:
            for end_of_pipe in pipes:
                os.close(end_of_pipe)

    def become(self, go: int, said: int) -> None:
        """In the child: turn into the program. Does not return."""
        try:
            # Waits until its pid is written down: a supervisor killed in between leaves no unknown process.
            if os.read(go, 1):
                os.setpgid(0, 0)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                os.execvpe(self.argv[0], self.argv, self.env)
        except BaseException as error:
            os.write(said, f"start {self.name}: run {self.argv[0]}: {error}".encode())
        finally:
            os._exit(127)

    def trim(self) -> None:
        """Put the end of a long log aside. Whoever writes to it goes on: at its new end, as all append. What is written
        in this moment is lost."""
        with contextlib.suppress(FileNotFoundError), open(self.log_file, "r+b", buffering=0) as log:
            size = os.fstat(log.fileno()).st_size
            if size <= LOG_LIMIT:
                return
            log.seek(size - LOG_LIMIT)
            with open(self.log_file + ".1", "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as aside:
                aside.write(log.read(LOG_LIMIT))
            log.truncate(0)

    def open_log(self) -> None:
        self.trim()
        log = os.open(self.log_file, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"{time.strftime('%Y-%m-%dT%H:%M:%S')} supervisor: {self.name}: {text}\n".encode())

    def forget(self) -> None:
        for path in (self.pid_file, self.own_file):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def daemonize(supervisor: Supervisor) -> int:
    """Run the supervisor as a daemon. In the calling process: wait for the first start and return its exit code."""
    ready, started = os.pipe()
    first = os.fork()
    if first:
        os.close(started)
        os.waitpid(first, 0)
        answer = b""
        while chunk := os.read(ready, 4096):
            answer += chunk
        if answer == b"ok":
            return 0
        reason = answer.decode(errors="replace") or f"supervise {supervisor.name}: ended before the start"
        print(reason, file=sys.stderr)
        return 1
    code = 1
    try:
        os.close(ready)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        os.umask(0o077)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        code = supervisor.run(started)
    except Exception as error:
        os.write(started, f"supervise {supervisor.name}: {error}".encode())
    os._exit(code)


def main(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        print(f"{USAGE}\n\nKeeps one program running: see the top of {__file__}.")
        return 0
    if len(arguments) != 2 or arguments[0] != "--config":
        print(USAGE, file=sys.stderr)
        return 2
    try:
        with open(arguments[1]) as file:
            config = json.load(file)
        supervisor = Supervisor(config)
        if config["netns"] and os.stat(config["netns"]).st_ino != os.stat("/proc/self/ns/net").st_ino:
            # Started by hand; `emulation.processes` starts us inside.
            import pathlib

            from node_agent.kernel import netns

            netns.move(pathlib.Path(config["netns"]))
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        print(f"read {arguments[1]}: {error!r}", file=sys.stderr)
        return 2
    return daemonize(supervisor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
