"""Two ends that talk, and the overlay between them: what every scenario gets to measure. Made by `bed` and `rivals`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class End:
    """One end: the namespace it sends and receives in, and its device there."""

    netns: Path
    device: str
    address: str
    mac: str


@dataclass(frozen=True)
class Pair:
    """`subject`: as in `figures`. `next_hop`: MAC address that the sender's frames go to."""

    subject: str
    title: str
    sender: End
    receiver: End
    next_hop: str
