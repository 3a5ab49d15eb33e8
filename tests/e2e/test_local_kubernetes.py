"""Stack `local-k8s` by the real engine: up, up again, kubectl, repair, fewer nodes, destroy."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from node_agent.emulation.cluster import control_plane, machines, node, programs
from node_agent.kernel import cgroups
from tests import slots
from tests.e2e import stack as stacks
from tests.e2e.stack import Stack, changes
from tests.engine.engine_env import ROOT
from tests.waiting import until

pytestmark = [pytest.mark.engine, pytest.mark.root]

Command = Callable[..., subprocess.CompletedProcess[str]]
PYTHON = ("/usr/bin/python3", "-S", "-c")  # of the image
PATIENCE = 30.0  # seconds; a bound for a loaded machine, nothing is measured by it


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack of a control plane and 2 nodes that the tests use one after the other."""
    subprocess.run([str(ROOT / "tools/setup/kubernetes.sh")], check=True, stdin=subprocess.DEVNULL)
    made = stacks.make(tmp_path_factory.mktemp("local-k8s"), **committed())
    for each in ("tools", "images"):
        shutil.copytree(ROOT / each, made.project / each)
    subprocess.run([str(ROOT / "tools/providers/kubernetes/install.sh"), "--stand-in"], env=made.env, check=True)
    with slots.for_a_cluster():
        try:
            made.up()
            yield made
        finally:
            made.close()


def committed() -> dict[str, Any]:
    """The settings of the committed stack file."""
    return dict(yaml.safe_load((ROOT / "stacks/Pulumi.local-k8s.yaml").read_text())["config"])


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
    until(lambda: set(nodes(stack)) == names, PATIENCE, lambda: f"nodes {names}, not {set(nodes(stack))}", pause=0.2)


def test_kubectl_of_this_computer_sees_the_nodes(stack: Stack) -> None:
    wait_for_nodes(stack, {"control-1", "host-1", "host-2"})
    assert stack.outputs()["kubeconfig"] == "[secret]"
    taints = {name: [one["key"] for one in item["spec"].get("taints", [])] for name, item in nodes(stack).items()}
    assert "node-role.kubernetes.io/control-plane" in taints["control-1"]
    assert "node-role.kubernetes.io/control-plane" not in taints["host-1"]


def test_the_example_of_the_page_works_as_told(stack: Stack) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text().partition("## An example")[2].partition("\n## ")[0]
    lines = [line.strip() for line in page.splitlines() if line.startswith("    ")]
    made = [line for line in lines if line.startswith(("image=", "sed ", "kubectl wait"))]
    [asking] = [line for line in lines if line.startswith("ask()")]
    asked = [line.split("#") for line in lines if line.startswith("ask ")]
    [removal] = [line for line in lines if line.startswith("kubectl delete")]
    assert len(made) == 3 and len(asked) == 4
    kubectl(stack, "version")  # leaves the kubeconfig there
    path = f"{os.environ['PATH']}:{programs.where().kubernetes}"
    env = {"HOME": str(stack.folder), "PATH": path, "KUBECONFIG": str(stack.folder / "kubeconfig")}

    def shell(*words: str) -> subprocess.CompletedProcess[str]:
        argv = ["bash", "-c", "\n".join(words)]
        return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)

    def answer(command: str) -> dict[str, str]:
        done = shell(asking, command)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    try:
        done = shell("set -e", *made)
        assert done.returncode == 0, done.stdout + done.stderr
        for command, told in asked:
            if "timed out" in told:
                assert "timed out" in shell(asking, command).stderr
                continue
            found = until(lambda command=command: answer(command), PATIENCE, command)  # type: ignore[misc]
            wanted = json.loads(told[told.index("{") :])
            assert found == wanted or "one of" in told, command
            assert found["vpc"] == wanted["vpc"]
    finally:
        until(lambda: shell(removal).returncode == 0, PATIENCE, "the example's end", pause=0.5)


def test_no_key_is_readable_in_the_state(stack: Stack) -> None:
    state = stack.pulumi("stack", "export")
    assert "PRIVATE KEY" not in state and "client-key-data" not in state
    assert "PRIVATE KEY" in stack.pulumi("stack", "export", "--show-secrets")


