"""A container runtime for measurements: runs the CNI plugin many times at once, and notes when each one ended.

One thread watches all of them, so that what is measured is the plugin and its agent, not threads of ours that wait for
each other. Called by `cni`.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_agent.model.errors import Permanent

INTERFACE = "eth0"


@dataclass(frozen=True)
class Run:
    """One run of the plugin. `began`: when it got its configuration; `took`: seconds from then to its end; `said`: its
    answer, parsed, None for none."""

    container: str
    began: float
    took: float
    said: Any


@dataclass(frozen=True)
class Runtime:
    """On the host whose agent listens at `socket`. `program`: the compiled plugin; `network`: more of its
    configuration."""

    program: Path
    socket: Path
    network: Mapping[str, Any]

    def run(self, verb: str, containers: Mapping[str, Path]) -> list[Run]:
        """The verb for all of them (name -> network namespace) at once; each is told to begin when all have started.
        Raises Permanent with the first refusal."""
        text = json.dumps(
            {"cniVersion": "1.1.0", "name": "bench", "type": "mizar", "socket": str(self.socket), **self.network}
        ).encode()
        started = {name: self._start(verb, name, path) for name, path in containers.items()}
        try:
            return _watched(verb, started, text)
        finally:
            for process in started.values():
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe:
                        pipe.close()

    def _start(self, verb: str, name: str, path: Path) -> subprocess.Popen[bytes]:
        env = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": name,
            "CNI_IFNAME": INTERFACE,
            "CNI_NETNS": str(path),
            "CNI_ARGS": f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}",
        }
        return subprocess.Popen(
            [str(self.program)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, close_fds=True
        )


def _watched(verb: str, started: Mapping[str, subprocess.Popen[bytes]], text: bytes) -> list[Run]:
    began: dict[str, float] = {}
    said = dict.fromkeys(started, b"")
    found: list[Run] = []
    with selectors.DefaultSelector() as selector:
        for name, process in started.items():
            assert process.stdin and process.stdout
            selector.register(process.stdout, selectors.EVENT_READ, name)
        for name, process in started.items():
            assert process.stdin
            began[name] = time.monotonic()
            process.stdin.write(text)
            process.stdin.close()
        while len(found) < len(started):
            for key, _ in selector.select():
                if part := os.read(key.fd, 65536):
                    said[key.data] += part
                    continue
                selector.unregister(key.fileobj)
                found.append(
                    Run(key.data, began[key.data], time.monotonic() - began[key.data], _parsed(said[key.data]))
                )
    if refused := [run for run in found if run.said and "code" in run.said]:
        raise Permanent(
            f"{verb} {refused[0].container}: {refused[0].said['msg']}; {len(refused)} of {len(found)} failed"
        )
    return found


def addresses(runs: Sequence[Run]) -> list[str]:
    """What these ADDs gave out."""
    return [str(run.said["ips"][0]["address"]).partition("/")[0] for run in runs]


def _parsed(text: bytes) -> Any:
    return json.loads(text) if text.strip() else None
