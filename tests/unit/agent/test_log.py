"""A line of the log is one JSON object."""

import io
import json
from pathlib import Path

from node_agent.agent.log import Log


def test_lines_are_json_with_time_host_level_and_event() -> None:
    stream = io.StringIO()
    log = Log("h1", stream, lambda: 0.25)
    log.info("started", path=Path("/x"), count=2)
    log.error("problem", what="two\nlines")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first == {
        "time": "1970-01-01T00:00:00.250+00:00",
        "host": "h1",
        "level": "info",
        "event": "started",
        "path": "/x",
        "count": 2,
    }
    assert (second["level"], second["what"]) == ("error", "two\nlines")
