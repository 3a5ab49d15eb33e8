"""Container runtimes for tests: the plugin's program run as they run it, and cnitool, which is one of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_agent.emulation import endpoints
from node_agent.emulation.cluster import programs
from node_agent.kernel import commands, netns
from tests.lab.network import Network

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "node_agent" / "cni" / "build"
# libcni remembers attachments below /var/lib, which a test must leave as it was: each runtime here sees its own.
OWN_VAR_LIB = ("unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount --bind "$0" /var/lib && exec "$@"')


def build() -> Path:
    """The compiled plugin."""
    subprocess.run(["make", "-s", "-C", str(BUILD.parent)], check=True)
    return BUILD / "mizar"


@dataclass(frozen=True)
class Answer:
    """What the plugin printed, parsed (None: nothing), and its exit code."""

    code: int
    said: Any

    @property
    def error(self) -> int:
        """Code of the error that was printed; 0: none was."""
        assert self.code == (1 if self.said and "code" in self.said else 0), self
        return int(self.said["code"]) if self.code else 0


def run(
    verb: str,
    config: Mapping[str, Any] | str,
    container: str = "",
    *,
    namespace: Path | str = "",
    interface: str = "eth0",
    args: str = "",
    where: Path | None = None,
) -> Answer:
    """One run of the plugin, as in a runtime on the host whose network namespace is `where`."""
    named = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": str(namespace),
        "CNI_IFNAME": interface,
        "CNI_ARGS": args,
    }
    env = {key: value for key, value in named.items() if value}
    text = config if isinstance(config, str) else json.dumps(config)
    with netns.enter(where):
        done = commands.run([str(BUILD / "mizar")], 90.0, check=False, stdin=text, env=env)
    assert not done.stderr, done.stderr
    return Answer(done.returncode, json.loads(done.stdout) if done.stdout else None)


@dataclass(frozen=True)
class Cnitool:
    """A runtime on the host of that network namespace. `folder`: holds its configuration lists and what it remembers;
    `plugins`: folder of the reference plugins; `program`: cnitool."""

    folder: Path
    where: Path
    program: Path
    plugins: Path

    def write(self, name: str, *plugins: Mapping[str, Any]) -> None:
        """The list of that network."""
        (self.folder / "net.d").mkdir(parents=True, exist_ok=True)
        (self.folder / "var-lib").mkdir(exist_ok=True)
        text = json.dumps({"cniVersion": "1.1.0", "name": name, "plugins": plugins})
        (self.folder / "net.d" / f"{name}.conflist").write_text(text)

    def run(self, verb: str, network: str, namespace: Path, capabilities: Mapping[str, Any] | None = None) -> Any:
        """What cnitool printed, parsed. Raises CommandError."""
        env = {
            "PATH": os.environ["PATH"],
            "CNI_PATH": f"{BUILD}:{self.plugins}",
            "NETCONFPATH": str(self.folder / "net.d"),
            "CAP_ARGS": json.dumps(capabilities or {}),
        }
        argv = (*OWN_VAR_LIB, str(self.folder / "var-lib"), str(self.program), verb, network, str(namespace))
        with netns.enter(self.where):
            told = commands.run(argv, 60.0, env=env).stdout
        return json.loads(told) if told.strip() else None


def config(network: Network, host: str, **more: Any) -> dict[str, Any]:
    """What a runtime on that host gives the plugin."""
    said = {"vpc": "blue", "subnet": "front", **more}
    return {"cniVersion": "1.1.0", "name": "net", "type": "mizar", "socket": str(socket(network, host)), **said}


def socket(network: Network, host: str) -> Path:
    return network.places.host(host).socket


def namespace(network: Network, name: str) -> Path:
    """A new container's."""
    endpoints.make(network.places, f"pod-{name}")
    return network.places.netns_path(f"pod-{name}")


def cnitool(network: Network, host: str, *chained: Mapping[str, Any], **more: Any) -> Cnitool:
    """The runtime of that host, with the network `net`; `more`: of our plugin's configuration."""
    built = programs.where().containerd
    tool = Cnitool(
        folder=network.places.host(host).root / "runtime",
        where=network.places.netns_path(host),
        program=built / "bin" / "cnitool",
        plugins=built / "cni",
    )
    tool.write(
        "net", {key: value for key, value in config(network, host, **more).items() if key != "cniVersion"}, *chained
    )
    return tool
