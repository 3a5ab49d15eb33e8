"""Figures as text: the tables that `make bench` prints and docs/performance.md holds, or JSON. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from node_agent.bench.figures import (
    COUNT,
    HOST,
    METADATA,
    MIZAR,
    PLAIN,
    VXLAN,
    Figure,
    Goal,
    Ratio,
    Sample,
    judge,
    nanoseconds,
    of,
    ratio,
    subjects,
    summary,
)
from node_agent.bench.run import Result
from node_agent.model.errors import Invalid

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"  # lines of a document that hold the figures between them
COLUMNS = (MIZAR, PLAIN, VXLAN, METADATA, HOST)
HEADS = {
    MIZAR: "Mizar",
    PLAIN: "Mizar, TC only",
    VXLAN: "(a) kernel VXLAN",
    METADATA: "(b) TC + metadata",
    HOST: "(c) host to host",
}


def text(
    result: Result,
    figures: dict[str, Figure],
    goals: Sequence[Goal],
    bouncer_goal: tuple[str, float],
    command: str,
) -> str:
    """Markdown: the machine, one table per kind of figure, and what became of the goals."""
    samples = result.samples
    known = [figure for figure in figures.values() if subjects(samples, figure.name)]
    compared = [f for f in known if VXLAN in subjects(samples, f.name)]
    bounced = [f for f in known if "bouncer" in subjects(samples, f.name)]
    alone = [f for f in known if f not in compared and f not in bounced]
    parts = [facts(result, command)]
    parts += [comparison(samples, compared)] if compared else []
    parts += [bouncers(samples, bounced)] if bounced else []
    parts += [upkeep(samples, alone)] if alone else []
    told = verdicts(samples, figures, goals, bouncer_goal)
    parts += ["Goals, Mizar against (a):\n" + "\n".join(f"- {line}" for line in told)] if told else []
    return "\n\n".join(parts) + "\n"


def facts(result: Result, command: str) -> str:
    machine, others = result.machine, summary(result.others)
    kind = "virtual machine" if machine.virtual else "machine"
    noise = f"{others.median:.0%} of the CPUs (median; at most {others.most:.0%})" if others else "nothing"
    return "\n".join(
        [
            f"- Command: `{command}`; rounds, interleaved: {len({sample.round for sample in result.samples})}.",
            f"- Machine: {kind}, {machine.cpus} CPUs ({machine.processor}), {machine.memory:.0f} GiB, Linux "
            f"{machine.kernel}. Others took {noise} in the {len(result.others)} measurements; "
            f"{result.repeated} more were made again for such noise.",
            f"- TCP: cubic on every socket (the machine's own choice is {machine.congestion}).",
            "- Figures: median (least to most of the rounds). Ratio: of the medians (least to most of single rounds).",
        ]
    )


def comparison(samples: Sequence[Sample], figures: Sequence[Figure]) -> str:
    """A column for everybody who was measured, and the ratio to (a) for each of ours."""
    names = [name for name in COLUMNS if any(name in subjects(samples, figure.name) for figure in figures)]
    ours = [name for name in (MIZAR, PLAIN) if name in names]
    rows = []
    for figure in figures:
        told = ["-" if figure.unit == COUNT else _ratio(ratio(samples, figure.name, name, VXLAN)) for name in ours]
        rows.append([_titled(figure), *(_cell(samples, figure, name) for name in names), *told])
    return _table(["", *(HEADS[name] for name in names), *(f"{HEADS[name]} / (a)" for name in ours)], rows)


def bouncers(samples: Sequence[Sample], figures: Sequence[Figure]) -> str:
    rows = []
    for figure in figures:
        mine, bare = (of(samples, figure.name, name) for name in ("bouncer", "reflector"))
        more = summary(nanoseconds(mine[n]) - nanoseconds(bare[n]) for n in mine.keys() & bare.keys())
        told = f"{more.median:.0f} ({more.least:.0f} to {more.most:.0f})" if more else "-"
        rows.append([_titled(figure), *(_cell(samples, figure, name) for name in ("bouncer", "reflector")), told])
    return _table(["", "bouncer", "bare reflector", "more, ns a query"], rows)


def upkeep(samples: Sequence[Sample], figures: Sequence[Figure]) -> str:
    return _table(["", "Mizar"], [[_titled(figure), _cell(samples, figure, MIZAR)] for figure in figures])


def verdicts(
    samples: Sequence[Sample], figures: dict[str, Figure], goals: Sequence[Goal], bouncer_goal: tuple[str, float]
) -> list[str]:
    """One line for each goal that was measured."""
    lines = []
    for verdict in judge(samples, goals, figures):
        figure, goal = figures[verdict.goal.figure], verdict.goal
        bound = "at least" if figure.better == "more" else "at most"
        plain = f" (TC only: {verdict.plain:.2f})" if verdict.plain is not None else ""
        lines.append(
            f"{figure.title}: {bound} {goal.ratio:.1f}, measured {verdict.measured:.2f}: "
            f"{'met' if verdict.met else f'missed by {abs(1 - verdict.measured / goal.ratio):.0%}'}{plain}"
        )
    name, most = bouncer_goal
    mine, bare = (of(samples, name, subject) for subject in ("bouncer", "reflector"))
    more = summary(nanoseconds(mine[n]) - nanoseconds(bare[n]) for n in mine.keys() & bare.keys())
    if more:
        met = "met" if more.median <= most else f"missed by {more.median - most:.0f} ns"
        lines.append(
            f"{figures[name].title}: at most {most:.0f} ns above the reflector, measured {more.median:.0f}: {met}"
        )
    return lines


def pasted(document: str, told: str) -> str:
    """The document with `told` between its two markers. Raises Invalid when it has not both, once and in order."""
    head, begin, rest = document.partition(f"{BEGIN}\n")
    _, end, tail = rest.partition(f"{END}\n")
    if not begin or not end or BEGIN in rest or END in head + tail:
        raise Invalid([f"has not the lines {BEGIN} and {END}, each once and in this order"])
    return f"{head}{begin}{told}{end}{tail}"


def as_json(result: Result, figures: dict[str, Figure], command: str) -> str:
    """{"command", "machine", "others", "repeated", "figures": {name: Figure}, "samples": [Sample]}, one line."""
    known = {name: dataclasses.asdict(figure) for name, figure in figures.items()}
    return json.dumps({"command": command, **dataclasses.asdict(result), "figures": known})


def _titled(figure: Figure) -> str:
    return f"{figure.title}, {figure.unit}"


def _ratio(found: Ratio | None) -> str:
    return f"{found.median:.2f} ({found.least:.2f} to {found.most:.2f})" if found else "-"


def _cell(samples: Sequence[Sample], figure: Figure, subject: str) -> str:
    found = summary(of(samples, figure.name, subject).values())
    if found is None:
        return "-"
    if found.count == 1:
        return f"{found.median:.{figure.digits}f}"
    return f"{found.median:.{figure.digits}f} ({found.least:.{figure.digits}f} to {found.most:.{figure.digits}f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
