"""Mizar on a real cluster by `pulumi up`: rolled out when it returns, unchanged the second time, gone after destroy."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import images
from infra.providers.node_image import NodeImageProps, NodeImageProvider
from infra.render.access import AGENT, CONTROLLER, NAMESPACE
from tests.engine.kubernetes_project import Project
from tests.lab.cluster import CONTROL, ROOT, Lab, made

pytestmark = [pytest.mark.engine, pytest.mark.root]

HEAD = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from infra.components.cluster_objects import ClusterObjects, ClusterObjectsArgs
from infra.render.crds import crds
from infra.render.manifests import Wanted, manifests
"""
PROGRAM = """
wanted = Wanted(stack="lab", image={image!r}, underlay="198.18.0.0/24", pins="/sys/fs/bpf", flow_entries={entries})
ClusterObjects("mizar", ClusterObjectsArgs(
    kubeconfig=os.environ["TEST_KUBECONFIG"], definitions=crds(), objects=manifests(wanted)))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> images.Built:
    for folder in ("bpf", "node_agent/cni"):
        subprocess.run(["make", "-s", "-C", str(ROOT / folder)], check=True)
    return images.build(ROOT, tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def lab(image: images.Built) -> Iterator[Lab]:
    with made(__name__) as lab:
        for host in lab.nodes:
            props = NodeImageProps(
                stack=lab.places.id, host=host, reference=image.reference, archive=str(image.archive)
            )
            NodeImageProvider().ensure(props, None)
        yield lab


@pytest.fixture
def project(lab: Lab, tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path, lab.places.netns_path(CONTROL), lab.admin, "default")
    yield project
    project.destroy()


def test_up_ends_with_ready_agents_and_destroy_with_nothing(lab: Lab, project: Project, image: images.Built) -> None:
    project.program(PROGRAM.format(image=image.reference, entries=16384), HEAD)
    project.run("up", "--yes", "--skip-preview", "--stack", "test")
    daemonset = lab.get(f"--namespace={NAMESPACE}", "daemonset", AGENT)["status"]
    assert daemonset["numberReady"] == daemonset["desiredNumberScheduled"] == len(lab.nodes)
    assert lab.get(f"--namespace={NAMESPACE}", "deployment", CONTROLLER)["status"]["readyReplicas"] == 1

    project.run("up", "--yes", "--skip-preview", "--expect-no-changes", "--stack", "test")
    project.program(PROGRAM.format(image=image.reference, entries=8192), HEAD)
    project.run("up", "--yes", "--skip-preview", "--stack", "test")
    rolled = lab.get(f"--namespace={NAMESPACE}", "daemonset", AGENT)
    assert rolled["status"]["updatedNumberScheduled"] == rolled["status"]["numberReady"] == len(lab.nodes)
    assert rolled["metadata"]["generation"] == 2

    project.destroy()
    assert NAMESPACE not in lab.kubectl("get", "namespaces")
    assert "mizar.com" not in lab.kubectl("get", "crd", "-o", "name")
