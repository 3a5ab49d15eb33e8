"""`python -m node_agent.metrics.probe SOCKET FIGURE MOST`: whether a figure is at most that, asked on a metrics socket.

Exit code 0 or 1, with the reason on stderr. The controller's deployment asks so whether its loop goes round.
"""

from __future__ import annotations

import sys
from pathlib import Path

from node_agent.metrics import server
from node_agent.model.errors import MizarError


def main(arguments: list[str]) -> int:
    try:
        path, figure, most = Path(arguments[0]), arguments[1], float(arguments[2])
    except (IndexError, ValueError):
        print("usage: probe SOCKET FIGURE MOST", file=sys.stderr)
        return 2
    try:
        found = value(server.fetch(path), figure)
    except MizarError as error:
        print(error, file=sys.stderr)
        return 1
    if found is None or found > most:
        print(f"{figure} is {found}, not at most {most}", file=sys.stderr)
        return 1
    return 0


def value(text: str, figure: str) -> float | None:
    """The value of a figure without labels in Prometheus' text format; None: it is not there. Pure."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == figure:
            return float(number)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
