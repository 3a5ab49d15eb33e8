"""The name server's objects as rendered, compared with the ones kept beside this test; and what must hold whatever they
say.

After a wanted change: MIZAR_GOLDEN=write .venv/bin/python -m pytest tests/golden, and read the difference.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from infra.render.dns import Names, corefile, name_server, service_address

FOLDER = Path(__file__).parent / "dns"
NAMES = Names(
    image="mizar.local/coredns@sha256:" + "0123456789abcdef" * 4,
    host="control-1",
    address="198.18.0.10",
    services="10.96.0.0/16",
)
OBJECTS = name_server(NAMES)


def name_of(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name'].replace(':', '-')}".lower()


def found(kind: str) -> dict[str, Any]:
    [one] = [each for each in OBJECTS if each["kind"] == kind]
    return one


def compare(path: Path, rendered: str) -> None:
    if os.environ.get("MIZAR_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered)
    assert rendered == path.read_text()


@pytest.mark.parametrize("manifest", OBJECTS, ids=name_of)
def test_rendered_as_kept(manifest: dict[str, Any]) -> None:
    compare(FOLDER / f"{name_of(manifest)}.json", json.dumps(manifest, indent=2) + "\n")


def test_what_it_is_told_is_as_kept() -> None:
    compare(FOLDER / "Corefile", corefile(NAMES))
    others = dataclasses.replace(NAMES, resolvers=("192.0.2.53", "192.0.2.54"))
    compare(FOLDER / "Corefile-with-resolvers", corefile(others))


def test_it_is_where_kubelets_send_pods() -> None:
    assert found("Service")["spec"]["clusterIP"] == service_address(NAMES.services) == "10.96.0.10"
    pod = found("Deployment")["spec"]["template"]
    assert found("Service")["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_it_has_one_capability_and_no_root() -> None:
    pod = found("Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    context = container["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    assert context["runAsNonRoot"] and context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert not pod.keys() & {"hostPID", "hostIPC"}
    assert "@sha256:" in container["image"]


def test_it_only_reads_what_names_are_made_of() -> None:
    for rule in found("ClusterRole")["rules"]:
        assert set(rule["verbs"]) == {"list", "watch"}
        assert set(rule["resources"]) <= {"services", "namespaces", "endpointslices"}


def test_another_configuration_is_another_pod() -> None:
    def template(names: Names) -> dict[str, Any]:
        [one] = [each for each in name_server(names) if each["kind"] == "Deployment"]
        result: dict[str, Any] = one["spec"]["template"]["metadata"]
        return result

    assert template(NAMES) != template(dataclasses.replace(NAMES, domain="example.test"))
