"""Stack `local-k8s` by the real engine: up, up again, kubectl, repair, fewer nodes, destroy."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from node_agent.emulation.cluster import control_plane, machines, node, programs
from node_agent.kernel import cgroups
from tests.e2e import stack as stacks
from tests.e2e.stack import Stack
from tests.engine.engine_env import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.root]

PATIENCE = 30.0  # seconds; a bound for a loaded machine, nothing is measured by it


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack of a control plane and 2 nodes that the tests use one after the other."""
    subprocess.run([str(ROOT / "tools/setup/kubernetes.sh")], check=True, stdin=subprocess.DEVNULL)
    made = stacks.make(tmp_path_factory.mktemp("local-k8s"), target="local-k8s", hosts=2, vpcs=[])
    shutil.copytree(ROOT / "tools", made.project / "tools")
    try:
        made.up()
        yield made
    finally:
        made.close()


def kubectl(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Plain kubectl as a user runs it: on this computer, with the stack's output."""
    file = stack.folder / "kubeconfig"
    file.write_text(stack.pulumi("stack", "output", "kubeconfig", "--show-secrets"))
    argv = [str(programs.where().kubernetes / "kubectl"), f"--kubeconfig={file}", *arguments]
    env = {"HOME": str(stack.folder), "PATH": os.environ["PATH"]}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)


def nodes(stack: Stack) -> dict[str, dict[str, Any]]:
    told = kubectl(stack, "get", "nodes", "-o", "json")
    assert told.returncode == 0, told.stderr
    return {item["metadata"]["name"]: item for item in json.loads(told.stdout)["items"]}


def wait_for_nodes(stack: Stack, names: set[str]) -> None:
    until = time.monotonic() + PATIENCE
    while set(nodes(stack)) != names:
        assert time.monotonic() < until, nodes(stack)
        time.sleep(0.2)


def changes(output: str) -> list[str]:
    lines = output.rpartition("Resources:")[2].partition("Duration")[0].splitlines()
    return [line.strip() for line in lines if line.strip()]


def test_kubectl_of_this_computer_sees_the_nodes(stack: Stack) -> None:
    wait_for_nodes(stack, {"control-1", "host-1", "host-2"})
    assert stack.outputs()["kubeconfig"] == "[secret]"
    taints = {name: [one["key"] for one in item["spec"].get("taints", [])] for name, item in nodes(stack).items()}
    assert "node-role.kubernetes.io/control-plane" in taints["control-1"]
    assert "node-role.kubernetes.io/control-plane" not in taints["host-1"]


def test_no_key_is_readable_in_the_state(stack: Stack) -> None:
    state = stack.pulumi("stack", "export")
    assert "PRIVATE KEY" not in state and "client-key-data" not in state
    assert "PRIVATE KEY" in stack.pulumi("stack", "export", "--show-secrets")


def test_a_second_up_and_a_refresh_change_nothing(stack: Stack) -> None:
    assert changes(stack.up(preview=True)) == ["20 unchanged"]
    assert changes(stack.pulumi("refresh", "--yes", "--skip-preview")) == ["20 unchanged"]


def test_what_was_broken_by_hand_is_repaired(stack: Stack) -> None:
    plane = control_plane.root(stack.places, "control-1")
    for folder, name in ((machines.root(stack.places, "host-1") / "kubelet", "kubelet"), (plane / "etcd", "etcd")):
        for file in ("supervisor.pid", f"{name}.pid"):
            os.kill(int((folder / file).read_text().split()[0]), signal.SIGKILL)
    told = changes(stack.up(preview=True))
    assert "~ 2 updated" in told, told
    seen = node.inspect(stack.places, "host-1")
    assert seen is not None and not seen.problems
    wait_for_nodes(stack, {"control-1", "host-1", "host-2"})


def test_a_node_that_is_not_wanted_any_more_leaves_the_cluster(stack: Stack) -> None:
    stack.settings["hosts"] = 1
    stack.up()
    assert set(nodes(stack)) == {"control-1", "host-1"}
    assert not cgroups.exists(machines.cgroup(stack.places, "host-2"))
    stack.settings["hosts"] = 2
    stack.up()
    wait_for_nodes(stack, {"control-1", "host-1", "host-2"})


def test_destroy_leaves_nothing(stack: Stack) -> None:
    stack.destroy()
    assert not stack.left()
    assert not stack.places.root.exists()


def test_the_stack_file_of_the_project_is_this_stack() -> None:
    config = yaml.safe_load((ROOT / "stacks/Pulumi.local-k8s.yaml").read_text())["config"]
    assert config["mizar:target"] == "local-k8s"
