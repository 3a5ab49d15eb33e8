"""An emulated machine: a host's network namespace completed by a root file system, names, processes and cgroups of its
own. One process; when it ends, everything that ran on the machine ends with it, and every mount of it is gone.

    python -S -m node_agent.emulation.cluster.machine --config FOLDER/machine.json       be the machine
    python -S -m node_agent.emulation.cluster.machine --enter FOLDER PROGRAM [ARGUMENT...]   run a program on it

Both are kept running by `emulation.supervisor`, inside the host's network namespace; `machines` writes the
configuration (its dataclass `Layout` tells the fields). The machine's first process is a child whose record lies in
FOLDER/init.pid, in the supervisor's format, from the moment that the machine is complete. A supervisor ends us by
SIGTERM or SIGKILL; either way the kernel ends the child.

Several of these run per machine, so this imports little.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from node_agent.emulation import supervisor
from node_agent.kernel import cgroups
from node_agent.model.errors import MizarError

INIT = "init.pid"
LEAF = "machine"  # the cgroup of the machine's own daemons: in version 2 only leaves may hold processes
ENTER_PATIENCE = 10.0  # seconds in which a machine that is just being restarted is waited for

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID = 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_PRIVATE, MS_SHARED, MNT_DETACH = 1 << 18, 1 << 20, 2
PR_SET_PDEATHSIG = 1
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_libc = ctypes.CDLL(None, use_errno=True)


# --- being the machine ---


def be(config: dict[str, Any]) -> int:
    """Live as the machine until told to end (0) or until its first process ends (1)."""
    init = Path(config["folder"], INIT)
    init.unlink(missing_ok=True)
    cgroups.remove(config["cgroup"])  # of the machine's last life: a restart is a reboot
    cgroups.ensure(config["cgroup"])
    cgroups.enter(config["cgroup"])
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # The child takes these; the others it makes itself, since this process goes on seeing the computer's files.
    _call("make namespaces", _libc.unshare(NEWCGROUP | NEWPID))
    leaf = f"{config['cgroup']}/{LEAF}"
    cgroups.ensure(leaf)
    cgroups.enter(leaf)
    ready, complete = os.pipe()
    child = _fork(lambda: _first(config, complete))
    os.close(complete)
    failure = b""
    while chunk := os.read(ready, 4096):
        failure += chunk
    if failure != b"ok":
        sys.stderr.write(failure.decode(errors="replace") + "\n")
        os.kill(child, signal.SIGKILL)
        return 1
    supervisor.write(str(init), supervisor.record(child))
    try:
        return _attend(child, forward=False)
    finally:
        init.unlink(missing_ok=True)


def _first(config: dict[str, Any], complete: int) -> NoReturn:
    """Process 1 of the machine: complete it, say so, then reap whatever loses its parent."""
    try:
        _call("make namespaces", _libc.unshare(NEWNS | NEWUTS | NEWIPC))
        # Nothing is mounted outside: our namespace began as a copy that shares with its origin.
        _mount("", "/", "", MS_REC | MS_PRIVATE)
        name = config["hostname"].encode()
        _call("set host name", _libc.sethostname(name, len(name)))
        _root(config)
    except Exception as error:
        os.write(complete, f"make machine {config['hostname']}: {error}".encode())
        os._exit(1)
    os.write(complete, b"ok")
    os.close(complete)
    while True:
        signal.sigwaitinfo({signal.SIGCHLD})
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _root(config: dict[str, Any]) -> None:
    """Build the machine's root and move into it; the old one is out of reach afterwards."""
    root = Path(config["root"])
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _mount("tmpfs", root, "tmpfs", MS_NOSUID, "mode=755")
    for path, text in config["files"].items():
        _place(root, path).write_text(text)
    for path in config["folders"]:
        _place(root, path).mkdir(parents=True, exist_ok=True)
    _folder(root, "/tmp").chmod(0o1777)
    _mount("proc", _folder(root, "/proc"), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _sys(root)
    for bind in config["binds"]:
        _bind(bind["source"], _place(root, bind["path"]), read_only=bind["read_only"], deep=bind["deep"])
    for path, target in config["links"].items():
        link = _place(root, path)
        link.unlink(missing_ok=True)  # on the machine's disk it is there since its last life
        link.symlink_to(target)
    for key, value in config["sysctls"].items():
        # The machine's programs write these, but they are the whole computer's: a file stands in for each.
        stand_in = _place(root, f"/run/sysctl/{key}")
        stand_in.write_text(f"{value}\n")
        _bind(stand_in, root / "proc/sys" / key)
    old = _folder(root, "/old")
    number = SYS_PIVOT_ROOT[os.uname().machine]
    _call(f"change root to {root}", _libc.syscall(number, os.fsencode(root), os.fsencode(old)))
    os.chdir("/")
    _call("let go of the old root", _libc.umount2(b"/old", MNT_DETACH))
    Path("/old").rmdir()
    _mount("", "/", "", MS_REC | MS_SHARED)  # containers' mounts may show on the machine, where they ask for it


def _sys(root: Path) -> None:
    """/sys of this network namespace, and the cgroups with the machine's own as their root."""
    sys_folder = _folder(root, "/sys")
    _mount("sysfs", sys_folder, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    top = sys_folder / "fs/cgroup"
    mounted = cgroups.hierarchies()
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    if [hierarchy.version for hierarchy in mounted] == [2]:
        _mount("cgroup2", top, "cgroup2", flags)
        return
    _mount("tmpfs", top, "tmpfs", flags, "mode=755")
    for hierarchy in mounted:
        kind = "cgroup" if hierarchy.version == 1 else "cgroup2"
        folder = top / hierarchy.path.name
        folder.mkdir()
        _mount(kind, folder, kind, flags, hierarchy.options)
        for other in hierarchy.path.parent.iterdir():  # "cpu" beside "cpu,cpuacct"
            if other.is_symlink() and other.resolve() == hierarchy.path:
                (top / other.name).symlink_to(folder.name)


# --- running a program on the machine ---


def run(folder: Path, argv: list[str]) -> int:
    """Run the program on the machine, handing on signals; its exit code."""
    config = json.loads((folder / "machine.json").read_text())
    init = _living(folder)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    spaces = [(kind, os.open(f"/proc/{init}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)) for kind, name in _SPACES]
    # Only children come into a pid namespace, so that this process stays outside, where its supervisor sees it.
    pids = os.open(f"/proc/{init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    _call("enter pid namespace", _libc.setns(pids, NEWPID))

    def inside() -> NoReturn:
        try:
            cgroups.enter(f"{config['cgroup']}/{LEAF}")
            for kind, fd in spaces:
                _call("enter machine", _libc.setns(fd, kind))
            os.chdir("/")
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execvpe(argv[0], argv, os.environ)
        except Exception as error:
            sys.stderr.write(f"run {argv[0]} on {config['hostname']}: {error}\n")
            sys.stderr.flush()
        os._exit(127)

    return _attend(_fork(inside), forward=True)


_SPACES = ((NEWCGROUP, "cgroup"), (NEWUTS, "uts"), (NEWIPC, "ipc"), (NEWNS, "mnt"))


def _living(folder: Path) -> int:
    """Pid of the machine's first process. Raises MizarError when it does not come up in time."""
    until = time.monotonic() + ENTER_PATIENCE
    while not (pid := supervisor.alive(supervisor.read(str(folder / INIT)))):
        if time.monotonic() > until:
            raise MizarError(f"enter machine {folder}: it does not run")
        time.sleep(0.05)
    return pid


# --- both ---


def _fork(child: Callable[[], NoReturn]) -> int:
    """A child that ends when we do, also when we are killed."""
    theirs, _ours = os.pipe()  # our end is never written to: it closes when we end
    pid = os.fork()
    if pid == 0:
        os.close(_ours)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if not select.select([theirs], [], [], 0)[0]:  # readable: we ended before the line above took effect
            child()
        os._exit(1)
    os.close(theirs)
    return pid


def _attend(child: int, *, forward: bool) -> int:
    """Wait for the child; told to end, tell the child (`forward`) or kill it. The exit code to end with."""
    told = False
    while True:
        number = signal.sigwait(SIGNALS)
        if number != signal.SIGCHLD:
            told = True
            os.kill(child, number if forward else signal.SIGKILL)
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return 0 if told and not forward else abs(os.waitstatus_to_exitcode(status)) if forward else 1


def _place(root: Path, path: str) -> Path:
    """Where the path of the machine is for now, its folder made."""
    place = root / path.lstrip("/")
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    return place


def _folder(root: Path, path: str) -> Path:
    place = _place(root, path)
    place.mkdir(mode=0o755, exist_ok=True)
    return place


def _bind(source: str | Path, target: str | Path, *, read_only: bool = False, deep: bool = False) -> None:
    if Path(source).is_dir():
        Path(target).mkdir(mode=0o755, parents=True, exist_ok=True)
    else:
        Path(target).touch()
    _mount(source, target, "", MS_BIND | (MS_REC if deep else 0))
    if read_only:
        _mount("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY)


def _mount(source: str | Path, target: str | Path, kind: str, flags: int, options: str = "") -> None:
    number = _libc.mount(
        os.fsencode(source) or None,
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _call(f"mount {kind or source} at {target}", number)


def _call(what: str, result: int) -> None:
    if result != 0:
        raise MizarError(f"{what}: {os.strerror(ctypes.get_errno())}")


def main(arguments: list[str]) -> int:
    os.umask(0o022)  # a supervisor's is for secrets; here users of containers must be able to read
    try:
        if len(arguments) == 2 and arguments[0] == "--config":
            return be(json.loads(Path(arguments[1]).read_text()))
        if len(arguments) > 2 and arguments[0] == "--enter":
            return run(Path(arguments[1]), arguments[2:])
    except (MizarError, OSError, ValueError, KeyError) as error:
        print(f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error, file=sys.stderr)
        return 1
    print("usage: machine --config FILE | --enter FOLDER PROGRAM [ARGUMENT...]", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
