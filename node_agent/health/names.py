"""One question to a name server, for the address of a name: as bytes, and what an answer says. Pure. For `streams`."""

from __future__ import annotations

import ipaddress
import struct

PORT = 53
_A, _IN = 1, 1
_WANTED = 0x0100  # recursion
_CODES = {1: "the question is malformed", 2: "the server failed", 3: "there is no such name", 5: "refused"}


def question(number: int, name: str) -> bytes:
    """`number`: 16 bits, to know the answer by. Raises ValueError for what is no name."""
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    if not all(1 <= len(label) <= 63 for label in labels):
        raise ValueError(f"{name!r} is no name of a host")
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!6H", number, _WANTED, 1, 0, 0, 0) + wire + struct.pack("!HH", _A, _IN)


def address(number: int, answer: bytes) -> str:
    """The first IPv4 address of the answer to question `number`. Raises ValueError with the reason for none."""
    try:
        found, flags, questions, records = struct.unpack_from("!4H", answer)
        if found != number or not flags & 0x8000:
            raise ValueError("that is no answer to our question")
        if code := flags & 15:
            raise ValueError(_CODES.get(code, f"code {code}"))
        at = 12
        for _ in range(questions):
            at = _after_name(answer, at) + 4
        for _ in range(records):
            at = _after_name(answer, at)
            kind, _, _, length = struct.unpack_from("!HHIH", answer, at)
            at += 10
            if kind == _A and length == 4:
                return str(ipaddress.IPv4Address(answer[at : at + 4]))
            at += length
    except (struct.error, IndexError, ipaddress.AddressValueError):
        raise ValueError("the answer is cut short") from None
    raise ValueError("the name has no IPv4 address")


def _after_name(answer: bytes, at: int) -> int:
    """Where a name that begins at `at` ends: with an empty label, or with a pointer to the rest of it."""
    while length := answer[at]:
        if length & 0xC0:
            return at + 2
        at += 1 + length
    return at + 1
