"""A log file's lines, as `mizar logs` prints them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

LOOK_EVERY = 0.2  # seconds


def lines(path: Path, follow: bool) -> Iterator[str]:
    """Its lines without their ends; with `follow` for ever, also over a log that is put aside for a new one."""
    file = path.open(errors="replace")
    rest = ""
    try:
        while True:
            while part := file.readline():
                rest += part
                if rest.endswith("\n"):
                    yield rest[:-1]
                    rest = ""
            if not follow:
                break
            if _replaced(path, file.fileno()):
                file.close()
                file = path.open(errors="replace")
                continue
            time.sleep(LOOK_EVERY)
        if rest:
            yield rest
    finally:
        file.close()


def _replaced(path: Path, descriptor: int) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return now.st_ino != os.fstat(descriptor).st_ino
