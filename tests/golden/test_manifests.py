"""The manifests as rendered, compared with the ones kept beside this test; and what must hold whatever they say.

After a wanted change: MIZAR_GOLDEN=write .venv/bin/python -m pytest tests/golden, and read the difference.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.render.access import AGENT, CONTROLLER, NAMESPACE
from infra.render.manifests import Wanted, manifests
from node_agent.model import config

FOLDER = Path(__file__).parent / "manifests"
WANTED = Wanted(
    stack="local-k8s-abc123",
    image="mizar.local/mizar@sha256:" + "0123456789abcdef" * 4,
    underlay="198.18.0.0/24",
    vpc="default",
)
OBJECTS = manifests(WANTED)


def name_of(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}".lower()


def found(kind: str, name: str) -> dict[str, Any]:
    [one] = [each for each in OBJECTS if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return one


@pytest.mark.parametrize("manifest", OBJECTS, ids=name_of)
def test_rendered_as_kept(manifest: dict[str, Any]) -> None:
    path = FOLDER / f"{name_of(manifest)}.json"
    rendered = json.dumps(manifest, indent=2) + "\n"
    if os.environ.get("MIZAR_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered)
    assert rendered == path.read_text()


def test_one_file_per_object_and_no_other() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(map(name_of, OBJECTS))


def test_configurations_are_read_back_by_those_they_are_for() -> None:
    agent = config.load_agent(found("ConfigMap", AGENT)["data"]["agent.json"])
    assert (agent.host, agent.address, agent.uplink) == ("", "", "")
    assert agent.cni.vpc == "default"
    assert config.load_controller(found("ConfigMap", CONTROLLER)["data"]["controller.json"]).store == "kubernetes:"


def test_nothing_is_privileged_and_capabilities_are_a_list() -> None:
    for kind, name in (("DaemonSet", AGENT), ("Deployment", CONTROLLER)):
        pod = found(kind, name)["spec"]["template"]["spec"]
        assert not pod.keys() & {"hostPID", "hostIPC"}
        [container] = pod["containers"]
        context = container["securityContext"]
        assert not context.get("privileged") and context["readOnlyRootFilesystem"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        assert "@sha256:" in container["image"]
    assert (
        "add"
        not in found("Deployment", CONTROLLER)["spec"]["template"]["spec"]["containers"][0]["securityContext"][
            "capabilities"
        ]
    )


def test_another_configuration_is_another_pod() -> None:
    def template(wanted: Wanted, kind: str) -> dict[str, Any]:
        [one] = [each for each in manifests(wanted) if each["kind"] == kind]
        result: dict[str, Any] = one["spec"]["template"]
        return result

    other = replace(WANTED, flow_entries=4096)
    assert template(WANTED, "DaemonSet") != template(other, "DaemonSet")
    assert template(WANTED, "Deployment") == template(other, "Deployment")


def test_roles_have_no_wildcard_and_only_agents_and_controller_have_them() -> None:
    for name in (AGENT, CONTROLLER):
        for rule in found("ClusterRole", name)["rules"]:
            assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
        [subject] = found("ClusterRoleBinding", name)["subjects"]
        assert subject == {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}


def test_agents_can_neither_make_hosts_nor_change_what_the_program_declares() -> None:
    for rule in found("ClusterRole", AGENT)["rules"]:
        for resource in rule["resources"]:
            if set(rule["verbs"]) - {"get", "list", "watch"}:
                assert resource in ("networkendpoints", "networkendpoints/status", "networkhosts/status")
