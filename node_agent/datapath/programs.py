"""Compiled programs into the kernel and onto the uplink's XDP hook, by way of pins that outlive the agent.

    <pins>/maps/<map>             shared by every program of the host
    <pins>/progs/<digest>/<name>  loaded programs; the digest is that of the compiled files
    <pins>/links/uplink           the XDP link; whoever removes this pin detaches the program
    <pins>/layout/<digest>        an empty folder: the attached programs share maps of this layout (layout.DIGEST)

Called by the agent (`agent.kernel` adds the TC side, which is netlink's) and tests. A restarted agent finds programs of
its digest and loads nothing. Nothing here detaches on the way out. Everything acts in the thread's network namespace.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from node_agent.datapath import libbpf
from node_agent.datapath.layout import DIGEST, MAPS
from node_agent.datapath.library import BpfError
from node_agent.model.config import UplinkMode

TRANSIT_XDP, TRANSIT_TC, ENDPOINT_TC = "transit_xdp", "transit_tc", "endpoint_tc"
OBJECTS = {"transit.bpf.o": (TRANSIT_XDP, TRANSIT_TC), "endpoint.bpf.o": (ENDPOINT_TC,)}
UPLINK_LINK = "uplink"


@dataclass(frozen=True)
class Program:
    """A loaded program: an open descriptor, the kernel's id, and its tag (16 hex digits)."""

    name: str
    fd: int
    id: int
    tag: str


@dataclass(frozen=True)
class ProgramSet:
    """Every program of one digest, by name. `close` lets go of the descriptors, not of the programs."""

    digest: str
    programs: dict[str, Program]

    def __getitem__(self, name: str) -> Program:
        return self.programs[name]

    def close(self) -> None:
        for program in self.programs.values():
            os.close(program.fd)


@dataclass(frozen=True)
class XdpState:
    """What runs on a device's XDP hook, as read back: "native" or "generic", and the program's id and tag."""

    mode: UplinkMode
    id: int
    tag: str


def digest(objects: Path) -> str:
    """12 hex digits for the compiled files in this folder. Raises BpfError naming the missing one."""
    total = hashlib.sha256()
    for name in OBJECTS:
        try:
            total.update((objects / name).read_bytes())
        except OSError as error:
            raise BpfError(f"read {objects / name}", error.errno or errno.EIO) from error
    return total.hexdigest()[:12]


def ensure_loaded(objects: Path, pins: Path, sizes: dict[str, int] | None = None) -> ProgramSet:
    """The programs of the compiled files, loaded and pinned; those of an earlier run are adopted if they still share
    the pinned maps. `sizes`: max_entries of maps that are made now. Raises BpfError with the verifier's words."""
    wanted = digest(objects)
    folder = pins / "progs" / wanted
    found = _adopt(folder, pins / "maps", wanted)
    if found:
        return found
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened: dict[str, Program] = {}
    for file, names in OBJECTS.items():
        with libbpf.load(objects / file, pins / "maps", sizes) as loaded:
            for name in names:
                (folder / name).unlink(missing_ok=True)  # the part that a killed load left
                libbpf.pin(loaded.program(name), folder / name)
                opened[name] = _program(name, os.dup(loaded.program(name)))
    return ProgramSet(wanted, opened)


def renew(pins: Path) -> bool:
    """Unpin all maps, unless programs of this layout are known to be attached and to share them. Returns whether it was
    so: then the maps that are made next are to be filled before anything is attached, and `settle` is to be called
    after that. Programs that run keep the maps they have. Killed at any step, it is done again by the next start."""
    if (pins / "layout" / DIGEST).exists():
        return False
    for pin in _entries(pins / "maps"):
        pin.unlink()
    return True


def settle(pins: Path) -> None:
    """Programs of this layout are attached, and their maps are full."""
    folder = pins / "layout"
    for other in _entries(folder):
        if other.name != DIGEST:
            other.rmdir()
    (folder / DIGEST).mkdir(mode=0o700, parents=True, exist_ok=True)


