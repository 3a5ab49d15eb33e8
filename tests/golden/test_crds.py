"""The CRDs as rendered, compared with the ones kept beside this test; what no golden file can say is asked of them all.

After a wanted change: MIZAR_GOLDEN=write .venv/bin/python -m pytest tests/golden, and read the difference.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.render.crds import crd, crds
from node_agent.model.codec import part_class
from node_agent.model.objects import KINDS
from node_agent.model.resources import RESOURCES, camel_path

FOLDER = Path(__file__).parent / "crds"
# Of the API server and of what most clusters have: plural, singular and short names.
CORE = """
    all binding bindings cj cm componentstatus componentstatuses configmap configmaps controllerrevisions crd
    crds cronjobs cs csidrivers csinodes csr certificatesigningrequests customresourcedefinitions daemonsets
    deploy deployments ds endpoints endpointslice endpointslices ep ev event events horizontalpodautoscalers hpa
    ing ingress ingressclasses ingresses ip ipaddress ipaddresses jobs leases limitrange limitranges limits
    namespace namespaces net netpol network networkpolicies networkpolicy networks no node nodes ns pc pdb
    persistentvolumeclaims persistentvolumes po pod poddisruptionbudgets pods podtemplates priorityclasses pv
    pvc quota rc replicasets replicationcontrollers resourcequotas rs runtimeclasses sa sc secret secrets
    service serviceaccounts servicecidr servicecidrs services statefulsets storageclasses sts svc
    volumeattachments
"""


@pytest.mark.parametrize("kind", KINDS)
def test_rendered_as_kept(kind: str) -> None:
    path = FOLDER / f"{RESOURCES[kind].plural}.json"
    rendered = json.dumps(crd(KINDS[kind]), indent=2) + "\n"
    if os.environ.get("MIZAR_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(rendered)
    assert rendered == path.read_text()


def test_one_file_per_kind_and_no_other() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {resource.plural for resource in RESOURCES.values()}


def test_names_are_nobody_elses() -> None:
    names = [
        name
        for each in crds()
        for name in (
            each["spec"]["names"]["plural"],
            each["spec"]["names"]["singular"],
            *each["spec"]["names"].get("shortNames", ()),
        )
    ]
    assert len(set(names)) == len(names)
    assert not set(CORE.split()) & set(names)


def schemas(schema: dict[str, Any], at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield at, schema
    for name, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{at}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from schemas(schema[key], f"{at}.{key}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_a_type_and_every_rule_a_message(kind: str) -> None:
    version = crd(KINDS[kind])["spec"]["versions"][0]
    for at, schema in schemas(version["schema"]["openAPIV3Schema"], kind):
        assert schema.get("type"), at
        assert not any(key.startswith("x-kubernetes-preserve") for key in schema), at
        for each in schema.get("x-kubernetes-validations", ()):
            assert each["message"] and "\n" not in each["message"], at
    assert version["subresources"] == {"status": {}}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_and_selectable_fields_exist(kind: str) -> None:
    version = crd(KINDS[kind])["spec"]["versions"][0]
    known = {at for at, _ in schemas(version["schema"]["openAPIV3Schema"], "")}
    paths = [column["jsonPath"] for column in version["additionalPrinterColumns"]]
    paths += [field["jsonPath"] for field in version.get("selectableFields", ())]
    for path in paths:
        assert re.sub(r"\[.*?\]", ".items", path) in known or path == ".metadata.creationTimestamp", path
    for path in RESOURCES[kind].selectable:
        part, name = path.split(".")
        assert part_class(KINDS[kind], part).__annotations__[name] == "str"
        assert f".{camel_path(path)}" in known