def test_a_second_up_and_a_refresh_change_nothing(stack: Stack) -> None:
    for output in (stack.up(preview=True), stack.pulumi("refresh", "--yes", "--skip-preview")):
        (told,) = changes(output)
        assert told.endswith(" unchanged")


def kill(folder: Path, name: str) -> None:
    """A program and who keeps it running."""
    for file in ("supervisor.pid", f"{name}.pid"):
        os.kill(int((folder / name / file).read_text().split()[0]), signal.SIGKILL)


def test_what_was_broken_by_hand_shows_in_a_preview_and_is_repaired(stack: Stack) -> None:
    kill(machines.root(stack.places, "host-1"), "kubelet")
    kill(control_plane.root(stack.places, "control-1"), "kube-scheduler")
    assert "~ 2 to update" in changes(stack.pulumi("preview"))
    kill(control_plane.root(stack.places, "control-1"), "etcd")  # the API with it: no preview sees behind that
    stack.up()
    seen = node.inspect(stack.places, "host-1")
    assert seen is not None and not seen.problems
    wait_for_nodes(stack, {"control-1", "host-1", "host-2"})


def test_a_node_that_is_not_wanted_any_more_leaves_the_cluster(stack: Stack) -> None:
    stack.settings["mizar:hosts"] = 1
    stack.up()
    assert set(nodes(stack)) == {"control-1", "host-1"}
    assert not cgroups.exists(machines.cgroup(stack.places, "host-2"))
    stack.settings["mizar:hosts"] = 2
    stack.up()
    wait_for_nodes(stack, {"control-1", "host-1", "host-2"})


def allow_down(stack: Stack, agents: int) -> None:
    """How many agents a rollout may take down, changed by hand; it starts none, and what else `preview` sees stays."""
    patch = json.dumps({"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": agents}}}})
    told = kubectl(stack, "-n", "mizar-system", "patch", "daemonset", "mizar-agent", "-p", patch)
    assert told.returncode == 0, told.stderr


def test_an_object_that_was_changed_by_hand_shows_in_a_preview_and_is_not_overwritten_unasked(stack: Stack) -> None:
    # A node that came a while ago may get its part in the VPCs at any moment, which shows too, until the next `up`.
    changed = "changed in the cluster: spec.updateStrategy.rollingUpdate.maxUnavailable is 2, 1 is wanted"
    assert changed not in stack.pulumi("preview")
    allow_down(stack, 2)
    assert changed in stack.pulumi("preview")
    refused = stack.pulumi("up", "--yes", "--skip-preview", ok=False)
    assert '.spec.updateStrategy.rollingUpdate.maxUnavailable: conflict with "kubectl-patch"' in refused
    allow_down(stack, 1)
    stack.up()
    assert "changed in the cluster" not in stack.pulumi("preview")


def pod(name: str, image: str, node: str = "", **annotations: str) -> dict[str, Any]:
    """One that says a word and sleeps, of the project's own image."""
    command = [*PYTHON, "import time; print('a word', flush=True); time.sleep(100000)"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {f"mizar.com/{key}": value for key, value in annotations.items()}},
        "spec": {"nodeName": node, "containers": [{"name": "one", "image": image, "command": command}]},
    }


