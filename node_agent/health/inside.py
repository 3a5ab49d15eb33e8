"""`python -S -m node_agent.health.inside FIRST`: probes from where this process is, for who cannot get there.

Reads one line of requests (`answers.dump`) from stdin, sends all of them at once from the own namespace, and prints one
line of answers. FIRST: id of the first echo. Called through the API server by the health gate of a cluster, in its
pods; takes no capability and no root.

What is asked without an address goes to what this very pod was told: its name server, its API server.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from node_agent.health import names, probes
from node_agent.health.answers import Answer, Request, dump, load_requests, nothing_sent

RESOLV_CONF = Path("/etc/resolv.conf")
API_HOST, API_PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not arguments[0].isdecimal():
        print("usage: python -S -m node_agent.health.inside FIRST < REQUESTS", file=sys.stderr)
        return 2
    try:
        requests = load_requests(sys.stdin.readline())
    except (ValueError, TypeError) as error:
        print(f"read requests: {error}", file=sys.stderr)
        return 2
    resolv = RESOLV_CONF.read_text() if RESOLV_CONF.exists() else ""
    print(dump(_answers([addressed(each, resolv, os.environ) for each in requests], int(arguments[0]))))
    return 0


def addressed(request: Request, resolv: str, environment: Mapping[str, str]) -> Request | str:
    """The request with the address that it goes to, or why there is none. `resolv`: text of resolv.conf. Pure."""
    if request.address:
        return request
    if request.protocol == "dns":
        servers = [
            words[1] for line in resolv.splitlines() if len(words := line.split()) > 1 and words[0] == "nameserver"
        ]
        return (
            replace(request, address=servers[0], port=names.PORT) if servers else "the pod was told of no name server"
        )
    host, port = environment.get(API_HOST, ""), environment.get(API_PORT, "443")
    return replace(request, address=host, port=int(port)) if host else "the pod was told of no API server"


def _answers(wanted: Sequence[Request | str], first: int) -> list[Answer]:
    sent = iter(probes.run([each for each in wanted if isinstance(each, Request)], first))
    return [next(sent) if isinstance(each, Request) else nothing_sent(each) for each in wanted]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
