"""What is asked of the network and what came of it, as frozen records. Pure; `health.probes` does the asking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Wire = Literal["icmp", "tcp", "udp"]
WORKLOAD_PORT = 8080


@dataclass(frozen=True, kw_only=True)
class Request:
    """`source`: path of the namespace to send from. `count`: echoes to be answered (ICMP). `size`: of an echo's whole
    IP packet in bytes, 0: small. Echoes must not be fragmented on their way. `timeout`: seconds."""

    protocol: Wire
    source: Path
    address: str
    port: int = WORKLOAD_PORT
    count: int = 1
    size: int = 0
    timeout: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`reason` "" means answered, in full and in time. `identity`: what the workload said of itself (TCP, UDP).

    `sent` and `received` count echoes, connects or datagrams; `sent` 0: the source could not send at all. `seconds`:
    from the beginning to the last answer. `port`: which it was sent from, of the attempt that was answered; the id of
    an echo; 0 when nothing was answered.
    """

    reason: str
    sent: int
    received: int
    seconds: float
    identity: Mapping[str, str] | None = None
    port: int = 0

    @property
    def answered(self) -> bool:
        return not self.reason
