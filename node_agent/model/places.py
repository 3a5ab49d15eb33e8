"""Where a stack keeps things on a machine. Pure: names and paths only; every one of them carries the stack's id.

Used by the emulation, the agent, the providers and the CLI, so that no two of them disagree.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

RUN = Path("/run/mizar")
NETNS = Path("/run/netns")


@dataclass(frozen=True)
class HostPlaces:
    """One host's files. `pins` lies on the stack's own bpffs."""

    root: Path
    pins: Path
    netns: str
    host: str

    @property
    def config(self) -> Path:
        """AgentConfig (model.config) as JSON."""
        return self.root / "agent.json"

    @property
    def socket(self) -> Path:
        """The agent's endpoint socket: the verbs of `cni.protocol`."""
        return self.root / "agent.sock"

    @property
    def log(self) -> Path:
        return self.root / "agent.log"

    @property
    def supervisor_pid(self) -> Path:
        return self.root / "supervisor.pid"

    @property
    def agent_pid(self) -> Path:
        return self.root / "agent.pid"

    @property
    def maps(self) -> Path:
        return self.pins / "maps"

    @property
    def links(self) -> Path:
        return self.pins / "links"


@dataclass(frozen=True)
class StackPlaces:
    """Files and machine-global names of one stack. `id`: [a-z0-9-]+, at most 40 characters."""

    id: str

    @property
    def root(self) -> Path:
        return RUN / self.id

    @property
    def bpffs(self) -> Path:
        return self.root / "bpf"

    @property
    def store(self) -> Path:
        return self.root / "store.db"

    @property
    def kubeconfig(self) -> Path:
        """Of a stack with a cluster, which keeps its objects: the way in, for tools on this computer."""
        return self.root / "kubeconfig"

    @property
    def controller(self) -> Path:
        """Folder of the controller: controller.json, controller.log, controller.pid, supervisor.pid."""
        return self.root / "controller"

    def netns(self, name: str) -> str:
        """Name below /run/netns of the namespace of a fabric, host or endpoint."""
        return f"mizar-{self.id}-{name}"

    def netns_path(self, name: str) -> Path:
        return NETNS / self.netns(name)

    def host(self, name: str) -> HostPlaces:
        return HostPlaces(root=self.root / "hosts" / name, pins=self.bpffs / name, netns=self.netns(name), host=name)

    def workload(self, endpoint: str) -> Path:
        """Folder of an endpoint's workload: workload.json, workload.log, workload.pid."""
        return self.root / "endpoints" / endpoint


def stack_id(stack: str, root: Path) -> str:
    """The id of a stack of the project in the folder `root`: readable, and different for two clones."""
    digest = hashlib.sha256(f"{root.resolve()}\0{stack}".encode()).hexdigest()[:6]
    word = re.sub(r"[^a-z0-9]+", "-", stack.lower()).strip("-")[:33].rstrip("-") or "stack"
    return f"{word}-{digest}"


@functools.lru_cache(maxsize=4096)  # asked for by whoever compares all devices with all endpoints
def veth_name(container_id: str, interface: str) -> str:
    """Name of the host side of an endpoint's veth: fixed by the claim, so that a repeated ADD finds it."""
    return "mz" + hashlib.sha256(f"{container_id}/{interface}".encode()).hexdigest()[:12]


def is_veth_name(name: str) -> bool:
    """Whether `veth_name` gives such names."""
    return len(name) == 14 and name.startswith("mz")
