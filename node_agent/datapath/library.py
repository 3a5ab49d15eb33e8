"""libbpf.so.1 itself by way of ctypes: opened, its structures, what it says, how its refusals become errors.

Called by `libbpf` and `elements`, whose verbs are what everybody else uses. The structures are those of the library's
headers of the same names (RawProgram, RawMap, RawLink: bpf_prog_info, bpf_map_info, bpf_link_info), as far as they are
read; the kernel takes shorter ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import threading
from collections.abc import Iterator
from ctypes import c_char, c_char_p, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p

from node_agent.model.errors import Permanent

NAME = "libbpf.so.1"
_LIBBPF_CODES = 4000  # from here on they are libbpf's own, explained in its words
_LOG_LINES = 60  # of libbpf's words that an error repeats: the end says what went wrong


class BpfError(Permanent):
    """The kernel or libbpf refused. `code` is the positive errno; `log` what libbpf and the verifier said."""

    def __init__(self, what: str, code: int, log: str = "") -> None:
        self.code, self.log = code, log
        tail = "\n".join(log.strip().splitlines()[-_LOG_LINES:])
        cause = os.strerror(code) if code < _LIBBPF_CODES else "libbpf cannot use it"
        super().__init__(f"{what}: {cause}" + (f"\n{tail}" if tail else ""))


class OpenOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", c_char_p),
        ("reserved", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
        ("kernel_log_buf", c_void_p),
        ("kernel_log_size", c_size_t),
        ("kernel_log_level", c_uint32),
    ]


class TestOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    ]


class LinkOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info", c_void_p),
        ("iter_info_len", c_uint32),
        ("target_btf_id", c_uint32),
        ("rest", c_uint64 * 5),
    ]


class XdpQueryOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t),
        ("prog_id", c_uint32),
        ("drv_prog_id", c_uint32),
        ("hw_prog_id", c_uint32),
        ("skb_prog_id", c_uint32),
        ("attach_mode", c_uint8),
    ]


class RawProgram(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", c_uint8 * 8),
        ("jited_len", c_uint32),
        ("xlated_len", c_uint32),
        ("jited", c_uint64),
        ("xlated", c_uint64),
        ("load_time", c_uint64),
        ("uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", c_char * 16),
    ]


class RawMap(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", c_char * 16),
    ]


class RawLink(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("pad", c_uint32),
        ("ifindex", c_uint32),
        ("rest", c_uint32 * 3),
    ]


_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_said = threading.local()


def _record(level: int, template: bytes, arguments: int) -> int:
    """libbpf's print callback: keeps warnings for the thread that is inside `listening`, and nothing else."""
    if level <= 1 and hasattr(_said, "lines"):
        buffer = ctypes.create_string_buffer(1 << 16)
        # A va_list reaches us as one pointer on every ABI we run on, and vsnprintf wants it the same way.
        _libc().vsnprintf(buffer, c_size_t(len(buffer)), c_char_p(template), c_void_p(arguments))
        _said.lines.append(buffer.value.decode(errors="replace"))
    return 0


_recorder = _PRINT(_record)  # the library keeps the pointer for ever, so must we


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """What the library says inside of the block, to the calling thread."""
    _said.lines = []
    try:
        yield _said.lines
    finally:
        del _said.lines


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@functools.cache
def lib() -> ctypes.CDLL:
    """The library, opened once."""
    try:
        loaded = ctypes.CDLL(NAME, use_errno=True)
    except OSError as error:
        raise BpfError(f"open {NAME} (Debian package libbpf1)", errno.ENOENT) from error
    loaded.libbpf_set_print(_recorder)
    for name in (
        "bpf_object__open_file",
        "bpf_object__find_map_by_name",
        "bpf_object__next_program",
        "bpf_object__next_map",
    ):
        getattr(loaded, name).restype = c_void_p
    for name in ("bpf_program__name", "bpf_map__name"):
        getattr(loaded, name).restype = c_char_p
        getattr(loaded, name).argtypes = [c_void_p]
    for name in ("bpf_object__load", "bpf_object__close", "bpf_program__fd", "bpf_map__fd"):
        getattr(loaded, name).argtypes = [c_void_p]
    loaded.bpf_object__next_program.argtypes = loaded.bpf_object__next_map.argtypes = [c_void_p, c_void_p]
    loaded.bpf_object__find_map_by_name.argtypes = [c_void_p, c_char_p]
    loaded.bpf_map__set_max_entries.argtypes = [c_void_p, c_uint32]
    return loaded


def checked(what: str, result: int) -> int:
    """A call's result when it is no error."""
    if result < 0:
        raise BpfError(what, -result if result != -1 else ctypes.get_errno())
    return result
