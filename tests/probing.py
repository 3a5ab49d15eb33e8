"""One probe at a time from inside a namespace, by the same code as the health gate's. Used by lab and e2e tests."""

from __future__ import annotations

from pathlib import Path

from node_agent.health.answers import WORKLOAD_PORT, Answer, Request
from node_agent.health.probes import run


def ping(source: Path | str, address: str, count: int = 3, timeout: float = 2.0) -> Answer:
    return run([Request(protocol="icmp", source=str(source), address=address, count=count, timeout=timeout)])[0]


def tcp(source: Path | str, address: str, timeout: float = 3.0, port: int = WORKLOAD_PORT) -> Answer:
    return run([Request(protocol="tcp", source=str(source), address=address, timeout=timeout, port=port)])[0]


def udp(source: Path | str, address: str, timeout: float = 3.0, port: int = WORKLOAD_PORT) -> Answer:
    return run([Request(protocol="udp", source=str(source), address=address, timeout=timeout, port=port)])[0]
