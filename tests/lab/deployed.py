"""A cluster for tests on which Mizar is deployed as a user's would be: its image on the nodes, its manifests applied.

`tests.lab.mizar` makes one whose controller and agents are processes of the computer: cheaper, and easier to kill.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infra import images
from infra.providers.node_image import NodeImageProps, NodeImageProvider
from infra.render.access import AGENT, CONTROLLER, NAMESPACE
from infra.render.crds import crds
from infra.render.manifests import Wanted, manifests
from node_agent.model.objects import Subnet, Vpc
from node_agent.model.resources import to_resource
from node_agent.model.users import guarded
from tests.lab import cluster
from tests.lab.cluster import ROOT, Lab


def image(folder: Path) -> images.Built:
    """Mizar's own, of this tree."""
    subprocess.run(["make", "-s", "-C", str(ROOT / "bpf")], check=True)
    subprocess.run(["make", "-s", "-C", str(ROOT / "node_agent/cni")], check=True)
    return images.build(ROOT, folder)


@contextlib.contextmanager
def made(
    name: str, image: images.Built, wanted: Callable[[Lab], Wanted], *objects: Vpc | Subnet, control_node: bool = False
) -> Iterator[Lab]:
    """Two workers with these VPCs and subnets. Nothing is waited for: `rolled_out` does that."""
    with cluster.made(name, control_node=control_node) as made:
        for host in made.nodes:
            load(made, host, image)
        put(made, *crds())
        names = [f"crd/{each['metadata']['name']}" for each in crds()]
        made.kubectl("wait", "--for=condition=Established", *names, "--timeout=30s", timeout=40)
        put(made, *manifests(wanted(made)), *(to_resource(guarded(each)) for each in objects))
        yield made


def load(lab: Lab, host: str, image: images.Built) -> None:
    """The image is on the node; it is told as it is seen there, before and after."""
    props = NodeImageProps(stack=lab.places.id, host=host, reference=image.reference, archive=str(image.archive))
    provider = NodeImageProvider()
    assert provider.observe(props) == {"loaded": False, "image": image.reference}
    assert provider.ensure(props, None) == provider.observe(props)


def put(lab: Lab, *objects: dict[str, Any]) -> None:
    text = "\n---\n".join(json.dumps(each) for each in objects)
    lab.kubectl("apply", "--server-side", "--field-manager=test", "--validate=strict", "-f-", stdin=text, timeout=60)


def rolled_out(lab: Lab, patience: int = 120) -> None:
    """Controller and agents are as applied, all of them. `patience`: seconds for each."""
    for each in (f"deployment/{CONTROLLER}", f"daemonset/{AGENT}"):
        words = (f"--namespace={NAMESPACE}", "rollout", "status", each, f"--timeout={patience}s")
        lab.kubectl(*words, timeout=patience + 10)
