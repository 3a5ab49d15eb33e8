"""Records of bytes: the base of every generated class in `layout`. Pure.

A field is (name, offset, format, count): `format` is a struct code with its byte order, "" with a record class for a
nested record.  Fields of one element are scalars; arrays of bytes are `bytes`; other arrays are tuples.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Field:
    name: str
    offset: int
    format: str
    count: int = 1
    record: type[Record] | None = None


class Record:
    """Base of the generated records; padding is written as zero and not read."""

    SIZE: ClassVar[int]
    FIELDS: ClassVar[tuple[Field, ...]]

    def pack(self) -> bytes:
        """The record's bytes, SIZE long. Raises struct.error if a value does not fit its field."""
        out = bytearray(self.SIZE)
        for field in self.FIELDS:
            value = getattr(self, field.name)
            if field.record is not None:
                for i, item in enumerate(value):
                    at = field.offset + i * field.record.SIZE
                    out[at : at + field.record.SIZE] = item.pack()
            elif field.count > 1 and not field.format.endswith("s"):
                struct.pack_into(_many(field), out, field.offset, *value)
            else:
                struct.pack_into(field.format, out, field.offset, value)
        return bytes(out)

    @classmethod
    def unpack(cls, raw: bytes) -> Self:
        """The record in `raw`. Raises ValueError if it is not SIZE bytes."""
        if len(raw) != cls.SIZE:
            raise ValueError(f"unpack {cls.__name__}: {len(raw)} bytes instead of {cls.SIZE}")
        values: dict[str, Any] = {}
        for field in cls.FIELDS:
            if field.record is not None:
                size = field.record.SIZE
                values[field.name] = tuple(
                    field.record.unpack(raw[at : at + size])
                    for at in range(field.offset, field.offset + size * field.count, size)
                )
            elif field.count > 1 and not field.format.endswith("s"):
                values[field.name] = struct.unpack_from(_many(field), raw, field.offset)
            else:
                values[field.name] = struct.unpack_from(field.format, raw, field.offset)[0]
        return cls(**values)


RecordType = type[Record]


@dataclass(frozen=True)
class MapSpec:
    """A map as the objects declare it. `key` and `value` are records, or None for plain integers and inner maps."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    key: RecordType | None
    value: RecordType | None


def _many(field: Field) -> str:
    return f"{field.format[0]}{field.count}{field.format[1:]}"
