"""Objects, programs, maps and links of the kernel: verbs over Debian's libbpf.so.1, which is `library`.

`maps` and `programs` give them a shape, tests use `test_run` too. Files that a function returns are plain descriptors,
closed by the caller. Everything acts in the calling thread's network namespace. All verbs raise BpfError as "verb
object: cause", with what libbpf and the verifier had to say.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_uint32, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from node_agent.datapath.library import (
    BpfError,
    LinkOpts,
    OpenOpts,
    RawLink,
    RawMap,
    RawProgram,
    TestOpts,
    XdpQueryOpts,
    checked,
    lib,
    listening,
)

LRU_HASH = 9
LINK_XDP = 37  # enum bpf_attach_type
XDP_SKB_MODE, XDP_DRV_MODE = 2, 4
TEST_LIVE_FRAMES = 2


@dataclass(frozen=True)
class ProgramInfo:
    """`tag`: 16 hex digits, equal for equal instructions."""

    id: int
    type: int
    tag: str
    name: str


@dataclass(frozen=True)
class MapInfo:
    id: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


@dataclass(frozen=True)
class LinkInfo:
    """`ifindex` is that of an XDP link; 0 when its device is gone."""

    id: int
    type: int
    program_id: int
    ifindex: int


@dataclass(frozen=True)
class XdpState:
    """What runs on a device: ids of programs, 0 for none."""

    native_id: int
    generic_id: int


@dataclass(frozen=True)
class TestResult:
    """What one PROG_TEST_RUN gave back; `duration` in ns a run."""

    code: int
    data: bytes
    context: bytes
    duration: int

    __test__ = False


class Object:
    """One compiled file, loaded. Its descriptors live until `close`; what is pinned or attached lives on."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path, self._handle = path, handle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._handle:
            lib().bpf_object__close(self._handle)
            self._handle = 0

    def programs(self) -> dict[str, int]:
        """Program name -> descriptor; valid until `close`."""
        return self._members(lib().bpf_object__next_program, lib().bpf_program__name, lib().bpf_program__fd)

    def maps(self) -> dict[str, int]:
        """Map name -> descriptor; valid until `close`."""
        return self._members(lib().bpf_object__next_map, lib().bpf_map__name, lib().bpf_map__fd)

    def program(self, name: str) -> int:
        """A program's descriptor; valid until `close`."""
        try:
            return self.programs()[name]
        except KeyError:
            raise BpfError(f"find program {name} in {self.path}", errno.ENOENT) from None

    def _members(self, after: Callable[..., Any], name: Callable[..., Any], fd: Callable[..., Any]) -> dict[str, int]:
        found, handle = {}, after(self._handle, None)
        while handle:
            found[name(handle).decode()] = int(fd(handle))
            handle = after(self._handle, handle)
        return found


def load(path: Path, pins: Path | None = None, sizes: dict[str, int] | None = None) -> Object:
    """Load every program of a compiled file. Maps pinned by name are shared with what lies in folder `pins`, and made
    there when absent; `sizes` overrides max_entries of maps that are not there yet."""
    if not path.is_file():
        raise BpfError(f"load {path}", errno.ENOENT)
    libbpf, opts = lib(), OpenOpts(sz=ctypes.sizeof(OpenOpts))
    if pins is not None:
        pins.mkdir(mode=0o700, parents=True, exist_ok=True)
        opts.pin_root_path = os.fsencode(pins)
    with listening() as lines:
        handle = libbpf.bpf_object__open_file(c_char_p(os.fsencode(path)), byref(opts))
        if not handle:
            raise BpfError(f"open {path}", ctypes.get_errno(), "".join(lines))
        for name, entries in (sizes or {}).items():
            found = libbpf.bpf_object__find_map_by_name(handle, name.encode())
            if found:
                libbpf.bpf_map__set_max_entries(found, entries)
        result = libbpf.bpf_object__load(handle)
        if result:
            libbpf.bpf_object__close(handle)
            raise BpfError(f"load {path}", abs(result), "".join(lines))
    return Object(path, handle)


def pin(fd: int, path: Path) -> None:
    """Give the object a name on a bpffs. Raises BpfError EEXIST."""
    checked(f"pin {path}", lib().bpf_obj_pin(fd, c_char_p(os.fsencode(path))))


def get(path: Path) -> int | None:
    """Descriptor of the pinned object; None: there is none."""
    fd = int(lib().bpf_obj_get(c_char_p(os.fsencode(path))))
    if fd < 0 and ctypes.get_errno() in (errno.ENOENT, errno.ENOTDIR):
        return None
    return checked(f"open pinned {path}", fd)


def program_info(fd: int) -> ProgramInfo:
    info = _info(fd, RawProgram())
    return ProgramInfo(info.id, info.type, bytes(info.tag).hex(), info.name.decode())


