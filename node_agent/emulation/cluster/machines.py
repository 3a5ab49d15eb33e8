"""Machines: what the host of an emulated network lacks of a computer (own root, processes, names, cgroups).

Called by `node` and the providers; `machine` is the program.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node_agent.emulation import processes, supervisor
from node_agent.emulation.cluster import machine
from node_agent.kernel import cgroups, commands, netns
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces

START_PATIENCE = 15.0  # seconds
MODULE = "node_agent.emulation.cluster.machine"
# What the computer and its machines have in common: programs and their libraries, and who is who.
SYSTEM = ("bin", "sbin", "usr", "lib", "lib32", "lib64", "libx32")
ETC = (
    "alternatives", "ca-certificates", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
    "nsswitch.conf", "passwd", "pki", "protocols", "services", "ssl",
)  # fmt: skip
# Written by the kubelet, true for the whole computer: the machine gets values of its own.
SYSCTLS = {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}


@dataclass(frozen=True, kw_only=True)
class Bind:
    """`source`: a path of the computer; `path`: of the machine. `deep`: with what is mounted below it."""

    source: str
    path: str
    read_only: bool = False
    deep: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What `machine` reads. `root`: where it builds the new root; `links`, `files`: path of the machine -> target,
    text; `folders`: empty ones."""

    folder: str
    root: str
    hostname: str
    cgroup: str
    links: Mapping[str, str]
    files: Mapping[str, str]
    folders: tuple[str, ...]
    binds: tuple[Bind, ...]
    sysctls: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """`pid`: of the machine's first process, 0 while it is down. `restarts`: since its supervisor began."""

    name: str
    pid: int
    restarts: int
    placed: bool


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What a machine is to have beside the system: programs, mostly."""

    binds: tuple[Bind, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)


def root(places: StackPlaces, host: str) -> Path:
    """Folder of all that is the machine's: below it one folder per process, and its disk."""
    return places.host(host).root / "node"


def folder(places: StackPlaces, host: str) -> Path:
    return root(places, host) / "machine"


def disk(places: StackPlaces, host: str) -> Path:
    """What outlives a restart of the machine: /var, /etc/cni and /opt/cni of it are folders in here."""
    return root(places, host) / "disk"


def cgroup(places: StackPlaces, host: str) -> str:
    return f"mizar-{places.id}/{host}"


def make(places: StackPlaces, host: str, extras: Extras | None = None) -> Observed:
    """The machine of that host, running and complete. Raises Permanent."""
    if not netns.exists(places.netns_path(host)):
        raise Permanent(f"make machine {host}: the host has no namespace")
    layout = _layout(places, host, extras or Extras())
    own = folder(places, host)
    for path in (own, *(Path(bind.source) for bind in _own_binds(places, host))):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(layout), indent=2, sort_keys=True) + "\n"
    supervisor.write(str(own / "machine.json"), text)
    processes.start(_spec(places, host, own, "machine", ("--config", str(own / "machine.json")), text))
    until = time.monotonic() + START_PATIENCE
    while not (observed := inspect(places, host)) or not observed.pid:
        if time.monotonic() > until:
            raise Permanent(f"make machine {host}: it does not come up; see {own / 'machine.log'}")
        time.sleep(0.01)
    return observed


def inspect(places: StackPlaces, host: str) -> Observed | None:
    """The machine as it is; None: nobody keeps one running."""
    own = folder(places, host)
    kept = processes.inspect(own, "machine")
    if kept is None or not kept.supervisor_pid:
        return None
    pid = supervisor.alive(supervisor.read(str(own / machine.INIT)))
    return Observed(name=host, pid=pid, restarts=kept.restarts, placed=kept.placed)


def remove(places: StackPlaces, host: str) -> None:
    """End the machine and everything on it, and remove its files and cgroups; absent is success."""
    processes.remove(folder(places, host), "machine")
    cgroups.remove(cgroup(places, host))
    own = root(places, host)
    shutil.rmtree(own, ignore_errors=True)
    if own.exists():
        raise Permanent(f"remove machine {host}: files remain in {own}")


def program(
    places: StackPlaces, host: str, name: str, argv: tuple[str, ...], *, env: Mapping[str, str], config: str = ""
) -> processes.Spec:
    """The spec of a daemon on the machine. `argv[0]`: a path of the machine. Another `config` is a restart."""
    arguments = ("--enter", str(folder(places, host)), *argv)
    return _spec(places, host, root(places, host) / name, name, arguments, config, env)


def run(places: StackPlaces, host: str, argv: tuple[str, ...], timeout: float) -> str:
    """What the program printed, run on the machine to its end. Raises CommandError."""
    with netns.enter(places.netns_path(host)):
        return commands.run(
            _argv("--enter", str(folder(places, host)), *argv), timeout, env=environment(), cwd="/"
        ).stdout


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What `machine` needs to run, and the PATH of programs on a machine."""
    paths = f"/opt/containerd/bin:/opt/kubernetes/bin:{processes.PATH}"
    # HOME: containerd's client and kubectl ask for it.
    base = {"PATH": paths, "HOME": "/root", "PYTHONPATH": str(processes.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**base, **(extra or {})}


def _spec(
    places: StackPlaces,
    host: str,
    own: Path,
    name: str,
    arguments: tuple[str, ...],
    config: str,
    env: Mapping[str, str] | None = None,
) -> processes.Spec:
    digest = hashlib.sha256(config.encode()).hexdigest()
    return processes.Spec(
        folder=own,
        name=name,
        argv=_argv(*arguments),
        netns=places.netns_path(host),
        env={**environment(env), "MIZAR_CONFIG_DIGEST": digest},
    )


def _argv(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-m", MODULE, *arguments)


def _layout(places: StackPlaces, host: str, extras: Extras) -> Layout:
    links = {f"/{name}": str(Path("/", name).readlink()) for name in SYSTEM if Path("/", name).is_symlink()}
    shared = tuple(
        Bind(source=f"/{name}", path=f"/{name}", read_only=True)
        for name in (*SYSTEM, *(f"etc/{entry}" for entry in ETC))
        if Path("/", name).exists() and f"/{name}" not in links
    )
    identity = hashlib.sha256(f"{places.id}/{host}".encode()).hexdigest()[:32]
    return Layout(
        folder=str(folder(places, host)),
        root=str(root(places, host) / "root"),
        hostname=host,
        cgroup=cgroup(places, host),
        links={**links, "/var/run": "/run", "/etc/mtab": "/proc/self/mounts", **extras.links},
        files={
            "/etc/hostname": f"{host}\n",
            "/etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {host}\n",
            "/etc/machine-id": f"{identity}\n",
            "/etc/resolv.conf": "",
        },
        folders=("/root", "/run/netns"),
        binds=(
            *shared,
            Bind(source="/dev", path="/dev", deep=True),
            *_own_binds(places, host),
            *extras.binds,
        ),
        sysctls=SYSCTLS,
    )


def _own_binds(places: StackPlaces, host: str) -> tuple[Bind, ...]:
    """Folders of the stack that the machine sees under the usual names. Pins lie on the stack's BPF filesystem, so they
    are found from outside too and outlive the machine's restart; so does what an agent keeps in /run/mizar."""
    base = disk(places, host)
    return (
        Bind(source=str(base / "var"), path="/var"),
        Bind(source=str(base / "etc-cni"), path="/etc/cni"),
        Bind(source=str(base / "opt-cni"), path="/opt/cni"),
        Bind(source=str(places.host(host).pins), path="/sys/fs/bpf"),
        Bind(source=str(places.host(host).root), path="/run/mizar"),
    )
