"""Log lines of the controller: one JSON object each on a text stream. Called by `loop` and `__main__`."""

from __future__ import annotations

import json
import time
from typing import Any, Literal, TextIO

Level = Literal["info", "warning", "error"]


class Log:
    """`say` writes a line; `trouble` and `fine` write only when something new is to be said."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._trouble = ""

    def say(self, event: str, level: Level = "info", **fields: Any) -> None:
        """`event`: what happened, in words; `fields`: JSON-able."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = {"at": at, "level": level, "event": event, **fields}
        self._stream.write(json.dumps(line, default=str) + "\n")
        self._stream.flush()

    def trouble(self, message: str) -> None:
        """The same trouble twice in a row is one line."""
        if message != self._trouble:
            self._trouble = message
            self.say("trouble", "warning", cause=message)

    def fine(self) -> None:
        """The trouble is over."""
        if self._trouble:
            self.say("trouble over", cause=self._trouble)
            self._trouble = ""
