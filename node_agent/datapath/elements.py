"""Elements of a map by its descriptor, one by one and in batches: raw bytes in and out. Called by `maps` only.

Keys and values must have the map's sizes; nothing here can check it. All verbs raise BpfError.
"""

from __future__ import annotations

import ctypes
import errno
from ctypes import byref, c_char_p, c_uint32, c_uint64

from node_agent.datapath.library import checked, lib


def lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """One value of `size` bytes, or None."""
    value = ctypes.create_string_buffer(size)
    result = lib().bpf_map_lookup_elem(fd, c_char_p(key), value)
    if result < 0 and ctypes.get_errno() == errno.ENOENT:
        return None
    checked("look up in a map", result)
    return value.raw


def update(fd: int, key: bytes, value: bytes) -> None:
    checked("write to a map", lib().bpf_map_update_elem(fd, c_char_p(key), c_char_p(value), c_uint64(0)))


def delete(fd: int, key: bytes) -> bool:
    """Whether the key was there."""
    result = lib().bpf_map_delete_elem(fd, c_char_p(key))
    if result < 0 and ctypes.get_errno() == errno.ENOENT:
        return False
    checked("delete from a map", result)
    return True


def next_key(fd: int, key: bytes | None, size: int) -> bytes | None:
    """The key after this one (None: the first) in the map's own order, or None at the end."""
    after = ctypes.create_string_buffer(size)
    result = lib().bpf_map_get_next_key(fd, c_char_p(key) if key is not None else None, after)
    if result < 0 and ctypes.get_errno() == errno.ENOENT:
        return None
    checked("walk a map", result)
    return after.raw


def lookup_batch(
    fd: int, position: bytes | None, key_size: int, value_size: int, count: int
) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
    """Up to `count` entries from `position` on (None: the start), and where to go on (None: that was the end).

    Raises BpfError ENOSPC when `count` is too small for one bucket, ENOTSUPP or EINVAL when the map has no batches.
    """
    before = ctypes.create_string_buffer(position, max(len(position), 8)) if position is not None else None
    after = ctypes.create_string_buffer(max(key_size, 8))
    keys, values = ctypes.create_string_buffer(count * key_size), ctypes.create_string_buffer(count * value_size)
    got = c_uint32(count)
    result = lib().bpf_map_lookup_batch(fd, before, after, keys, values, byref(got), None)
    ended = result < 0 and ctypes.get_errno() == errno.ENOENT
    if not ended:
        checked("read a batch of a map", result)
    raw_keys, raw_values, n = keys.raw, values.raw, got.value
    rows = [
        (raw_keys[i * key_size : (i + 1) * key_size], raw_values[i * value_size : (i + 1) * value_size])
        for i in range(n)
    ]
    return rows, None if ended else after.raw


def update_batch(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """Write `count` entries, keys and values joined."""
    checked(
        "write a batch to a map",
        lib().bpf_map_update_batch(fd, c_char_p(keys), c_char_p(values), byref(c_uint32(count)), None),
    )


def delete_batch(fd: int, keys: bytes, count: int) -> int | None:
    """Delete `count` joined keys; None: all are gone. Otherwise the number deleted before one that was absent."""
    done = c_uint32(count)
    result = lib().bpf_map_delete_batch(fd, c_char_p(keys), byref(done), None)
    if result < 0 and ctypes.get_errno() == errno.ENOENT:
        return done.value
    checked("delete a batch from a map", result)
    return None
