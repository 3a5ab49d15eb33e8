"""A port of this computer that leads to a server inside the emulated network; kubectl uses it. `door` is the program.

Called by the Pulumi provider.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from node_agent.emulation import processes
from node_agent.model.places import StackPlaces

MODULE = "node_agent.emulation.cluster.door"
NAME = "door"


def folder(places: StackPlaces, host: str) -> Path:
    return places.host(host).root / NAME


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def make(places: StackPlaces, host: str, *, port: int, address: str, to: int) -> None:
    """127.0.0.1:`port` of this computer leads to `address`:`to` as the host reaches it. Raises Permanent."""
    path = places.netns_path(host)
    argv = (sys.executable, "-S", "-m", MODULE)
    arguments = ("--port", str(port), "--netns", str(path), "--to", f"{address}:{to}")
    env = {"PATH": processes.PATH, "PYTHONPATH": str(processes.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    spec = processes.Spec(folder=folder(places, host), name=NAME, argv=(*argv, *arguments), env=env)
    processes.start(spec)


def inspect(places: StackPlaces, host: str) -> int:
    """The port of the door that is kept open, 0 for none."""
    found = processes.inspect(folder(places, host), NAME)
    if found is None or not found.supervisor_pid or "--port" not in found.argv:
        return 0
    return int(found.argv[found.argv.index("--port") + 1])


def remove(places: StackPlaces, host: str) -> None:
    """Close it; absent is success."""
    processes.remove(folder(places, host), NAME)
