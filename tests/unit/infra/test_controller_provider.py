"""Made means at work: what the controller's resource takes for a controller, and how it repairs one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.providers import controller, daemons
from infra.providers.controller import ControllerProvider
from node_agent.emulation import processes
from node_agent.emulation.processes import Spec
from node_agent.metrics import server
from node_agent.model.errors import Permanent

PROPS = {"stack": "s", "config": "{}", "code": "abc"}
MADE = {**PROPS, "working": True}


@dataclass
class Machine:
    """One controller process. `ages`: seconds since the last turn of the loop, of each pid; None: nobody answers.
    `ends`: it does at once, and is begun anew by its supervisor."""

    pid: int = 1
    ages: dict[int, float | None] = field(default_factory=dict)
    ends: bool = False
    done: list[str] = field(default_factory=list)

    def fetch(self, path: Path) -> str:
        self.pid += self.ends
        age = self.ages.get(self.pid)
        if age is None:
            raise Permanent(f"ask {path}: Connection refused: is the process running?")
        return f"mizar_controller_turns_total 7\nmizar_controller_turn_age_seconds {age}\n"

    def start(self, *_: Any, code: str, **__: Any) -> Any:
        self.done.append(f"start {code}")
        return self.inspect()

    def stop(self, *_: Any) -> None:
        self.done.append("stop")
        self.pid += 1

    def inspect(self, *_: Any) -> Any:
        return SimpleNamespace(pid=self.pid)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(server, "fetch", made.fetch)
    monkeypatch.setattr(daemons, "start", made.start)
    monkeypatch.setattr(daemons, "controller", made.inspect)
    monkeypatch.setattr(daemons, "config", lambda *_: PROPS["config"])
    monkeypatch.setattr(daemons, "last_words", lambda *_: "    config: it is no JSON")
    monkeypatch.setattr(processes, "stop", made.stop)
    monkeypatch.setattr(controller, "START_SECONDS", 0.0)
    monkeypatch.setattr(controller, "LOOK_SECONDS", 0.0)
    return made


def test_one_whose_loop_goes_round_is_made_and_unchanged(machine: Machine) -> None:
    machine.ages = {1: 0.1}
    assert ControllerProvider().create(PROPS).outs == MADE
    assert machine.done == ["start abc"]
    assert ControllerProvider().diff("s", MADE, PROPS).changes is False
    read = ControllerProvider().read("s", MADE).outs
    assert read is not None and read["working"] is True


def test_one_that_ends_at_every_start_is_an_error_with_its_last_words(machine: Machine) -> None:
    machine.ends = True
    with pytest.raises(RuntimeError, match=r"start controller: not at work .*is the process running.*\n.*no JSON"):
        ControllerProvider().create(PROPS)
    assert machine.done == ["start abc"], "its supervisor starts it anew"
    assert ControllerProvider().diff("s", MADE, PROPS).changes is True


@pytest.mark.parametrize("age", [None, 600.0])
def test_one_that_lives_and_does_nothing_is_started_anew(machine: Machine, age: float | None) -> None:
    machine.ages = {1: age, 2: 0.1}
    assert ControllerProvider().diff("s", MADE, PROPS).changes is True
    assert ControllerProvider().update("s", MADE, PROPS).outs == MADE
    assert machine.done == ["start abc", "stop", "start abc"]


def test_to_look_starts_and_stops_nothing(machine: Machine) -> None:
    read = ControllerProvider().read("s", MADE).outs
    assert read is not None and read["working"] is False
    assert ControllerProvider().diff("s", {**MADE, "working": False}, PROPS).changes is True
    assert machine.done == []


def test_other_code_is_a_difference(machine: Machine) -> None:
    machine.ages = {1: 0.1}
    assert ControllerProvider().diff("s", MADE, {**PROPS, "code": "def"}).changes is True


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one module."""
    module = tmp_path / "node_agent" / "agent" / "main.py"
    module.parent.mkdir(parents=True)
    module.write_text("print(1)\n")
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    monkeypatch.setattr(daemons, "sources", daemons.sources.__wrapped__)
    return tmp_path


def test_an_edited_module_is_other_code_and_nothing_else_is(root: Path) -> None:
    before = daemons.sources()
    (root / "node_agent" / "agent" / "main.pyc").write_text("compiled")
    (root / "README.md").write_text("words")
    assert daemons.sources() == before
    (root / "node_agent" / "agent" / "main.py").write_text("print(2)\n")
    edited = daemons.sources()
    (root / "node_agent" / "agent" / "main.py").rename(root / "node_agent" / "main.py")
    assert len({before, edited, daemons.sources()}) == 3


def test_sources_are_read_once_by_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    first = daemons.sources()
    monkeypatch.setattr(processes, "ROOT", Path("/nowhere"))
    assert daemons.sources() == first


def test_config_and_code_are_part_of_what_a_supervisor_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs: list[Spec] = []
    monkeypatch.setattr(processes, "start", specs.append)
    for config, code in (("{}", "a"), ("{}", "a"), ("{}", "b"), ("{ }", "b")):
        daemons.start(tmp_path / "daemon", "agent", config, code=code)
    assert specs[0] == specs[1]
    assert specs[0] != specs[2] != specs[3]
