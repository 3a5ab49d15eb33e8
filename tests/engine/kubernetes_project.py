"""A Pulumi project of one small program for Kubernetes objects, run by the real engine inside a cluster's network.

The plugin is always the stand-in of tools/providers/kubernetes. Used by tests/engine/test_kubernetes_provider.py.
"""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path
from typing import Any

from node_agent.kernel import netns
from tests.engine.engine_env import ROOT, VENV, engine_env, run_pulumi

HEAD = """
import json
import os
import pulumi
import pulumi_kubernetes as k8s
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs

cluster = k8s.Provider("cluster", kubeconfig=os.environ["TEST_KUBECONFIG"], namespace=os.environ["TEST_NAMESPACE"])
here = pulumi.ResourceOptions(provider=cluster)
"""
SECONDS = 120.0


class Project:
    """`where`: the network namespace that reaches the cluster. `namespace`: where the program's objects go."""

    def __init__(self, folder: Path, where: Path, kubeconfig: str, namespace: str) -> None:
        self.folder, self.where = folder / "project", where
        self.folder.mkdir()
        (self.folder / "Pulumi.yaml").write_text(
            f"name: objects\nruntime: {{name: python, options: {{virtualenv: {VENV}}}}}\n"
        )
        self.env = engine_env(self.folder, folder) | {"TEST_KUBECONFIG": kubeconfig, "TEST_NAMESPACE": namespace}
        install = [str(ROOT / "tools/providers/kubernetes/install.sh"), "--stand-in"]
        subprocess.run(install, env=self.env, check=True, capture_output=True)
        self.program("")
        self.run("stack", "init", "test")

    def program(self, text: str, head: str = HEAD) -> None:
        (self.folder / "__main__.py").write_text(head + textwrap.dedent(text))

    def run(self, *arguments: str, code: int = 0) -> str:
        """What `pulumi` said."""
        with netns.enter(self.where):
            done = run_pulumi(arguments, self.folder, self.env, SECONDS)
        assert done.returncode == code or (code and done.returncode > 0), done.stdout
        return done.stdout

    def up(self, *arguments: str, code: int = 0) -> str:
        return self.run("up", "--yes", "--skip-preview", "--stack", "test", *arguments, code=code)

    def preview(self, *arguments: str, code: int = 0) -> str:
        return self.run("preview", "--diff", "--stack", "test", *arguments, code=code)

    def destroy(self) -> str:
        return self.run("destroy", "--yes", "--skip-preview", "--stack", "test")

    def outputs(self) -> Any:
        return json.loads(self.run("stack", "output", "--json", "--stack", "test"))

    def state(self) -> str:
        return self.run("stack", "export", "--stack", "test")
