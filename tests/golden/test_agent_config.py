"""The configuration files that the program writes, compared with the ones kept beside this test.

After a wanted change: MIZAR_GOLDEN=write .venv/bin/python -m pytest tests/golden, and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra import plan, settings
from infra.render import agent_config
from node_agent.model import config

FOLDER = Path(__file__).parent / "agent_config"


def planned() -> plan.Plan:
    vpc = {"name": "blue", "cidr": "10.10.0.0/16", "subnets": [{"name": "blue-a", "cidr": "10.10.1.0/24"}]}
    return plan.make(settings.examine({"vpcs": [vpc], "flowEntries": 4096})[0], "local-abc123")


def rendered(name: str) -> str:
    if name == "controller.json":
        return agent_config.controller(planned())
    return agent_config.agent(planned(), planned().hosts[1], "/run/mizar/local-abc123/programs/0123456789ab")


@pytest.mark.parametrize("name", ["host-2.json", "controller.json"])
def test_rendered_as_kept(name: str) -> None:
    path = FOLDER / name
    if os.environ.get("MIZAR_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered(name))
    assert rendered(name) == path.read_text()


def test_read_back_by_those_it_is_for() -> None:
    assert config.load_agent(rendered("host-2.json")).host == "host-2"
    assert config.load_controller(rendered("controller.json")).stack_id == "local-abc123"
