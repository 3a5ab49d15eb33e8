"""The whole of stack `local` by the real engine: up, up again, preview, refresh, repair, move, destroy. The gate
has a file of its own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node_agent.emulation import fabric, hosts, processes
from node_agent.kernel import netns
from tests.e2e import stack as stacks
from tests.e2e.stack import Stack, changes
from tests.lab.traffic import Probe, Stream

pytestmark = [pytest.mark.engine, pytest.mark.root]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack of 3 hosts that the tests of this file use one after the other; each leaves it up and healthy."""
    made = stacks.make(tmp_path_factory.mktemp("local"), hosts=3, healthSeconds=20)
    try:
        made.up()
        yield made
    finally:
        made.close()


def test_outputs_are_what_exists(stack: Stack) -> None:
    told = stack.outputs()
    assert [host["name"] for host in told["hosts"]] == ["host-1", "host-2", "host-3"]
    assert {host["mode"] for host in told["hosts"]} == {"generic"}
    for one in (*told["hosts"], *told["endpoints"]):
        assert netns.exists(Path("/run/netns") / one["netns"]), one
    assert len(told["vpcs"][0]["set"]) == 3
    assert told["vpcs"][0]["vni"] > 0
    assert set(told["subnets"][0]["bouncers"]) <= set(told["vpcs"][0]["set"])
    assert told["services"] == []
    assert told["health"]["healthy"] is True
    assert told["health"]["failures"] == []
    assert told["health"]["probes"] >= 3 * told["health"]["pairs"] > 0
    for source in told["endpoints"]:
        for target in told["endpoints"]:
            assert stacks.reachable(stack, source["name"], target["address"]), (source["name"], target["name"])


def test_second_up_changes_nothing(stack: Stack) -> None:
    before, began = stack.outputs(), time.monotonic()
    told = stack.up(preview=True)
    assert changes(told) == ["28 unchanged"]
    assert f"stack {stack.id} is healthy: " in told
    print(f"\nsecond up: {time.monotonic() - began:.1f} s")
    assert stack.outputs() == before


def test_preview_touches_nothing(stack: Stack) -> None:
    before = stacks.world(stack)
    stack.settings["endpoints"] = [{"name": "web", "subnet": "blue-a"}]
    told = stack.pulumi("preview")
    del stack.settings["endpoints"]
    assert "+ 1 to create" in changes(told)
    after = stacks.world(stack)
    for part, was in before.items():
        assert after[part] == was, part


def test_refresh_sees_a_deleted_host_and_up_makes_it_again(stack: Stack) -> None:
    netns.delete(stack.namespace("host-2"))
    told = stack.pulumi("refresh", "--yes", "--skip-preview")
    assert "2 deleted" in " ".join(changes(told)), told  # host and agent; its endpoints' interfaces may linger
    stack.up()
    assert changes(stack.up()) == ["28 unchanged"]
    assert all(stacks.reachable(stack, "blue-a-1", address) for address in ("10.10.1.3", "10.10.2.3"))


@pytest.mark.parametrize("refreshed", [False, True])
def test_up_repairs_what_is_broken(stack: Stack, refreshed: bool) -> None:
    netns.delete(stack.namespace("host-1"))  # with everything in it
    netns.delete(stack.namespace("blue-b-2"))  # an endpoint
    with netns.enter(stack.namespace(fabric.NAME)):  # an unplugged uplink
        stacks.subprocess.run(["ip", "link", "set", hosts.port_name("host-3"), "down"], check=True)
    workload = processes.inspect(stack.places.workload("blue-a-3"), "workload")
    assert workload is not None
    for pid in (workload.supervisor_pid, workload.pid):
        os.kill(pid, signal.SIGKILL)
    if refreshed:  # the damage is then written in the state, and must not pass for what is wanted
        stack.pulumi("refresh", "--yes", "--skip-preview")
    stack.up()
    assert changes(stack.up()) == ["28 unchanged"]


def test_endpoint_moves_in_place(stack: Stack) -> None:
    def lives() -> tuple[int, int | None]:
        found = processes.inspect(stack.places.workload("web"), "workload")
        assert found is not None
        return found.pid, netns.identity(stack.namespace("web"))

    def placed() -> tuple[str, str]:
        one = next(one for one in stack.outputs()["endpoints"] if one["name"] == "web")
        return one["host"], one["address"]

    web: dict[str, Any] = {"name": "web", "subnet": "blue-a", "host": "host-1"}
    stack.settings["endpoints"] = [web]
    stack.up()
    before, running = placed(), lives()
    probe = Probe(stack.namespace("blue-b-2"), before[1], fresh=False)
    stream = Stream(stack.namespace("web"), "10.10.2.3")
    try:
        web["host"] = "host-3"
        told = stack.up()
    finally:
        for load in (probe, stream):
            load.stop()
    assert "replace" not in told
    assert [(load.lost, load.error) for load in (probe, stream)] == [(0, ""), (0, "")]
    assert probe.received and stream.received
    assert placed() == ("host-3", before[1])
    assert lives() == running
    assert all("unchanged" in line for line in changes(stack.up()))
    del stack.settings["endpoints"]
    stack.up()
    assert not netns.exists(stack.namespace("web"))


