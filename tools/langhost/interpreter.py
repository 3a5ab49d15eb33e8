"""Which Python runs a Pulumi program, and what is installed beside it. Called by host.py only."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Asked of the program's interpreter, not of the host's: they may be different environments.
_DESCRIBE = """
import importlib.metadata as m, json, platform, sys, sysconfig
print(json.dumps({
    "executable": sys.executable,
    "version": platform.python_version(),
    "site_packages": sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}),
    "distributions": {d.metadata["Name"]: d.version for d in m.distributions() if d.metadata["Name"]},
}))
"""


@dataclass(frozen=True)
class Description:
    """What an interpreter says of itself."""

    executable: str
    version: str
    site_packages: tuple[str, ...]
    distributions: dict[str, str]


@dataclass(frozen=True)
class PluginOfWheel:
    """The provider plugin that an installed SDK wheel asks for."""

    name: str
    version: str
    server: str


@dataclass(frozen=True)
class Interpreter:
    """A Python to run programs with: the project's `virtualenv` option, else python3 on PATH."""

    virtualenv: Path | None

    @classmethod
    def of(cls, root_directory: str, options: dict[str, Any]) -> Interpreter:
        """The interpreter of a project at `root_directory` with the `runtime.options` of its Pulumi.yaml."""
        name = options.get("virtualenv")
        return cls(Path(root_directory, str(name)) if name else None)

    @property
    def python(self) -> str:
        """What to execute."""
        return "python3" if self.virtualenv is None else str(self.virtualenv / "bin" / "python")

    def problem(self) -> str | None:
        """Why this interpreter cannot be used, or None."""
        if self.virtualenv is not None and not os.access(self.python, os.X_OK):
            return f"Pulumi.yaml: runtime.options.virtualenv: no Python at {self.python}: run 'make setup'"
        return None

    def environment(self) -> dict[str, str]:
        """The environment of a program: as if the virtual environment had been activated."""
        env = dict(os.environ)
        env.pop("PYTHONHOME", None)  # would send the interpreter to another installation's library
        if self.virtualenv is not None:
            env["VIRTUAL_ENV"] = str(self.virtualenv)
            env["PATH"] = f"{self.virtualenv / 'bin'}:{env.get('PATH', os.defpath)}"
        return env

    def describe(self) -> Description:
        """Start the interpreter and ask it."""
        done = subprocess.run(
            [self.python, "-c", _DESCRIBE], env=self.environment(), capture_output=True, text=True, check=True
        )
        told = json.loads(done.stdout)
        return Description(told["executable"], told["version"], tuple(told["site_packages"]), told["distributions"])

    def plugins(self) -> list[PluginOfWheel]:
        """The provider plugins that the installed SDK wheels ask for, by name."""
        found: dict[str, PluginOfWheel] = {}
        for site in self.describe().site_packages:
            for file in Path(site).glob("*/pulumi-plugin.json"):
                told = json.loads(file.read_text(encoding="utf-8"))
                if not told.get("resource"):
                    continue  # a wheel that says it has no plugin
                name = told.get("name") or file.parent.name.removeprefix("pulumi_").replace("_", "-")
                found[name] = PluginOfWheel(name, str(told.get("version", "")), str(told.get("server", "")))
        return [found[name] for name in sorted(found)]
