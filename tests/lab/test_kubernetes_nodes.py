"""A control plane and two nodes without a network for pods: what works then, what says why it does not, and what of it
survives what."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.emulation import cleanup, processes
from node_agent.emulation.cluster import control_plane, machines, node
from node_agent.kernel import cgroups, netns
from tests.lab import cluster
from tests.lab.cluster import Lab
from tests.waiting import until

pytestmark = pytest.mark.root

PATIENCE = 60.0  # seconds; a bound for a loaded machine, nothing is measured by it
PODS = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "tool"},
    "spec": {
        "selector": {"matchLabels": {"app": "tool"}},
        "template": {
            "metadata": {"labels": {"app": "tool"}},
            "spec": {
                "hostNetwork": True,
                "tolerations": [{"operator": "Exists"}],
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "tool",
                        "image": cluster.IMAGE,
                        "resources": {"limits": {"memory": "32Mi", "cpu": "100m"}},
                        "securityContext": {
                            "runAsUser": 65534,  # reads what anybody may read, and no more
                            "capabilities": {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN", "PERFMON", "SYS_ADMIN"]},
                        },
                        "volumeMounts": [{"name": "pins", "mountPath": "/sys/fs/bpf"}],
                    }
                ],
                "volumes": [{"name": "pins", "hostPath": {"path": "/sys/fs/bpf", "type": "Directory"}}],
            },
        },
    },
}


def observed() -> dict[str, object]:
    """Files of the computer that kubelets and container engines write by default, and settings that kubelets change."""
    folders = ("/var/lib/kubelet", "/var/log/pods", "/etc/cni", "/opt/cni", "/run/containerd", "/run/kubernetes")
    settings = [Path("/proc/sys", key) for key in machines.SYSCTLS]
    return {
        **{folder: sorted(path.name for path in Path(folder).glob("*")) for folder in folders},
        **{folder + "/": Path(folder).exists() for folder in folders},
        **{str(path): path.read_text() for path in settings},
    }


@pytest.fixture(scope="module")
def computer() -> dict[str, object]:
    return observed()


@pytest.fixture(scope="module")
def lab(computer: dict[str, object]) -> Iterator[Lab]:
    with cluster.made(__name__) as made:
        made.kubectl("wait", "--for=create", *(f"node/{name}" for name in made.nodes), "--timeout=60s", timeout=70)
        yield made


@pytest.fixture
def pods(lab: Lab) -> dict[str, str]:
    """Node -> the name of its pod of the test tool, running."""
    lab.apply(PODS)
    lab.kubectl("rollout", "status", "daemonset/tool", f"--timeout={PATIENCE:g}s", timeout=PATIENCE + 10)
    # A control plane that was just away may take nodes, and so their pods, for lost for a moment.
    until(lambda: set(running(lab)) == set(lab.nodes), PATIENCE, "a pod on every node")
    return running(lab)


def running(lab: Lab) -> dict[str, str]:
    found = lab.get("pods", "-l", "app=tool")["items"]
    return {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in found if ready(pod)}


def ready(item: dict) -> bool:  # type: ignore[type-arg]
    conditions = item.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def runs(lab: Lab, pod: str) -> bool:
    return "asked on" in lab.tries("exec", pod, "--", "/tool", "asked")


def test_nodes_are_there_and_say_that_their_network_is_missing(lab: Lab) -> None:
    def reasons() -> list[str]:
        return [
            one["message"]
            for item in lab.get("nodes")["items"]
            for one in item["status"]["conditions"]
            if one["type"] == "Ready" and one["status"] == "False"
        ]

    until(lambda: len(reasons()) == 2, PATIENCE, "two nodes that are not ready")
    assert all("cni plugin not initialized" in reason for reason in reasons())
    listed = {item["metadata"]["name"]: item["status"] for item in lab.get("nodes")["items"]}
    assert set(listed) == set(lab.nodes)
    for name, status in listed.items():
        assert {"type": "InternalIP", "address": lab.nodes[name].address} in status["addresses"]
        assert status["nodeInfo"]["kubeletVersion"].startswith("v1.34.")
        assert status["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://2.")


def test_a_conflist_makes_its_node_ready_and_its_removal_undoes_that(lab: Lab) -> None:
    host = next(iter(lab.nodes))
    folder = machines.disk(lab.places, host) / "etc-cni" / "net.d"
    folder.mkdir(exist_ok=True)
    (folder / "10-nothing.conflist").write_text(
        '{"cniVersion": "1.0.0", "name": "nothing", "plugins": [{"type": "loopback"}]}'
    )
    try:
        until(lambda: ready(lab.get("node", host)), PATIENCE, "a ready node")
        assert not any(ready(lab.get("node", other)) for other in lab.nodes if other != host)
    finally:
        (folder / "10-nothing.conflist").unlink()
    until(lambda: not ready(lab.get("node", host)), PATIENCE, "a node that is not ready")


def test_a_pod_in_the_hosts_network_runs_logs_and_is_entered(lab: Lab, pods: dict[str, str]) -> None:
    assert set(pods) == set(lab.nodes)
    for host, pod in pods.items():
        assert lab.kubectl("logs", pod) == f"up on {host}\n"
        assert lab.kubectl("exec", pod, "--", "/tool", "asked") == f"asked on {host}\n"


def test_the_api_servers_service_address_is_reached_from_every_node(lab: Lab) -> None:
    def reach() -> bool:
        with socket.create_connection(("10.96.0.1", 443), timeout=5.0):
            return True

    for host in lab.nodes:
        assert netns.call_in(lab.places.netns_path(host), reach)


def test_the_store_takes_no_stranger(lab: Lab) -> None:
    """Pods in the control plane host's network reach 127.0.0.1 as well."""
    pki = control_plane.root(lab.places, cluster.CONTROL) / "pki"
    context = ssl.create_default_context(cafile=str(pki / "etcd-ca.crt"))

    def ask() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", 2379), timeout=5.0) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(b"GET /version HTTP/1.0\r\n\r\n")
            return secure.recv(100)

    with pytest.raises(ssl.SSLError, match="certificate required"):
        netns.call_in(lab.places.netns_path(cluster.CONTROL), ask)
    context.load_cert_chain(pki / "apiserver-etcd-client.crt", pki / "apiserver-etcd-client.key")
    assert netns.call_in(lab.places.netns_path(cluster.CONTROL), ask).startswith(b"HTTP/1.0 200")


