"""Where the programs of a cluster are, as tools/setup/kubernetes.sh built them: the one place that decides it.

Called by the modules of this package, the providers and the tests.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from node_agent.emulation.processes import PATH, ROOT
from node_agent.kernel import commands
from node_agent.model.errors import Permanent

SCRIPT = ROOT / "tools/setup/kubernetes.sh"


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Folders. `kubernetes`: etcd, kube-apiserver ... and pause; `coredns`: coredns; `containerd`: bin/ and cni/."""

    kubernetes: Path
    coredns: Path
    containerd: Path


@functools.cache
def where() -> Programs:
    """The folders, which all exist. Raises Permanent when something is not built, naming the command that does it."""
    env = {key: os.environ[key] for key in ("HOME", "MIZAR_CACHE") if key in os.environ}
    told = commands.run([str(SCRIPT), "--where"], 30.0, env={**env, "PATH": os.environ.get("PATH", PATH)}).stdout
    folders = {name: Path(path) for name, _, path in (line.partition("=") for line in told.splitlines())}
    missing = [name for name, path in folders.items() if not path.is_dir()]
    if missing:
        raise Permanent(f"find programs of the cluster: {', '.join(missing)} not built: run {SCRIPT}")
    return Programs(**folders)
