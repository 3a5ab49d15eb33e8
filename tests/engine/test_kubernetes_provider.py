"""The stand-in for the plugin `kubernetes`: the real engine, the real Python SDK, a real cluster with one node.

The node has no network for pods, so the pods are in the host's, and tolerate that the node is not ready.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.kernel import netns
from tests.engine.kubernetes_project import Project
from tests.lab.cluster import CONTROL, IMAGE, Lab, made

pytestmark = [pytest.mark.engine, pytest.mark.root]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with made("provider", workers=1) as lab:
        yield lab


@pytest.fixture
def namespace(lab: Lab) -> Iterator[str]:
    name = f"test-{next(_numbers)}"
    lab.kubectl("create", "namespace", name)
    yield name
    lab.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")  # nothing waits for it to be gone


@pytest.fixture
def project(lab: Lab, namespace: str, tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path, lab.places.netns_path(CONTROL), lab.admin, namespace)
    yield project
    project.destroy()


def workload(words: str = "", image: str = IMAGE, **annotations: str) -> str:
    """A Deployment `web` of one pod with the test tool; without words it stays, with words it prints them and ends."""
    return f"""
        web = k8s.apps.v1.Deployment("web", opts=here,
            metadata=ObjectMetaArgs(name="web", annotations={annotations!r}, labels={{"team": "red"}}),
            spec={{"replicas": 1, "selector": {{"match_labels": {{"app": "web"}}}}, "template": {{
                "metadata": {{"labels": {{"app": "web"}}}},
                "spec": {{"host_network": True, "termination_grace_period_seconds": 0,
                    "tolerations": [{{"operator": "Exists"}}], "containers": [
                    {{"name": "tool", "image": {image!r}, "args": {words.split()!r}}}]}}}}}})
    """


SHOP = """
    settings = k8s.core.v1.ConfigMap("settings", opts=here, data={"colour": "blue"})
    password = k8s.core.v1.Secret("password", opts=here, string_data={"word": pulumi.Output.secret("tr1cky-w0rd")})
    pod = lambda app, *words, **more: {
        "metadata": {"labels": {"app": app}},
        "spec": {"host_network": True, "termination_grace_period_seconds": 0, **more,
                 "tolerations": [{"operator": "Exists"}],
                 "containers": [{"name": "tool", "image": IMAGE, "args": list(words)}]}}
    chosen = lambda app: LabelSelectorArgs(match_labels={"app": app})
    web = k8s.apps.v1.Deployment("web", opts=here,
        spec={"replicas": 2, "selector": chosen("web"), "template": pod("web")})
    door = k8s.core.v1.Service("door", opts=here, metadata=ObjectMetaArgs(name="door"),
        spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
    every = k8s.apps.v1.DaemonSet("every", opts=here, spec={"selector": chosen("every"), "template": pod("every")})
    once = k8s.batch.v1.Job("once", opts=here, spec={"template": pod("once", "done", restart_policy="Never")})
    room = k8s.core.v1.Namespace("room", opts=here)
    pulumi.export("settings", settings.metadata.name)
    pulumi.export("room", room.metadata.name)
    pulumi.export("address", door.spec.cluster_ip)
    pulumi.export("available", pulumi.Output.all(web.status.available_replicas, every.status.number_available))
""".replace("IMAGE", repr(IMAGE))


def test_everything_is_ready_after_up_unchanged_by_the_next_and_gone_after_destroy(
    lab: Lab, project: Project, namespace: str
) -> None:
    project.program(SHOP)
    assert "cannot be reached" not in project.preview()
    told = project.up()
    assert told.count("its stand-in does the work") in (1, 2), "one line: as it happens, and in the summary"
    outputs = project.outputs()
    assert outputs["available"] == [2, 1]
    assert outputs["address"].count(".") == 3
    assert outputs["settings"].startswith("settings-")
    assert lab.get("configmap", "-n", namespace, outputs["settings"])["data"] == {"colour": "blue"}
    assert lab.get("jobs", "-n", namespace)["items"][0]["status"]["succeeded"] == 1
    assert "tr1cky-w0rd" not in project.state()
    project.up("--expect-no-changes")
    project.run("refresh", "--yes", "--stack", "test")
    project.up("--expect-no-changes")
    project.destroy()
    left = lab.kubectl("get", "deployments,daemonsets,services,jobs,secrets,pods", "-n", namespace, "-o", "name")
    assert left == ""
    assert outputs["settings"] not in lab.kubectl("get", "configmaps", "-n", namespace, "-o", "name")
    assert outputs["room"] not in lab.kubectl("get", "namespaces", "-o", "name")


def test_a_change_from_outside_shows_in_preview_and_is_put_right_by_up(
    lab: Lab, project: Project, namespace: str
) -> None:
    project.program(workload(**{"pulumi.com/patchForce": "true"}))
    project.up()
    lab.kubectl("scale", "deployment/web", "-n", namespace, "--replicas=2")
    lab.kubectl("label", "deployment/web", "-n", namespace, "team-")
    told = project.preview()
    assert "spec.replicas is 2, 1 is wanted" in told
    assert "metadata.labels.team is gone, 'red' is wanted" in told
    assert "1 to update" in told
    project.up()
    found = lab.get("deployment", "web", "-n", namespace)
    assert (found["spec"]["replicas"], found["metadata"]["labels"]) == (1, {"team": "red"})
    project.up("--expect-no-changes")


def test_a_deleted_object_is_made_again(lab: Lab, project: Project, namespace: str) -> None:
    project.program('k8s.core.v1.ConfigMap("one", opts=here, metadata=ObjectMetaArgs(name="one"), data={"a": "b"})')
    project.up()
    lab.kubectl("delete", "configmap", "one", "-n", namespace)
    assert "not in the cluster any more" in project.preview()
    project.up()
    assert lab.get("configmap", "one", "-n", namespace)["data"] == {"a": "b"}


def test_a_field_of_another_manager_fails_up_and_is_named(lab: Lab, project: Project, namespace: str) -> None:
    project.program(workload())
    project.up()
    lab.kubectl("scale", "deployment/web", "-n", namespace, "--replicas=2")
    assert "`up` will fail" in project.preview()
    told = project.up(code=1)
    assert ".spec.replicas" in told
    assert 'conflict with "kubectl" with subresource "scale"' in told
    assert lab.get("deployment", "web", "-n", namespace)["spec"]["replicas"] == 2, "nothing may be half-applied"
    project.program(workload(**{"pulumi.com/patchForce": "true"}))
    project.up()
    assert lab.get("deployment", "web", "-n", namespace)["spec"]["replicas"] == 1


def test_an_object_of_somebody_else_is_not_taken_over(lab: Lab, project: Project, namespace: str) -> None:
    lab.kubectl("create", "configmap", "theirs", "-n", namespace)
    project.program('k8s.core.v1.ConfigMap("theirs", opts=here, metadata=ObjectMetaArgs(name="theirs"))')
    assert f"create ConfigMap {namespace}/theirs: it exists" in project.up(code=1)


def test_a_rollout_that_fails_says_why_and_the_next_up_repairs_it(project: Project) -> None:
    quick = {"pulumi.com/timeoutSeconds": "15"}
    project.program(workload(image="mizar.local/nowhere:1", **quick))
    told = project.up(code=1)
    assert "not ready after 15 s" in told
    assert "container tool" in told
    assert "ErrImagePull" in told or "ImagePullBackOff" in told
    project.program(workload("out-of-cheese", **quick))
    told = project.up(code=1)
    assert "last line of its log: out-of-cheese on worker-1" in told, told
    project.program(workload(**quick))
    project.up()
    project.up("--expect-no-changes")


def test_a_kind_and_its_objects_in_one_program(lab: Lab, project: Project, namespace: str) -> None:
    project.program("""
        crd = k8s.apiextensions.v1.CustomResourceDefinition("cheeses", opts=here,
            metadata=ObjectMetaArgs(name="cheeses.shop.example.test"),
            spec={"group": "shop.example.test", "scope": "Namespaced",
                  "names": {"plural": "cheeses", "singular": "cheese", "kind": "Cheese", "list_kind": "CheeseList"},
                  "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"open_apiv3_schema": {
                      "type": "object", "properties": {"spec": {"type": "object", "properties": {
                          "holes": {"type": "integer"}}}}}}}]})
        k8s.apiextensions.CustomResource("gouda", api_version="shop.example.test/v1", kind="Cheese",
            metadata=ObjectMetaArgs(name="gouda"), spec={"holes": 3},
            opts=pulumi.ResourceOptions(provider=cluster, depends_on=[crd]))
    """)
    assert "3 to create" in project.preview() or "4 to create" in project.preview()
    project.up()
    assert lab.get("cheeses.shop.example.test", "gouda", "-n", namespace)["spec"] == {"holes": 3}
    project.up("--expect-no-changes")
    project.destroy()
    assert "cheeses" not in lab.kubectl("get", "crds", "-o", "name")


WRONG = [
    (
        'k8s.apiextensions.CustomResource("one", api_version="apps/v1", kind="Deploiment", opts=here)',
        "no kind 'Deploiment' of apiVersion 'apps/v1'",
    ),
    (
        'k8s.core.v1.ConfigMap("two", opts=here, metadata={"annotations": {"pulumi.com/timeoutSeconds": "x"}})',
        "'x' is no number of seconds",
    ),
    (
        'k8s.core.v1.Namespace("three", opts=here, metadata={"namespace": "elsewhere"})',
        "Namespace is in no namespace",
    ),
    (
        'k8s.core.v1.ConfigMapPatch("four", opts=here, metadata={"name": "four"})',
        "kubernetes:core/v1:ConfigMapPatch is left out",
    ),
    (
        'k8s.core.v1.Service("five", opts=here, spec={"ports": [{"port": 70000}]})',
        "spec.ports[0].port",
    ),
]


def test_wrong_input_is_told_at_preview(project: Project) -> None:
    for program, complaint in WRONG:
        project.program(program)
        assert complaint in project.preview(code=1)


def test_preview_needs_no_cluster(tmp_path: Path) -> None:
    away = {
        "apiVersion": "v1", "kind": "Config", "current-context": "away", "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "me"}}],
        "clusters": [{"name": "away", "cluster": {"server": "https://127.0.0.1:1"}}],
    }  # fmt: skip
    project = Project(tmp_path, netns.OWN, json.dumps(away), "default")
    project.program("""
        import pulumi.dynamic
        class Late(pulumi.dynamic.ResourceProvider):
            def create(self, props):
                return pulumi.dynamic.CreateResult("late", {"text": "x"})
        class Value(pulumi.dynamic.Resource):
            text: pulumi.Output[str]
        late = Value(Late(), "late", {"text": None})
        k8s.core.v1.ConfigMap("one", opts=here, data={"known": "yes"})
        two = k8s.core.v1.ConfigMap("two", opts=here, data={"unknown": late.text})
        later = k8s.Provider("later", kubeconfig=late.text)
        k8s.core.v1.Namespace("three", opts=pulumi.ResourceOptions(provider=later))
        pulumi.export("uid", two.metadata.uid)
    """)
    told = project.preview()
    assert "error" not in told, told
    assert "7 to create" in told, told