def test_command_answers(stack: Stack) -> None:
    told = json.loads(stack.mizar("status", "--json").stdout)
    assert told["healthy"] is True, told
    for host in told["hosts"]:
        assert Path(f"/proc/{host['pid']}").exists()
    assert Path(f"/proc/{told['controller']['pid']}").exists()
    assert "host-2" in stack.mizar("status").stdout
    inside = stack.mizar("exec", "blue-a-1", "--", "sh", "-c", "ip -4 -o addr show dev eth0; exit 7")
    assert inside.returncode == 7
    assert "10.10.1.2" in inside.stdout
    assert stack.mizar("logs", "host-1").returncode == 0
    wrong = stack.mizar("logs", "host-9")
    assert (wrong.returncode, "host-1" in wrong.stderr) == (1, True)


def test_two_stacks_side_by_side(stack: Stack, tmp_path: Path) -> None:
    other = stacks.make(tmp_path, hosts=2)
    try:
        before = stacks.world(stack)
        other.up()
        assert other.outputs()["health"]["healthy"] is True
        # A destroy of what has died meanwhile is no error.
        for pid in processes.marked(other.places.root):
            os.kill(pid, signal.SIGKILL)
        netns.delete(other.namespace("host-2"))
        other.destroy()
        assert not other.left()
        assert stacks.world(stack) == before
    finally:
        other.close()


def test_destroy_after_a_refresh_that_found_everything_dead(tmp_path: Path) -> None:
    other = stacks.make(tmp_path, hosts=2)
    try:
        other.up()
        for pid in processes.marked(other.places.root):
            os.kill(pid, signal.SIGKILL)
        other.pulumi("refresh", "--yes", "--skip-preview")
        other.destroy()
        assert not other.left()
    finally:
        other.close()


@pytest.mark.parametrize("made", ["host-2", "blue-a-1"])
def test_killed_up_is_finished_by_the_next(tmp_path: Path, made: str) -> None:
    other = stacks.make(tmp_path, hosts=2)
    try:
        other.kill_up_once(lambda: netns.exists(other.namespace(made)))
        other.pulumi("cancel", "--yes")
        other.up()
        assert other.outputs()["health"]["healthy"] is True
        other.destroy()
        assert not other.left()
    finally:
        other.close()


def test_killed_up_is_cleared_by_destroy(tmp_path: Path) -> None:
    other = stacks.make(tmp_path, hosts=2)
    try:
        other.kill_up_once(lambda: netns.exists(other.namespace("blue-a-1")))
        other.pulumi("cancel", "--yes")
        other.destroy()
        assert not other.left()
    finally:
        other.close()


BAD = {
    "hosts": "three",
    "mtu": 500,
    "hostz": 4,
    "mizr:hosts": 4,
    "endpoints": 5,
    "vpcs": [
        {
            "name": "blue",
            "cidr": "10.10.0.0/16",
            "subnets": [{"name": "a", "cidr": "10.10.1.0/24"}, {"name": "b", "cidr": "10.10.1.0/25"}],
        }
    ],
}
SENTENCES = (
    "6 mistakes in the settings",
    "hosts: three: must be a whole number",
    "mtu: 500: must be",
    "hostz: 4: unknown key",
    "mizr:hosts: 4: unknown namespace",
    "endpoints: 5: must be a list",
    "vpcs[0].subnets[1].cidr: 10.10.1.0/25: must not overlap",
)


@pytest.mark.parametrize("verb", ["preview", "up --yes", "up --yes --skip-preview"])
def test_bad_settings_make_nothing(tmp_path: Path, verb: str) -> None:
    bad = stacks.make(tmp_path)
    bad.settings = dict(BAD)
    told = bad.pulumi(*verb.split(), ok=False)
    assert all(sentence in told for sentence in SENTENCES), told
    assert "Traceback" not in told
    assert not bad.left()
    assert not bad.places.root.exists()


def test_last_destroy_leaves_nothing(stack: Stack) -> None:
    stack.destroy()
    assert not stack.left()
    assert not stack.places.root.exists()
    stack.destroy()
