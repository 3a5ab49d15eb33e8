"""What README.md promises under "Try it" is what a stack of the committed settings does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e import stack as stacks
from tests.e2e.stack import NAME, Stack
from tests.engine.engine_env import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.root]

README = (ROOT / "README.md").read_text()
# What differs between two stacks of one configuration: ids and numbers on the wire.
VARYING = ((r"stack \S+ is", "stack ID is"), (r"VNI \d+", "VNI N"))


def block(after: str) -> list[str]:
    """The lines of the first code block behind this sentence."""
    found = README.partition(after)[2].split("```")[1].strip("\n")
    assert found, after
    return found.splitlines()


def commands() -> list[str]:
    """Those of "Look around", without their remarks."""
    return [line.partition("  #")[0].strip() for line in block("Look around:")]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = stacks.make(tmp_path_factory.mktemp("readme"))
    made.settings = stacks.committed()
    # What the commands of a clone need besides.
    shutil.copyfile(ROOT / "Makefile", made.project / "Makefile")
    shutil.copytree(ROOT / "tools", made.project / "tools")
    try:
        made.up()
        yield made
    finally:
        made.close()


def shell(stack: Stack, command: str) -> str:
    """Output of a command that a person types in the clone; the stack is said by the environment alone."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    env |= {**stack.env, "STACK": NAME, "MIZAR_STACK_ID": stack.id}
    done = subprocess.run(
        ["bash", "-c", command], cwd=stack.project, env=env, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def alike(text: str) -> list[str]:
    for pattern, instead in VARYING:
        text = re.sub(pattern, instead, text)
    return [
        re.sub(r"(?<=served by ).*", lambda hosts: ", ".join(sorted(hosts[0].split(", "))), line)
        for line in text.splitlines()
    ]


def test_the_end_of_up_is_as_shown(stack: Stack) -> None:
    assert "tools/setup/stack.sh summary" in (ROOT / "Makefile").read_text().partition("\nup: ")[2].split("\n\n")[0]
    told = shell(stack, f"tools/setup/stack.sh summary {NAME}")
    assert stack.id in told
    assert alike(told) == alike("\n".join(block("`make up` ends with a summary like")))


@pytest.mark.parametrize("command", commands())
def test_every_command_of_look_around_works(stack: Stack, command: str) -> None:
    assert shell(stack, command).strip(), f"{command} says nothing"


def test_they_show_what_the_remarks_say(stack: Stack) -> None:
    asked = [command for command in commands() if "curl" in command]
    answers = [json.loads(shell(stack, command)) for command in asked]
    assert [answer["vpc"] for answer in answers] == ["blue", "green"]
    status, outputs = (shell(stack, next(c for c in commands() if word in c)) for word in ("status", "outputs"))
    assert stack.id in status
    assert json.loads(outputs)["stackId"] == stack.id


def test_what_is_on_the_machine_is_listed_and_who_runs(stack: Stack) -> None:
    # The verb does no more than this, behind a set-up.
    assert "node_agent.emulation.cleanup $(ID)" in (ROOT / "Makefile").read_text()
    [line] = [
        line
        for line in shell(stack, ".venv/bin/python -m node_agent.emulation.cleanup").splitlines()
        if line.startswith(f"{stack.id}:")
    ]
    assert re.match(rf"{stack.id}: RUNNING: [1-9]\d* processes, 16 namespaces, 1 mounts, folder /run/", line), line
