"""Samples and what is said about them: medians, ranges, ratios, goals. Pure; filled by `run`, told by `report`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Better = Literal["more", "less"]
MIZAR, PLAIN, VXLAN, METADATA, HOST = "mizar", "mizar-tc", "vxlan", "metadata", "host"
COUNT = "a run"  # the unit of figures that are mostly 0: no ratio is made of them


@dataclass(frozen=True)
class Figure:
    """One row of a table. `digits` after the point; `better`: which way is good."""

    name: str
    title: str
    unit: str
    digits: int
    better: Better


@dataclass(frozen=True)
class Sample:
    """`value` of `figure` for `subject` (a variant, "bouncer", ...), measured in round `round` (from 0)."""

    figure: str
    subject: str
    round: int
    value: float


@dataclass(frozen=True)
class Goal:
    """The median of `figure` for MIZAR over that of VXLAN is to be at least, or with figures of which less is better
    at most, `ratio`."""

    figure: str
    ratio: float


@dataclass(frozen=True)
class Summary:
    median: float
    least: float
    most: float
    count: int


@dataclass(frozen=True)
class Ratio:
    """`median`: of the medians. `least`, `most`: of single rounds, which saw the same noise of the machine."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Verdict:
    """What became of a goal: `measured` is a ratio as in the goal. `plain`: the same of PLAIN, if it was measured."""

    goal: Goal
    measured: float
    met: bool
    plain: float | None = None


def summary(values: Iterable[float]) -> Summary | None:
    """None for no value at all."""
    known = list(values)
    return Summary(statistics.median(known), min(known), max(known), len(known)) if known else None


def of(samples: Iterable[Sample], figure: str, subject: str) -> dict[int, float]:
    """Round -> value; of repeated ones the last."""
    return {s.round: s.value for s in samples if s.figure == figure and s.subject == subject}


def subjects(samples: Iterable[Sample], figure: str) -> tuple[str, ...]:
    """Who was measured, in the order of the first samples."""
    return tuple(dict.fromkeys(s.subject for s in samples if s.figure == figure))


def ratio(samples: Iterable[Sample], figure: str, subject: str, to: str) -> Ratio | None:
    """`subject` over `to`; None where one of them is missing or 0."""
    known = list(samples)
    mine, theirs = of(known, figure, subject), of(known, figure, to)
    single = [mine[n] / theirs[n] for n in sorted(mine.keys() & theirs.keys()) if theirs[n]]
    own, other = summary(mine.values()), summary(theirs.values())
    if not single or own is None or other is None or not other.median:
        return None
    return Ratio(own.median / other.median, min(single), max(single))


def judge(samples: Iterable[Sample], goals: Iterable[Goal], figures: dict[str, Figure]) -> list[Verdict]:
    """Goals that were measured, and whether they were met."""
    known, found = list(samples), []
    for goal in goals:
        measured = ratio(known, goal.figure, MIZAR, VXLAN)
        if measured:
            more = figures[goal.figure].better == "more"
            met = measured.median >= goal.ratio if more else measured.median <= goal.ratio
            plain = ratio(known, goal.figure, PLAIN, VXLAN)
            found.append(Verdict(goal, measured.median, met, plain.median if plain else None))
    return found


def nanoseconds(mpps: float) -> float:
    """What one packet takes at so many million a second."""
    return 1000.0 / mpps if mpps else float("inf")


def quantile(values: Iterable[float], q: float) -> float:
    """The value below which a part `q` of them lies; of few values an actual one. Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("quantile of nothing")
    return ordered[min(len(ordered) - 1, round(q * (len(ordered) - 1)))]
