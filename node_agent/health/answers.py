"""What is asked of the network and what came of it, as frozen records and as the JSON that pods are asked in. Pure.

`health.probes` does the asking.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Wire = Literal["icmp", "tcp", "udp", "dns", "connect"]
"""What is sent: echoes, a request to a workload, a question to a name server, or the beginning of a TCP connection."""
WORKLOAD_PORT = 8080


@dataclass(frozen=True, kw_only=True)
class Request:
    """`source`: path of the namespace to send from, "" for the own one. `count`: echoes to be answered (ICMP). `size`:
    of an echo's whole IP packet in bytes, 0: small. Echoes must not be fragmented on their way. `question`: the name
    whose address is wanted (DNS). `timeout`: seconds."""

    protocol: Wire
    source: str
    address: str
    port: int = WORKLOAD_PORT
    count: int = 1
    size: int = 0
    question: str = ""
    timeout: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`reason` "" means answered, in full and in time. `identity`: what the workload said of itself (TCP, UDP), or
    {"address"} of the name that was asked for (DNS).

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


def nothing_sent(reason: str) -> Answer:
    """Of a request that nobody could even send."""
    return Answer(reason=reason, sent=0, received=0, seconds=0.0)


def dump(records: Sequence[Request] | Sequence[Answer]) -> str:
    """One line of JSON."""
    return json.dumps([asdict(each) for each in records])


def load_requests(text: str) -> list[Request]:
    """Raises ValueError for anything else than what `dump` wrote."""
    return [Request(**each) for each in _records(text)]


def load_answers(text: str) -> list[Answer]:
    """Raises ValueError for anything else than what `dump` wrote."""
    return [Answer(**each) for each in _records(text)]


def _records(text: str) -> list[dict[str, Any]]:
    raw = json.loads(text)
    if not isinstance(raw, list) or not all(isinstance(each, dict) for each in raw):
        raise ValueError(f"no list of records: {text[:60]!r}")
    return raw
