"""What `make setup` says when something is missing, and what it then asks the distribution for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.engine.engine_env import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.root]

ALL_OF = ("/usr/bin", "/usr/sbin")


class Machine:
    """A PATH on which chosen commands are missing, and a copy of the tools."""

    def __init__(self, where: Path) -> None:
        self.bin, self.root = where / "bin", where / "clone"
        self.bin.mkdir()
        for folder in ALL_OF:
            for file in Path(folder).iterdir():
                if not (self.bin / file.name).exists():
                    (self.bin / file.name).symlink_to(file)
        shutil.copytree(ROOT / "tools", self.root / "tools")
        for file in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / file, self.root)
        self.without("pulumi", "apt-get")
        self.command("python3", 'exec /usr/bin/python3 "$@"' if os.access("/usr/bin/python3", os.X_OK) else "exit 1")

    def without(self, *names: str) -> None:
        for name in names:
            (self.bin / name).unlink(missing_ok=True)

    def command(self, name: str, body: str) -> None:
        self.without(name)
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def setup(self, *prefix: str) -> tuple[int, str]:
        return self.run("setup.sh", *prefix)

    def run(self, script: str, *prefix: str) -> tuple[int, str]:
        env = {"PATH": str(self.bin), "HOME": str(self.root / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
        name, *words = script.split()
        argv = [*prefix, str(self.root / "tools/setup" / name), *words]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def one_error(told: tuple[int, str]) -> str:
    code, out = told
    assert code == 1, out
    lines = out.strip().splitlines()
    assert len(lines) == 1, out
    return lines[0]


def test_another_user_than_root(machine: Machine) -> None:
    for folder in machine.root.parents:
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
    error = one_error(machine.setup("/usr/bin/setpriv", "--reuid=65534", "--clear-groups"))
    assert "needs root" in error


# Who builds with Go -> the folder of the module, the oldest Go that will do, and a word of what it is for.
BUILDERS = {
    "setup.sh": ("tools/engine", "1.25.11", "the Pulumi engine, as there is no pulumi on PATH"),
    "kubernetes.sh": ("tools/kubernetes", "1.26.0", "the Kubernetes of a local cluster"),
    "kubernetes.sh --background": ("tools/kubernetes", "1.26.0", "the Kubernetes of a local cluster"),
    "conformance.sh": ("tools/conformance", "1.26.0", "Kubernetes' end-to-end specs"),
}


@pytest.mark.parametrize("script", BUILDERS)
def test_go_is_missing_or_too_old(machine: Machine, script: str) -> None:
    module, wanted, what = BUILDERS[script]
    hidden = (
        "/usr/bin/unshare",
        "-m",
        "/bin/sh",
        "-c",
        'mount -t tmpfs none "$0" 2>/dev/null; exec "$@"',
        "/usr/local/go",
    )
    needs = f"setup: error: needs Go {wanted} or newer to build {module} ({what}), "
    machine.without("go")
    assert one_error(machine.run(script, *hidden)) == f"{needs}and there is none: install it from https://go.dev/dl"
    machine.command("go", "echo go version go1.25.9 linux/amd64")
    found = f"but {machine.bin}/go is 1.25.9: install a newer one from https://go.dev/dl"
    assert one_error(machine.run(script)) == needs + found


@pytest.mark.parametrize("module", ["kubernetes", "kubernetes/coredns", "containerd", "conformance"])
def test_what_the_page_says_of_go_is_what_the_modules_ask_for(module: str) -> None:
    [wanted] = re.findall(r"(?m)^go (\S+)$", (ROOT / "tools" / module / "go.mod").read_text())
    assert f"Go >= {wanted.removesuffix('.0')}" in (ROOT / "README.md").read_text()


def test_own_pulumi_needs_no_go_but_its_language_host(machine: Machine) -> None:
    machine.command("pulumi", "exit 1")
    machine.command("go", "echo go version go1.2 linux/amd64")
    assert "pulumi-language-python is not beside it" in one_error(machine.setup())


def test_python_is_too_old(machine: Machine) -> None:
    for name in [file.name for file in machine.bin.glob("python3*")]:
        machine.without(name)
    machine.command("python3", 'case "$2" in *platform*) echo 3.9.2;; *) exit 1;; esac')
    assert one_error(machine.setup()).endswith("needs Python 3.11 or newer, but python3 here is 3.9.2")


def test_without_apt_the_missing_packages_are_named(machine: Machine) -> None:
    machine.command("go", "echo go version go1.26.0 linux/amd64")
    machine.without("clang", "tcpdump", "ip")
    error = one_error(machine.setup())
    assert "missing on this machine: clang iproute2 tcpdump" in error


def test_only_the_missing_is_installed(machine: Machine) -> None:
    machine.command("go", "echo go version go1.26.0 linux/amd64")
    machine.without("tcpdump", "ethtool")
    machine.command("apt-get", 'echo "asked: $*"')
    code, out = machine.setup()
    asked = [line for line in out.splitlines() if line.startswith("asked:")]
    assert [line.split()[-1] for line in asked] == ["update", "tcpdump"]
    assert "--no-install-recommends ethtool tcpdump" in asked[1]
    assert code == 1
    assert "still missing after installing: ethtool tcpdump" in out