def prune(pins: Path, keep: str) -> None:
    """Unpin the programs of other digests; those still attached somewhere live on there."""
    for folder in sorted((pins / "progs").iterdir()):
        if folder.name != keep:
            for pin in folder.iterdir():
                pin.unlink(missing_ok=True)
            folder.rmdir()


def ensure_xdp(links: Path, program: Program | None, ifindex: int, mode: UplinkMode) -> bool:
    """The program on the device's XDP hook in this mode, held by a pinned link; None or mode "tc": none of ours.

    Another program takes the old one's place atomically. Returns whether anything had to be changed. Raises BpfError:
    EBUSY when somebody else's program is there, EOPNOTSUPP when the device cannot run this mode.
    """
    links.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = links / UPLINK_LINK
    with _held(libbpf.get(path)) as link:
        if program is None or mode == "tc":
            path.unlink(missing_ok=True)
            return link is not None
        if link is not None:
            info, state = libbpf.link_info(link), xdp_state(ifindex)
            if info.ifindex == ifindex and state and state.id == info.program_id and state.mode == mode:
                if info.program_id == program.id:
                    return False
                libbpf.update_link(link, program.fd)
                return True
            # Its device is gone, somebody detached it, or the mode is another: that cannot be mended in place.
            path.unlink(missing_ok=True)
    flags = libbpf.XDP_DRV_MODE if mode == "native" else libbpf.XDP_SKB_MODE
    with _held(_link(program, ifindex, flags, mode)) as made:
        assert made is not None
        libbpf.pin(made, path)
    return True


def xdp_state(ifindex: int) -> XdpState | None:
    """What really runs on the device's XDP hook, whoever attached it. Raises BpfError."""
    state = libbpf.query_xdp(ifindex)
    if state.native_id:
        return XdpState("native", state.native_id, libbpf.program_tag(state.native_id))
    if state.generic_id:
        return XdpState("generic", state.generic_id, libbpf.program_tag(state.generic_id))
    return None


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def _link(program: Program, ifindex: int, flags: int, mode: UplinkMode) -> int:
    try:
        return libbpf.link_xdp(program.fd, ifindex, flags)
    except BpfError as error:
        raise BpfError(f"attach {program.name} to XDP of device {ifindex} in {mode} mode", error.code) from error


def _adopt(folder: Path, maps: Path, wanted: str) -> ProgramSet | None:
    """The pinned programs of this folder, if all are there and every map they use is the one pinned now."""
    current = _map_ids(maps)
    if current is None:
        return None
    opened: dict[str, Program] = {}
    for name in (name for names in OBJECTS.values() for name in names):
        fd = libbpf.get(folder / name)
        if fd is None or not _shares(fd, current):
            if fd is not None:
                os.close(fd)
            ProgramSet(wanted, opened).close()
            return None
        opened[name] = _program(name, fd)
    return ProgramSet(wanted, opened)


def _map_ids(maps: Path) -> dict[int, str] | None:
    """Id -> name of every pinned map; None when one is missing."""
    found = {}
    for name in MAPS:
        with _held(libbpf.get(maps / name)) as fd:
            if fd is None:
                return None
            found[libbpf.map_info(fd).id] = name
    return found


def _shares(program: int, current: dict[int, str]) -> bool:
    """Whether none of the program's maps bears a pinned map's name without being it."""
    for id_ in libbpf.program_maps(program) - set(current):
        with _held(libbpf.map_by_id(id_)) as fd:
            if fd is not None and libbpf.map_info(fd).name in MAPS:
                return False
    return True


def _program(name: str, fd: int) -> Program:
    info = libbpf.program_info(fd)
    return Program(name, fd, info.id, info.tag)


@contextlib.contextmanager
def _held(fd: int | None) -> Iterator[int | None]:
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)
