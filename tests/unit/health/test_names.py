from __future__ import annotations

import struct

import pytest

from node_agent.health import names

NAME = "vpc-blue.mizar-health-1.svc.cluster.local"


def answer(number: int, *records: bytes, flags: int = 0x8180) -> bytes:
    asked = names.question(number, NAME)[12:]
    return struct.pack("!6H", number, flags, 1, len(records), 0, 0) + asked + b"".join(records)


def record(kind: int, data: bytes, owner: bytes = b"\xc0\x0c") -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, 30, len(data)) + data


def test_a_question_is_one_name_with_recursion_wanted() -> None:
    asked = names.question(7, "a.bc.")
    assert asked == b"\0\x07\x01\0\0\x01\0\0\0\0\0\0" + b"\x01a\x02bc\0" + b"\0\x01\0\x01"


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64])
def test_what_is_no_name_is_not_asked(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        names.question(1, name)


def test_the_first_address_is_found_behind_other_records() -> None:
    alias = record(5, b"\x03web\xc0\x0c", owner=b"\x04long\xc0\x0c")
    found = answer(7, alias, record(1, bytes([10, 96, 0, 9])), record(1, bytes([10, 96, 0, 8])))
    assert names.address(7, found) == "10.96.0.9"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (answer(8, record(1, b"\x0a\0\0\x01")), "no answer to our question"),
        (answer(7, flags=0x0100), "no answer to our question"),
        (answer(7, flags=0x8183), "there is no such name"),
        (answer(7, flags=0x8182), "the server failed"),
        (answer(7), "no IPv4 address"),
        (answer(7, record(28, bytes(16))), "no IPv4 address"),
        (answer(7, record(1, b"\x0a\0\0\x01"))[:-9], "cut short"),
        (b"\0", "cut short"),
    ],
)
def test_what_is_no_address_is_a_reason(said: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        names.address(7, said)
