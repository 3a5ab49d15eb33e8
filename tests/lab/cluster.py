"""A whole cluster for tests, without Pulumi: fabric, hosts, control plane, nodes, all of them real.

Made with the functions that the Pulumi providers use. Every name carries the test run's own stack id; `made` removes
everything, however the test ends, and fails when something is left.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import credentials
from node_agent.emulation import cleanup, fabric, hosts, stack
from node_agent.emulation.cluster import control_plane, images, kubectl, node
from node_agent.emulation.cluster.configs import Cluster
from node_agent.kernel import commands
from node_agent.kernel.commands import CommandError
from node_agent.model.places import StackPlaces
from tests import slots

ROOT = Path(__file__).resolve().parents[2]
CONTROL = "control-1"
# Prints and stays, or prints and ends: what a pod, its log and an exec need.
TOOL = r"""
#include <stdio.h>
#include <unistd.h>
int main(int count, char **words)
{
	char name[65];
	if (gethostname(name, sizeof name))
		return 1;
	printf("%s on %s\n", count > 1 ? words[1] : "up", name);
	fflush(stdout);
	while (count == 1)
		pause();
	return 0;
}
"""
IMAGE = "mizar.local/test-tool:1"


@dataclass(frozen=True, kw_only=True)
class Lab:
    """`nodes`: name -> its specification; `admin`: a kubeconfig; `roots`: the authorities."""

    places: StackPlaces
    cluster: Cluster
    plane: control_plane.Spec
    admin: str
    nodes: dict[str, node.Spec]
    roots: dict[str, str]
    tool: bytes

    def kubectl(self, *arguments: str, stdin: str = "", timeout: float = 30.0) -> str:
        """What kubectl printed, asked from the control plane's host. Raises CommandError."""
        return kubectl.run(self.places, CONTROL, self.admin, arguments, timeout, stdin=stdin)

    def get(self, *arguments: str) -> Any:
        """Objects as parsed JSON."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(one) for one in objects))

    def tries(self, *arguments: str) -> str:
        """As `kubectl`, "" for a refusal: for conditions that are waited for."""
        try:
            return self.kubectl(*arguments)
        except CommandError:
            return ""


@contextlib.contextmanager
def made(name: str, workers: int = 2, *, control_node: bool = False) -> Iterator[Lab]:
    """A control plane and nodes without a network for pods; the test tool's image is on every node.

    `control_node`: the control plane's host is a node as well, tainted as such.
    """
    # Waits for a build in the background, and builds what is missing; nothing to do is a tenth of a second.
    subprocess.run([str(ROOT / "tools/setup/kubernetes.sh")], check=True, stdin=subprocess.DEVNULL)
    mark = hashlib.sha256(name.encode()).hexdigest()[:6]
    places = StackPlaces(f"test-{os.getpid()}-{mark}")
    with slots.for_a_cluster():
        try:
            yield _make(places, workers, control_node)
        finally:
            cleanup.remove(places.id)


def _make(places: StackPlaces, workers: int, control_node: bool) -> Lab:
    stack.make(places)
    fabric.make(places)
    addresses = {CONTROL: "198.18.0.10"} | {f"worker-{n}": f"198.18.0.{10 + n}" for n in range(1, workers + 1)}
    for host, address in addresses.items():
        hosts.make(places, hosts.Spec(name=host, address=f"{address}/24"))
    cluster = Cluster(address=addresses[CONTROL], dns="10.96.0.10")
    if not control_node:
        del addresses[CONTROL]
    server = f"https://{cluster.address}:{cluster.port}"
    roots = credentials.authorities()
    files = credentials.control_plane(
        roots,
        host=CONTROL,
        address=cluster.address,
        port=cluster.port,
        services=cluster.services,
        domain=cluster.domain,
        names=(),
    )
    plane = control_plane.Spec(host=CONTROL, cluster=cluster, files=files)
    control_plane.make(places, plane)
    lab = Lab(
        places=places,
        cluster=cluster,
        plane=plane,
        admin=credentials.admin(roots, server, places.id),
        nodes={},
        roots=roots,
        tool=_tool(places),
    )
    for host, address in addresses.items():
        _node(lab, host, address)
    return lab


def join(lab: Lab, host: str, address: str) -> None:
    """One more node, on a host of its own. It is not waited for."""
    hosts.make(lab.places, hosts.Spec(name=host, address=f"{address}/24"))
    _node(lab, host, address)


def _node(lab: Lab, host: str, address: str) -> None:
    """The host becomes a node, with the test tool's image on it."""
    spec = node.Spec(
        host=host,
        address=address,
        cluster=lab.cluster,
        files=credentials.node(
            lab.roots, host=host, address=address, server=f"https://{lab.cluster.address}:{lab.cluster.port}"
        ),
        taints=("node-role.kubernetes.io/control-plane:NoSchedule",) if host == CONTROL else (),
    )
    node.make(lab.places, spec)
    archive = lab.places.host(host).root / "tool.tar"
    archive.write_bytes(images.archive(images.Image(name=IMAGE, files={"tool": lab.tool}, command=("/tool",))))
    images.load(lab.places, host, archive, IMAGE)
    lab.nodes[host] = spec


def _tool(places: StackPlaces) -> bytes:
    source, program = places.root / "tool.c", places.root / "tool"
    source.write_text(TOOL)
    commands.run(["clang", "-static", "-Os", "-o", str(program), str(source)], 60.0)
    return program.read_bytes()