@pytest.fixture(scope="module")
def pods(stack: Stack) -> dict[str, str]:
    """Two of VPC blue on either node, and one that says nothing; their addresses. They stay until the stack goes."""
    image = kubectl(
        stack, "-n", "mizar-system", "get", "daemonset", "mizar-agent",
        "-o", "jsonpath={.spec.template.spec.containers[0].image}",
    ).stdout  # fmt: skip
    file = stack.folder / "pods.json"
    made = [pod(f"blue-{number}", image, f"host-{number}", vpc="blue") for number in (1, 2)]
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [*made, pod("of-nobody", image)]}))
    assert kubectl(stack, "apply", "-f", str(file)).returncode == 0
    told = kubectl(stack, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=50s")
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(kubectl(stack, "get", "pods", "-o", "json").stdout)["items"]
    return {item["metadata"]["name"]: item["status"]["podIP"] for item in found}


@pytest.fixture(scope="module")
def command(stack: Stack, pods: dict[str, str]) -> Command:
    """The command mizar, once pods are there and the cluster's kubeconfig is where `make up` puts it."""
    assert pods
    file = stack.places.kubeconfig
    file.touch(mode=0o600)
    file.write_text(stack.pulumi("stack", "output", "kubeconfig", "--show-secrets"))
    return stack.mizar


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("status", r"stack .*: healthy\ncontroller: ok, pod mizar-controller-\S+\n(.*\n)+host-1 .* pod mizar-agent-"),
        ("stacks", r"(?m)^STACK  /run/mizar/STACK  3 kubelets$"),
        ("drops", r"unknown_destination +blue +host-1 "),
        ("flows host-1", r"blue +udp +default/blue-1:\d+ +default/blue-2:9 +host-2 "),
        ("trace default/blue-1 default/blue-2", r"result: DELIVERED to default/blue-2 on host-2"),
        ("metrics host-1", r'mizar_agent_ready{host="host-1"} 1.0'),
        ("metrics controller", r'mizar_objects{kind="NetworkHost"} 3.0'),
        ("rebalance --dry-run", r"(?m)^blue +\S*(control|host)-\d"),  # a host that was away waits for its place
        ("rebalance --vpc blue", r"asked the controller; `mizar status` shows how far it is\n$"),
        ("logs host-1", r'"event": "endpoint added", .*"workload": "default/blue-1"'),
        ("logs controller", r'"event": "started"'),
        ("logs default/blue-1", r"^a word\n$"),
    ],
)
def test_the_command_tells_what_it_tells_of_a_stack_without_a_cluster(
    stack: Stack, command: Command, pods: dict[str, str], words: str, said: str
) -> None:
    send = (
        "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM); [s.sendto(b'x', (a, 9)) for a in sys.argv[1:]]"
    )
    said = said.replace("STACK", stack.id)
    told = list[subprocess.CompletedProcess[str]]()

    def tells() -> bool:
        # The second one is nobody's.
        sent = command("exec", "default/blue-1", "--", *PYTHON, send, pods["blue-2"], "10.10.255.254")
        assert sent.returncode == 0, sent.stderr
        told[:] = [command(*words.split())]
        return told[0].returncode == 0 and bool(re.search(said, told[0].stdout))

    until(tells, PATIENCE, lambda: (words, told), pause=0.1)


def line(process: subprocess.Popen[str]) -> str:
    """The next one that it prints; it prints one at a time."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE)[0], "it says nothing"
    return process.stdout.readline()


def test_a_command_in_a_pod_says_what_it_says_and_its_log_is_followed(stack: Stack, command: Command) -> None:
    script = "import os, sys; print(os.environ['HOSTNAME']); print('err', file=sys.stderr); sys.exit(7)"
    told = command("exec", "default/blue-1", "--", *PYTHON, script)
    assert (told.returncode, told.stdout, told.stderr) == (7, "blue-1\n", "err\n")
    told = command("exec", "--json", "default/blue-1", "--", *PYTHON, script)
    assert (told.returncode, json.loads(told.stdout)) == (7, {"code": 7, "stdout": "blue-1\n", "stderr": "err\n"})
    told = command("exec", "default/blue-1", "--", "no-such-program")
    assert (told.returncode, told.stdout) == (1, "") and "no-such-program" in told.stderr
    argv = [sys.executable, "-m", "node_agent.cli.main", "logs", "-f", "--stack-id", stack.id, "default/blue-1"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as followed:
        try:
            assert line(followed) == "a word\n"
            later = command("exec", "default/blue-1", "--", *PYTHON, "open('/proc/1/fd/1', 'w').write('later\\n')")
            assert later.returncode == 0, later.stderr
            assert line(followed) == "later\n"
        finally:
            followed.kill()


@pytest.mark.usefixtures("pods")
def test_a_vpc_in_use_is_not_deleted_and_its_users_are_named(stack: Stack) -> None:
    kept = stack.settings["mizar:vpcs"]
    stack.settings["mizar:vpcs"] = [vpc for vpc in kept if vpc["name"] != "blue"]
    refused = stack.pulumi("up", "--yes", "--skip-preview", ok=False)
    assert "delete Subnet blue-a: in use by NetworkEndpoint" in refused
    stack.settings["mizar:vpcs"] = kept
    stack.up()
    phases = kubectl(stack, "get", "pods", "-o", "jsonpath={.items[*].status.phase}").stdout.split()
    assert phases == ["Running"] * 3


def test_destroy_leaves_nothing_also_with_pods_running(stack: Stack) -> None:
    stack.destroy()
    assert not stack.left()
    assert not stack.places.root.exists()
