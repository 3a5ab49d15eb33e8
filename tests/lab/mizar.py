"""A cluster for tests whose network is Mizar: controller and agents as processes, pods of the test tool."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.providers import daemons
from infra.render.crds import crds
from node_agent.emulation import hosts
from node_agent.emulation.cluster import machines
from node_agent.kernel import cgroups, commands
from node_agent.model import config
from node_agent.model.config import AgentConfig, CniConfig, ControllerConfig, Listed
from node_agent.model.objects import Subnet, SubnetSpec, Vpc, VpcSpec
from node_agent.model.resources import to_resource
from tests.lab import cluster, cni, traffic
from tests.lab.cluster import Lab
from tests.waiting import until

PATIENCE = 60.0  # seconds; a bound for a loaded machine, nothing is measured by it


@contextlib.contextmanager
def made(
    name: str,
    workers: int = 2,
    *,
    control_node: bool = False,
    listed: tuple[Listed, ...] = (),
    chained: tuple[str, ...] = (),
) -> Iterator[Lab]:
    """Two nodes; VPC blue with subnet front, a /24, is what pods and services get by default, and red has the same
    addresses. `listed`: what pods may reach outside; `chained`: plugins after ours; the rest as in `cluster.made`."""
    cni.build()
    commands.run(["make", "-s", "-C", str(cluster.ROOT / "bpf")], 120.0)
    with cluster.made(name, workers, control_node=control_node) as made:
        made.apply(*crds())
        made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s", timeout=70)
        made.apply(
            to_resource(Vpc(name="blue", spec=VpcSpec(cidr="10.50.0.0/16", set_size=2))),
            to_resource(Vpc(name="red", spec=VpcSpec(cidr="10.50.0.0/16", set_size=2))),
            to_resource(Subnet(name="front", spec=SubnetSpec(vpc="blue", cidr="10.50.1.0/24"))),
            to_resource(Subnet(name="red-a", spec=SubnetSpec(vpc="red", cidr="10.50.1.0/24"))),
        )
        access = made.places.root / "admin.kubeconfig"
        access.touch(mode=0o600)
        access.write_text(made.admin)
        store = f"kubernetes:{access}"
        start_controller(made, store, listed)
        for name in made.nodes:
            start_agent(made, name, store, listed, chained)
        # kubectl waits only for what there is
        until(lambda: len(made.get("nodes")["items"]) == len(made.nodes), PATIENCE, "the nodes", pause=0.1)
        made.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s", timeout=70)
        yield made


def fixture(*, control_node: bool = False, listed: tuple[Listed, ...] = (), chained: tuple[str, ...] = ()) -> Any:
    """A test module's fixture `lab`: one cluster, as of `made`, for all of its tests."""

    @pytest.fixture(scope="module", name="lab")
    def for_module(request: pytest.FixtureRequest) -> Iterator[Lab]:
        with made(request.module.__name__, control_node=control_node, listed=listed, chained=chained) as found:
            yield found

    return for_module


def start_controller(lab: Lab, store: str, listed: tuple[Listed, ...] = ()) -> None:
    """The controller as a process of the computer. It does what it does as a pod: hosts are made of nodes, services of
    the cluster's."""
    text = config.dump(
        ControllerConfig(stack_id=lab.places.id, store=store, cluster=True, vpc="blue", subnet="front", listed=listed)
    )
    daemons.start(lab.places.controller, "controller", text, netns=lab.places.netns_path(cluster.CONTROL))


def start_agent(
    lab: Lab, host: str, store: str, listed: tuple[Listed, ...] = (), chained: tuple[str, ...] = ()
) -> None:
    """The agent as a process of the computer in the host's network. What containers have is on the node's machine."""
    places, disk = lab.places.host(host), machines.disk(lab.places, host)
    text = config.dump(
        AgentConfig(
            host=host,
            stack_id=lab.places.id,
            address=lab.nodes[host].address,
            uplink=hosts.UPLINK,
            underlay_prefixes=("198.18.0.0/24",),
            store=store,
            pins=str(places.pins),
            socket=str(places.socket),
            bpf_objects=str(cluster.ROOT / "bpf" / "build"),
            cni=CniConfig(
                conflist=str(disk / "etc-cni" / "net.d" / "10-mizar.conflist"),
                plugin=str(cni.BUILD / "mizar"),
                programs=str(disk / "opt-cni" / "bin"),
                socket=f"/run/mizar/{places.socket.name}",
                vpc="blue",
                subnet="front",
                chained=chained,
                host_vpc="blue",
            ),
            listed=listed,
        )
    )
    daemons.start(places.root, "agent", text, netns=lab.places.netns_path(host))


def pod(name: str, node: str, **annotations: str) -> dict[str, Any]:
    said = {f"mizar.com/{key}": value for key, value in annotations.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": said, "labels": {"app": "tool"}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "tool", "image": cluster.IMAGE}],
        },
    }


def clean(lab: Lab) -> None:
    """Every pod of the default namespace goes, and its address with it."""
    lab.kubectl("delete", "pods", "--all", "--timeout=60s", timeout=70)
    lab.kubectl("annotate", "namespace", "default", "mizar.com/vpc-", "mizar.com/subnet-", "mizar.com/vpcs-")
    until(lambda: not lab.get("networkendpoints")["items"], PATIENCE, "the addresses to be free", pause=0.1)


def addresses(lab: Lab, *names: str) -> dict[str, str]:
    """Pod -> its address, once all of them are Ready."""
    lab.kubectl("wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), "--timeout=60s", timeout=70)
    return {item["metadata"]["name"]: item["status"]["podIP"] for item in lab.get("pods")["items"]}


def space(lab: Lab, node: str, name: str) -> Path:
    """The network namespace of a pod, found by the host name of one of its processes."""
    for pid in cgroups.processes(machines.cgroup(lab.places, node)):
        try:
            names = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"HOSTNAME={name}".encode() in names:
            return Path(f"/proc/{pid}/ns/net")
    raise AssertionError(f"no process of {name} on {node}")


def reaches(one: Path, other: Path, target: str) -> bool:
    """Whether a datagram gets from one namespace to the other and back."""
    with traffic.udp_socket(other, traffic.PORT) as there, traffic.udp_socket(one) as here:
        here.sendto(b"ping", (target, traffic.PORT))
        try:
            said, sender = there.recvfrom(64)
            there.sendto(said, sender)
            return here.recv(64) == b"ping"
        except TimeoutError:
            return False
