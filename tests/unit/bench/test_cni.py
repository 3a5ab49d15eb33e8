"""What agents' logs say of the time that ADD took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from node_agent.bench.cni import Agent
from node_agent.model.config import AgentConfig

CONFIG = AgentConfig(
    host="h", stack_id="s", address="198.18.0.11", uplink="uplink0", underlay_prefixes=(), store="kubernetes:",
    pins="/p", socket="/s", bpf_objects="/o",
)  # fmt: skip


def line(event: str, container: str, ms: dict[str, float]) -> str:
    said: dict[str, Any] = {"level": "info", "event": event, "container": container, "ms": ms}
    return json.dumps(said)


def test_stages_are_those_of_the_adds_since_the_mark(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_text(line("container added", "before", {"arrive": 1, "endpoint": 2}) + "\n")
    agent = Agent(CONFIG, log)
    mark = agent.mark()
    with log.open("a") as file:
        lines = [
            line("endpoint added", "a", {"claim": 3, "device": 4}),
            "supervisor: agent: ended",
            line("endpoint added", "program's own", {"claim": 9}),
            # As a container runtime keeps it.
            "2026-01-01T00:00:00Z stderr F " + line("container added", "a", {"arrive": 1, "who": 2, "endpoint": 8}),
            '{"event": "endpoint added", "endpoint": "of an older agent"}',
            line("endpoint added", "a", {"claim": 1}),
            line("container added", "a", {"arrive": 1, "endpoint": 1}),
        ]
        file.write("\n".join(lines) + "\n")
    assert agent.stages(mark) == [
        {"arrive": 1, "who": 2, "claim": 3, "device": 4, "else": 1},
        {"arrive": 1, "claim": 1, "else": 0},
    ]