def program_maps(fd: int) -> set[int]:
    """Ids of the maps that a program uses."""
    ids = (c_uint32 * 64)()
    info = RawProgram(nr_map_ids=len(ids), map_ids=ctypes.addressof(ids))
    return set(ids[: _info(fd, info).nr_map_ids])


def map_info(fd: int) -> MapInfo:
    info = _info(fd, RawMap())
    return MapInfo(
        info.id, info.type, info.key_size, info.value_size, info.max_entries, info.map_flags, info.name.decode()
    )


def link_info(fd: int) -> LinkInfo:
    info = _info(fd, RawLink())
    return LinkInfo(info.id, info.type, info.prog_id, info.ifindex)


def program_tag(id_: int) -> str:
    """Tag of the loaded program with this id; "" when it is gone."""
    fd = int(lib().bpf_prog_get_fd_by_id(c_uint32(id_)))
    if fd < 0:
        return ""
    try:
        return program_info(fd).tag
    finally:
        os.close(fd)


def map_by_id(id_: int) -> int | None:
    """Descriptor of the map with this id; None: it is gone."""
    fd = int(lib().bpf_map_get_fd_by_id(c_uint32(id_)))
    if fd < 0 and ctypes.get_errno() == errno.ENOENT:
        return None
    return checked(f"open map {id_}", fd)


def create_map(kind: int, name: str, key_size: int, value_size: int, entries: int) -> int:
    """Descriptor of a new map; `name` of at most 15 characters."""
    return checked(
        f"create map {name} of {entries} entries",
        lib().bpf_map_create(
            c_int(kind), c_char_p(name.encode()), c_uint32(key_size), c_uint32(value_size), c_uint32(entries), None
        ),
    )


def possible_cpus() -> int:
    """Number of values of a per-CPU map's entry."""
    return checked("count possible CPUs", lib().libbpf_num_possible_cpus())


def link_xdp(program: int, ifindex: int, flags: int) -> int:
    """Descriptor of a new XDP link on a device of this namespace; it detaches when the last descriptor and pin go."""
    opts = LinkOpts(sz=16, flags=flags)
    return checked(f"attach XDP to device {ifindex}", lib().bpf_link_create(program, ifindex, LINK_XDP, byref(opts)))


def update_link(link: int, program: int) -> None:
    """Put another program in the link's place: every packet meets the one or the other."""
    checked("replace program of a link", lib().bpf_link_update(link, program, None))


def query_xdp(ifindex: int) -> XdpState:
    """What runs on a device of this namespace, whoever attached it."""
    opts = XdpQueryOpts(sz=ctypes.sizeof(XdpQueryOpts))
    checked(f"read XDP of device {ifindex}", lib().bpf_xdp_query(ifindex, 0, byref(opts)))
    return XdpState(native_id=opts.drv_prog_id, generic_id=opts.skb_prog_id)


def test_run(
    program: int,
    data: bytes = b"",
    context: bytes = b"",
    *,
    repeat: int = 1,
    flags: int = 0,
    room: int = 1 << 16,
    context_room: int = 0,
    batch: int = 0,
) -> TestResult:
    """BPF_PROG_TEST_RUN: the program's code and what it made of a packet. `room`: bytes for the packet that comes back.

    `flags` TEST_LIVE_FRAMES really sends (XDP only, nothing comes back); `context` is the program type's struct.
    """
    out, context_out = ctypes.create_string_buffer(room), ctypes.create_string_buffer(context_room or len(context) or 1)
    source = ctypes.create_string_buffer(data, len(data)) if data else None
    context_in = ctypes.create_string_buffer(context, len(context)) if context else None
    live = bool(flags & TEST_LIVE_FRAMES)
    opts = TestOpts(
        sz=ctypes.sizeof(TestOpts),
        data_in=ctypes.cast(source, c_void_p) if source else None,
        data_size_in=len(data),
        data_out=None if live else ctypes.cast(out, c_void_p),
        data_size_out=0 if live else room,
        ctx_in=ctypes.cast(context_in, c_void_p) if context_in else None,
        ctx_size_in=len(context),
        ctx_out=None if live or not context else ctypes.cast(context_out, c_void_p),
        ctx_size_out=0 if live or not context else len(context_out),
        repeat=repeat,
        flags=flags,
        batch_size=batch,
    )
    checked("test-run program", lib().bpf_prog_test_run_opts(program, byref(opts)))
    return TestResult(
        code=opts.retval,
        data=out.raw[: opts.data_size_out] if not live else b"",
        context=context_out.raw[: opts.ctx_size_out] if context and not live else b"",
        duration=opts.duration,
    )


def _info(fd: int, info: Any) -> Any:
    size = c_uint32(ctypes.sizeof(info))
    checked("read the description of an object", lib().bpf_obj_get_info_by_fd(fd, byref(info), byref(size)))
    return info
