"""kubectl, run inside a host's network namespace. For single calls: a start is a tenth of a second.

Called by the node's provider and the tests.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

from node_agent.emulation import processes
from node_agent.emulation.cluster import programs
from node_agent.kernel import commands, netns
from node_agent.model.places import StackPlaces


def run(
    places: StackPlaces, host: str, kubeconfig: str, arguments: Sequence[str], timeout: float, *, stdin: str = ""
) -> str:
    """What it printed, asked as the user of the kubeconfig (a text). Raises CommandError, Permanent."""
    program = str(programs.where().kubernetes / "kubectl")
    # In memory only, readable by nobody else, and gone with the block however it ends.
    file = os.memfd_create("kubeconfig")
    try:
        os.write(file, kubeconfig.encode())
        argv = [program, f"--kubeconfig=/proc/{os.getpid()}/fd/{file}", *arguments]
        with tempfile.TemporaryDirectory() as home, netns.enter(places.netns_path(host)):
            return commands.run(argv, timeout, stdin=stdin, env={"HOME": home, "PATH": processes.PATH}).stdout
    finally:
        os.close(file)
