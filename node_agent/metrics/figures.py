"""Figures as plain data. Pure; made by `agent` and `controller`, formatted by `exposition`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge"]


@dataclass(frozen=True)
class Figure:
    """One metric. `name`: without "_total"; `labels`: their names; `samples`: label values and the number."""

    kind: Kind
    name: str
    help: str
    labels: tuple[str, ...]
    samples: Sequence[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class Histogram:
    """`samples`: label values, (upper bound as text, number up to it) from the lowest to "+Inf", sum of the values."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Sequence[tuple[tuple[str, ...], Sequence[tuple[str, float]], float]]


Metric = Figure | Histogram
