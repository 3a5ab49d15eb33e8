"""A stack's whole life, round after round by the real engine, while somebody kills agents: nothing is ever left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.emulation import cleanup, processes
from node_agent.health.answers import WORKLOAD_PORT
from tests.e2e import stack as stacks
from tests.e2e.stack import Stack
from tests.soak.rounds import dice, rounds

pytestmark = [pytest.mark.soak, pytest.mark.engine, pytest.mark.root]

KILLS = 3  # during one `up`: an agent killed without end is never ready
PAUSE = (0.2, 2.0)  # seconds between two, least and most


@contextlib.contextmanager
def killer(stack: Stack, chance: random.Random) -> Iterator[list[str]]:
    """Kills agents at random moments of the block; the names of their hosts."""
    over, killed = threading.Event(), list[str]()

    def kill() -> None:
        while len(killed) < KILLS and not over.wait(chance.uniform(*PAUSE)):
            hosts = sorted(path.name for path in (stack.places.root / "hosts").glob("*"))
            if not hosts:
                continue
            host = chance.choice(hosts)
            found = processes.inspect(stack.places.host(host).root, "agent")
            if found and found.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found.pid, signal.SIGKILL)
                    killed.append(host)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def evidence(stack: Stack, source: dict[str, str], target: dict[str, str]) -> str:
    """What there is to know of a packet that did not arrive, before the stack is gone."""
    asked = (
        ("trace", source["name"], target["name"], "--proto", "tcp", "--port", str(WORKLOAD_PORT)),
        ("drops",),
        ("flows", source["host"], "--all"),
        ("logs", source["host"]),
        ("logs", "controller"),
    )
    said = [stack.mizar(*words) for words in asked]
    return "\n".join(
        [f"{source['name']} does not reach {target['name']}", *(f"{one.stdout}{one.stderr}" for one in said)]
    )


def settled(stack: Stack, hosts: int) -> None:
    """The outputs are true, everybody reaches everybody, and another `up` has nothing to do."""
    told = stack.outputs()
    names = {f"host-{number}" for number in range(1, hosts + 1)}
    assert {host["name"] for host in told["hosts"]} == names
    assert all(set(vpc["set"]) <= names for vpc in told["vpcs"])
    assert told["health"]["healthy"] is True
    for source in told["endpoints"]:
        for target in told["endpoints"]:
            if source["vpc"] == target["vpc"]:
                assert stacks.reachable(stack, source["name"], target["address"]), evidence(stack, source, target)
    again = stack.up()
    assert not [word for word in ("created", "updated", "deleted", "replaced") if word in again], again


def test_up_grow_shrink_kill_down(tmp_path: Path) -> None:
    chance, deaths = dice(), 0
    stack = stacks.make(tmp_path)
    stack.settings = stacks.committed()
    before = set(cleanup.ids())
    try:
        for _ in rounds(20):
            for hosts in (3, 5, 3):
                stack.settings["mizar:hosts"] = hosts
                with killer(stack, chance) as killed:
                    stack.up()
                deaths += len(killed)
                settled(stack, hosts)
            stack.destroy()
            assert not stack.left()
            assert not stack.places.root.exists()
            assert stack.id not in set(cleanup.ids()) - before
        assert deaths, "nobody was killed"
    finally:
        stack.close()
