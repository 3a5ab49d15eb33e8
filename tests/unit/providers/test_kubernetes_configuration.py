from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node_agent.model.errors import Invalid
from tools.providers.kubernetes import configuration
from tools.providers.kubernetes.configuration import NotYet
from tools.providers.kubernetes.values import UNKNOWN


def kubeconfig(**more: Any) -> dict[str, Any]:
    def context(name: str, cluster: str, **more: str) -> dict[str, Any]:
        return {"name": name, "context": {"cluster": cluster, "user": "me", **more}}

    return {
        "current-context": "a",
        "contexts": [context("a", "one"), context("b", "two", namespace="shop")],
        "clusters": [{"name": name, "cluster": {"server": f"http://{name}.test"}} for name in ("one", "two")],
        "users": [{"name": "me", "user": {"token": "t"}}],
    } | more


def test_contents_or_path_context_and_namespace(tmp_path: Path) -> None:
    text = json.dumps(kubeconfig())
    path = tmp_path / "config"
    path.write_text(text)
    for given in (text, str(path)):
        found = configuration.read({"kubeconfig": given}, {})
        assert (found.access.server, found.access.token(), found.namespace) == ("http://one.test", "t", "default")
    found = configuration.read({"context": "b"}, {"KUBECONFIG": f"/nowhere:{path}"})
    assert (found.access.server, found.namespace) == ("http://two.test", "shop")
    assert configuration.read({"kubeconfig": text, "cluster": "two"}, {}).access.server == "http://two.test"
    assert configuration.read({"kubeconfig": text, "namespace": "mine"}, {}).namespace == "mine"
    assert configuration.server({"kubeconfig": text}) == "http://one.test"


def test_files_are_named_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from a file\n")
    path = tmp_path / "config"
    path.write_text(json.dumps(kubeconfig(users=[{"name": "me", "user": {"tokenFile": "token"}}])))
    assert configuration.read({"kubeconfig": str(path)}, {}).access.token() == "from a file"


def test_switches_are_texts() -> None:
    text = json.dumps(kubeconfig())
    found = configuration.read({"kubeconfig": text, "enablePatchForce": "true", "enableConfigMapMutable": "true"}, {})
    assert found.force and found.mutable == {"ConfigMap"} and not found.adopt


def test_what_is_wrong_is_told_and_what_is_not_known_is_not_wrong() -> None:
    with pytest.raises(Invalid) as error:
        configuration.read({"renderYamlToDirectory": "x", "enableServerSideApply": "false"}, {})
    assert len(error.value.mistakes) == 2
    with pytest.raises(Invalid, match="there is no file /nowhere"):
        configuration.read({"kubeconfig": "/nowhere"}, {})
    with pytest.raises(NotYet):
        configuration.read({"kubeconfig": UNKNOWN}, {})
    assert configuration.server({"kubeconfig": UNKNOWN}) == ""
