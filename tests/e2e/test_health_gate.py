"""`up` tells the truth by the real engine: it fails, naming hosts, pairs and reasons, or what is wrong is repaired."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.emulation import endpoints
from node_agent.kernel import links
from tests.e2e import damage
from tests.e2e import stack as stacks
from tests.e2e.stack import Stack, changes
from tests.waiting import until

pytestmark = [pytest.mark.engine, pytest.mark.root]

SERVICE = {
    "name": "web",
    "vip": "10.10.0.10",
    "ports": [{"name": "http", "protocol": "tcp", "port": 80, "targetPort": 8080}],
    "backends": {"subnet": "blue-a"},
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack of 3 hosts that the tests of this file use one after the other; each leaves it up and healthy."""
    folder = tmp_path_factory.mktemp("gate")
    made = stacks.make(folder, hosts=3, healthSeconds=20, vpcs=[{**stacks.BLUE, "services": [SERVICE]}])
    try:
        made.up()
        yield made
    finally:
        made.close()


def fails(stack: Stack) -> str:
    """The output of an `up` that has to fail, and is not given long to."""
    stack.settings["healthSeconds"] = 1
    try:
        return stack.up(ok=False)
    finally:
        stack.settings["healthSeconds"] = 20


def mtus(stack: Stack) -> set[int]:
    """Of the endpoints' interfaces."""
    found = set()
    for endpoint in stack.outputs()["endpoints"]:
        with links.opened(stack.namespace(endpoint["name"])) as net:
            found.add(net.need(endpoints.INTERFACE).mtu)
    return found


def test_hosts_that_cannot_reach_each_other_are_named(stack: Stack) -> None:
    try:
        damage.isolate(stack, "host-2", "host-3", on=True)
        told = fails(stack)
        assert "host-2 -> host-3: blue/" in told
        assert "host-3 -> host-2: blue/" in told
        assert "host-1 -> host-2: blue/" not in told
        # What it saw stays a change until it is gone, also for a refresh.
        assert "1 updated" in " ".join(changes(stack.pulumi("refresh", "--yes", "--skip-preview")))
    finally:
        damage.isolate(stack, "host-2", "host-3", on=False)
    stack.up()


def test_a_data_plane_that_installs_no_verdict_fails(stack: Stack, tmp_path: Path) -> None:
    stack.settings["bpfObjects"] = str(damage.without_verdicts(tmp_path / "bpf"))
    try:
        told = fails(stack)
        # Packets do flow, by way of the bouncers: everything is answered.
        assert stacks.reachable(stack, "blue-a-1", "10.10.1.3")
        assert "no answer" not in told
        for source, target in (("host-1", "host-2"), ("host-2", "host-3"), ("host-3", "host-1")):
            lines = [line for line in told.splitlines() if f"{source} -> {target}: blue/" in line]
            assert lines, told
            assert all("direct: " in line and "the verdict was not installed" in line for line in lines), lines
    finally:
        del stack.settings["bpfObjects"]
    stack.up()


def test_an_agent_that_lies_about_its_host_fails(stack: Stack) -> None:
    with damage.lying_agent(stack, "host-2") as asked:
        damage.detach(stack, "host-2")
        told = fails(stack)
        assert asked
    for line in ("host-1 -> host-2: blue/", "host-2 -> host-1: blue/", "host-3 -> host-2: blue/", "host-2: "):
        assert line in told, told
    assert "host-1 -> host-3: blue/" not in told
    stack.up()
    assert damage.attached(stack, "host-2")


def test_preview_shows_damage_and_repairs_nothing(stack: Stack) -> None:
    # The agent looks every 10 s by itself: begun right after such a look, a preview sees the damage before the next.
    # Should it be slower, another is tried; one that asks for repairs finds no excuse.
    asked = damage.requests(stack, "host-2", "REPAIR")
    for _ in range(4):
        damage.detach(stack, "host-2")
        until(lambda: damage.attached(stack, "host-2"), 60, "the agent's own look")
        damage.detach(stack, "host-2")
        told = stack.pulumi("preview")
        assert damage.requests(stack, "host-2", "REPAIR") == asked
        if "~ 1 to update" in changes(told):
            break
    else:
        pytest.fail(f"no preview saw the damage: {told}")
    (shown,) = (line for line in told.splitlines() if "update" in line and "Agent" in line)
    assert "host-2-agent" in shown
    stack.up()
    assert damage.attached(stack, "host-2")


def test_another_mtu_reaches_the_endpoints(stack: Stack) -> None:
    assert mtus(stack) == {1450}
    stack.settings["mtu"] = 1400
    try:
        told = stack.pulumi("preview", "--diff")
        # Of the gate's inputs a person sees those that are his.
        assert "mtu" in told.partition("local:HealthGate")[2]
        assert "preview" not in told.partition("Resources:")[0].replace("Previewing", "")
        stack.up()
        assert mtus(stack) == {1350}
        assert changes(stack.up())[0].endswith("unchanged")
    finally:
        del stack.settings["mtu"]
    stack.up()
    assert mtus(stack) == {1450}


def test_nobody_but_root_reads_what_a_stack_keeps(stack: Stack) -> None:
    wrong = []
    for path in (stack.places.root, *stack.places.root.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            wrong.append(f"{stat.filemode(mode)} {path}")
    assert not wrong
