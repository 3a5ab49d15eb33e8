"""One JSON object per line: time, host, level, event, and whatever belongs to it. Called all over the agent."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TextIO

Level = Literal["info", "warning", "error"]


class Log:
    """Writes to `stream`; any thread may. `clock`: seconds since the epoch."""

    def __init__(self, host: str, stream: TextIO, clock: Callable[[], float]) -> None:
        self._host, self._stream, self._clock = host, stream, clock
        self._lock = threading.Lock()

    def info(self, event: str, **fields: object) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._write("error", event, fields)

    def _write(self, level: Level, event: str, fields: dict[str, object]) -> None:
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": at, "host": self._host, "level": level, "event": event, **fields}, default=str)
        # A full disk is no reason to stop forwarding.
        with self._lock, contextlib.suppress(OSError):
            self._stream.write(line + "\n")
            self._stream.flush()
