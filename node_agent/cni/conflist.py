"""What makes container runtimes use us: the plugin's program in one folder, then the configuration list in another.

Called by the agent once it serves. The list is what a runtime takes for a working network, so it is written last, as a
whole, and only when it is not there already; it is never removed, and files of others are never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from node_agent.cni.spec import BANDWIDTH, POD_ANNOTATIONS, PORTS
from node_agent.model.config import CniConfig
from node_agent.model.errors import Permanent

NETWORK = "mizar"
PROGRAM = "mizar"  # the `type` of our plugin: the name runtimes look for
FOLLOWERS: dict[str, dict[str, Any]] = {
    # Not whichever tool it finds first: what is on a computer may change between ADD and DEL.
    "portmap": {"capabilities": {"portMappings": True}, "backend": "nftables"},
    "bandwidth": {"capabilities": {"bandwidth": True}},
}
"""Plugins that may follow ours, and how: what runtimes are to tell them, above all."""


def text(config: CniConfig, socket: str) -> str:
    """The configuration list. `socket`: of the agent, as the plugin sees it. Pure."""
    ours: dict[str, Any] = {"type": PROGRAM, "socket": socket, "capabilities": {POD_ANNOTATIONS: True}}
    if BANDWIDTH not in config.chained:  # else it is that plugin's to see to
        ours["capabilities"][BANDWIDTH] = True
    if "portmap" in config.chained:
        ours["capabilities"][PORTS] = True
    places = (("vpc", config.vpc), ("subnet", config.subnet), ("hostVpc", config.host_vpc))
    ours |= {key: value for key, value in places if value}
    if config.reserved:
        ours["reserved"] = list(config.reserved)
    plugins = [ours, *({"type": name, **FOLLOWERS[name]} for name in config.chained)]
    return json.dumps({"cniVersion": "1.1.0", "name": NETWORK, "plugins": plugins}, indent=2) + "\n"


def install(config: CniConfig, socket: str) -> list[str]:
    """Program and list are in place; returns the paths written. Raises Permanent."""
    wanted = []
    if config.plugin:
        wanted.append((Path(config.programs) / PROGRAM, _read(Path(config.plugin)), 0o755))
    wanted.append((Path(config.conflist), text(config, config.socket or socket).encode(), 0o644))
    return [str(path) for path, content, mode in wanted if _put(path, content, mode)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Permanent(f"read CNI plugin {path}: {error.strerror}") from error


def _put(path: Path, content: bytes, mode: int) -> bool:
    """The file has this content; whether it had to be written. A reader finds the old file or the new one."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content and path.stat().st_mode & 0o777 == mode:
            return False
    # Runtimes take every *.conflist for a list: no name of ours on the way there may end like that.
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise Permanent(f"write {path}: {error.strerror}") from error
    return True
