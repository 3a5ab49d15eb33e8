"""`python -S -m node_agent.health.flows CONFIG`: whether flows go straight, asked in the container of a host's agent.

Reads one line of questions (`paths.dump`) from stdin, looks them up in the host's pinned maps, and prints one line: a
JSON list with null for each that goes straight, else the reason. Reads only. CONFIG: the agent's own configuration,
which says where its maps are. Called through the API server by the health gate of a cluster.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from node_agent.datapath.direct import HostFlows
from node_agent.datapath.maps import HostMaps
from node_agent.health import paths
from node_agent.model import config as configs
from node_agent.model.errors import MizarError


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -S -m node_agent.health.flows CONFIG < QUESTIONS", file=sys.stderr)
        return 2
    try:
        own = configs.load_agent(Path(arguments[0]).read_text())
        questions = paths.load(sys.stdin.readline())
        with HostMaps(Path(own.pins) / "maps") as maps:
            flows = HostFlows(own.host, maps)
            print(json.dumps([flows.answer(each) for each in questions]))
    except (MizarError, OSError, ValueError) as error:
        print(f"look up flows: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
