"""`python -m node_agent.agent.probe {alive,ready} SOCKET`: a kubelet's question about the agent, asked on its socket.

    alive   it answers, whatever it says: an agent that waits for the store or finds damage is not helped by a restart
    ready   it answers that nothing is wrong

Exit code 0 or 1, with the reason on stderr. Entry of the daemonset's probes; imports little, since it starts often.
"""

from __future__ import annotations

import sys
from pathlib import Path

from node_agent.cni import client
from node_agent.cni.protocol import Request
from node_agent.model.errors import MizarError, Permanent, Temporary

PATIENCE = 5.0  # seconds
QUESTIONS = ("alive", "ready")


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in QUESTIONS:
        print(f"usage: probe {'|'.join(QUESTIONS)} SOCKET", file=sys.stderr)
        return 2
    question, path = arguments[0], Path(arguments[1])
    try:
        client.call(path, Request(verb="STATUS"), PATIENCE)
    except MizarError as error:
        if question == "alive" and (isinstance(error, Permanent) or _answered(error)):
            return 0
        print(error, file=sys.stderr)
        return 1
    return 0


def _answered(error: MizarError) -> bool:
    """Whether "try again" is the agent's own word, and not that nobody was there to say anything."""
    return isinstance(error, Temporary) and error.__cause__ is None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