def test_making_it_again_changes_nothing(lab: Lab) -> None:
    before = control_plane.inspect(lab.places, cluster.CONTROL, lab.cluster)
    assert before is not None and not before.problems
    assert control_plane.make(lab.places, lab.plane) == before
    for host, spec in lab.nodes.items():
        seen = node.inspect(lab.places, host)
        assert seen is not None and not seen.problems
        assert node.make(lab.places, spec) == seen


def commands(lab: Lab, host: str) -> dict[int, str]:
    """Pid -> command of what runs on the machine."""
    found = {}
    for pid in cgroups.processes(machines.cgroup(lab.places, host)):
        with contextlib.suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
    return found


@pytest.mark.parametrize("killed", ["daemons", "their keepers"])
def test_killed_daemons_come_back_and_spare_the_pods(lab: Lab, pods: dict[str, str], killed: str) -> None:
    host, pod = next(iter(pods.items()))
    before = node.inspect(lab.places, host)
    assert before is not None
    old = {name: pid for pid, name in commands(lab, host).items() if name in node.DAEMONS}
    assert set(old) == set(node.DAEMONS)
    for name in node.DAEMONS:
        os.kill(old[name] if killed == "daemons" else before.pids[name], signal.SIGKILL)

    def back() -> bool:
        here = [(name, pid) for pid, name in commands(lab, host).items() if name in node.DAEMONS]
        return sorted(name for name, _ in here) == sorted(node.DAEMONS) and not set(here) & set(old.items())

    until(back, PATIENCE, "one containerd and one kubelet, both new")
    until(lambda: runs(lab, pod), PATIENCE, "exec into the pod")
    statuses = lab.get("pod", pod)["status"]["containerStatuses"]
    assert [one["restartCount"] for one in statuses] == [0]
    after = node.inspect(lab.places, host)
    assert after is not None and after.machine == before.machine


def test_a_killed_control_plane_comes_back(lab: Lab) -> None:
    before = control_plane.inspect(lab.places, cluster.CONTROL, lab.cluster)
    assert before is not None
    for pid in before.pids.values():
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        seen = control_plane.inspect(lab.places, cluster.CONTROL, lab.cluster)
        return seen is not None and not seen.problems and not set(seen.pids.values()) & {0, *before.pids.values()}

    until(back, PATIENCE, "the control plane")
    assert {item["metadata"]["name"] for item in lab.get("nodes")["items"]} == set(lab.nodes)


@pytest.mark.parametrize("killed", ["first process", "keeper"])
def test_a_machine_that_is_killed_starts_anew_with_all_that_was_on_it(
    lab: Lab, pods: dict[str, str], killed: str
) -> None:
    host = next(iter(pods))
    before = node.inspect(lab.places, host)
    kept = processes.inspect(machines.folder(lab.places, host), "machine")
    assert before is not None and kept is not None
    old = set(commands(lab, host))
    os.kill(before.machine if killed == "first process" else kept.pid, signal.SIGKILL)

    def back() -> bool:
        seen = node.inspect(lab.places, host)
        return seen is not None and not seen.problems and seen.machine not in (0, before.machine)

    until(back, PATIENCE, "the machine")
    until(lambda: runs(lab, running(lab).get(host, "none")), PATIENCE, "the pod")
    assert not old & set(commands(lab, host))


def test_nothing_of_a_node_shows_on_the_computer(lab: Lab, pods: dict[str, str], computer: dict[str, object]) -> None:
    mounted = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert [path for path in mounted if str(lab.places.root) in path] == [str(lab.places.bpffs)]
    assert observed() == computer


def test_a_removed_node_leaves_nothing_and_can_be_made_again(lab: Lab, pods: dict[str, str]) -> None:
    host = next(iter(pods))
    group, root = machines.cgroup(lab.places, host), machines.root(lab.places, host)
    assert len(cgroups.processes(group)) > 3  # containerd, kubelet, a shim, the pod
    node.remove(lab.places, host)
    assert node.inspect(lab.places, host) is None
    assert not cgroups.exists(group) and not root.exists() and not processes.marked(root)
    node.remove(lab.places, host)
    lab.kubectl("delete", "node", host)
    made = node.make(lab.places, lab.nodes[host])
    assert made.machine and not made.problems
    until(lambda: host in lab.tries("get", "nodes"), PATIENCE, "the node")


def test_clean_up_of_a_running_cluster_leaves_nothing() -> None:
    with cluster.made("clean-up", workers=1) as lab:
        cleanup.remove(lab.places.id)
        assert not cleanup.leftovers(lab.places.id)
        assert not lab.places.root.exists()
        assert not cgroups.exists(f"mizar-{lab.places.id}")
        assert not netns.listed(lab.places.netns(""), Path("/run/netns"))
