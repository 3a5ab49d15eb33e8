"""Network namespaces: made, entered, removed. The only caller of setns and unshare for them.

A namespace is named by the absolute path of its bind mount (`model.places.StackPlaces.netns_path`), or by any path that
the kernel shows it at (/proc/<pid>/ns/net). A network namespace belongs to a thread: `enter` moves the calling thread
only, and sockets keep the namespace they were opened in after the thread has left it.

Called by the emulation, the agent (pods), the probes and `kernel.links`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from node_agent.kernel import commands
from node_agent.model.errors import Permanent

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2
NS_GET_NSTYPE = 0xB703
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
OWN = Path("/proc/thread-self/ns/net")

_libc = ctypes.CDLL(None, use_errno=True)


def create(path: Path, *, ipv6: bool = False) -> int:
    """Make a namespace with its loopback up and hold it by a bind mount at `path`; adopt the one that is there.

    Returns its identity. IPv6 is off in it unless asked for. Raises Permanent.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    present = identity(path)
    if present is not None:
        return present
    # A plain file here is what a killed create left: the mount simply goes on top of it.
    os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o444))

    def make() -> None:
        _call("make network namespace", _libc.unshare(CLONE_NEWNET))
        if not ipv6:
            disable_ipv6()
        _loopback_up()
        _call(
            f"mount network namespace {path}",
            _libc.mount(bytes(OWN), bytes(path), b"none", ctypes.c_ulong(MS_BIND), None),
        )

    # In a thread of its own, which ends here: no child process, and no thread of ours is left in the new namespace.
    _in_thread(make)
    made = identity(path)
    if made is None:
        raise Permanent(f"make network namespace {path}: no namespace is mounted there")
    return made


def delete(path: Path) -> None:
    """Let go of the namespace at `path`; absent is success. Its devices go once nobody else holds it.

    Removes the folder /run/netns too when it is empty and no mount of its own.
    """
    while True:
        if _libc.umount2(bytes(path), MNT_DETACH) == 0:
            continue  # two creators at once may have mounted twice
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOENT):
            break
        raise Permanent(f"unmount network namespace {path}: {os.strerror(code)}")
    path.unlink(missing_ok=True)
    if not os.path.ismount(path.parent):
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def identity(path: Path) -> int | None:
    """Inode number of the network namespace at `path`: equal for two paths of one namespace. None: there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if fcntl.ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET:
            return None
        return os.fstat(fd).st_ino
    except OSError:
        return None  # a plain file, the leftover of a killed create
    finally:
        os.close(fd)


def exists(path: Path) -> bool:
    """Whether a network namespace (not merely a file) is at `path`."""
    return identity(path) is not None


def listed(prefix: str, folder: Path) -> tuple[Path, ...]:
    """Paths in `folder` whose name begins with `prefix`, sorted; leftover plain files among them."""
    try:
        return tuple(sorted(p for p in folder.iterdir() if p.name.startswith(prefix) and p.is_file()))
    except FileNotFoundError:
        return ()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A file descriptor of the namespace at `path`, closed afterwards. Raises Permanent."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Permanent(f"open network namespace {path}: {error.strerror}") from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def enter(path: Path | None) -> Iterator[None]:
    """The calling thread is inside the namespace for the length of the block; None: it stays where it is.

    Not for coroutines that give up control inside the block. Raises Permanent.
    """
    if path is None:
        yield
        return
    with opened(OWN) as back, opened(path) as fd:
        _call(f"enter network namespace {path}", _libc.setns(fd, CLONE_NEWNET))
        try:
            yield
        finally:
            _call("return to the thread's network namespace", _libc.setns(back, CLONE_NEWNET))


def move(path: Path) -> None:
    """Put the calling thread into the namespace for good: for a process of one thread, at its start."""
    with opened(path) as fd:
        _call(f"enter network namespace {path}", _libc.setns(fd, CLONE_NEWNET))


def call_in(path: Path | None, function: Callable[[], T]) -> T:
    """The function's result, called inside the namespace by a thread of its own: the caller's thread never moves."""

    def inside() -> T:
        with enter(path):
            return function()

    return _in_thread(inside)


def run_in(
    path: Path | None, argv: Sequence[str], timeout: float, *, check: bool = True, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program inside the namespace (None: here), as `commands.run`. Raises CommandError, Permanent."""
    with enter(path):
        return commands.run(argv, timeout, check=check, stdin=stdin)


def set_sysctl(path: Path | None, key: str, value: str) -> None:
    """Write a net sysctl of that namespace; `key` with slashes: "net/ipv4/ip_forward". Raises Permanent."""
    with enter(path):
        try:
            Path("/proc/sys", key).write_text(value)
        except OSError as error:
            raise Permanent(f"set sysctl {key} to {value}: {error.strerror}") from error


def sysctl(path: Path | None, key: str) -> str | None:
    """Value of a net sysctl of that namespace; None: there is no such key."""
    with enter(path):
        try:
            return Path("/proc/sys", key).read_text().strip()
        except FileNotFoundError:
            return None


def disable_ipv6(path: Path | None = None) -> None:
    """No IPv6 on present and later interfaces of that namespace; nothing to do on a kernel without IPv6."""
    # One write: `all` carries `default` and every interface along.
    if sysctl(path, "net/ipv6/conf/all/disable_ipv6") is not None:
        set_sysctl(path, "net/ipv6/conf/all/disable_ipv6", "1")


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        raw = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH22x", b"lo", 0))
        flags = struct.unpack("16sH22x", raw)[1] | IFF_UP
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags))


def _in_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:  # handed to the caller's thread below
            errors.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _call(what: str, result: int) -> None:
    if result != 0:
        raise Permanent(f"{what}: {os.strerror(ctypes.get_errno())}")
