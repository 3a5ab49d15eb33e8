"""Which of Kubernetes' own specs are run and which are left out, as specs.toml says. Pure; called by `run`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SUITE = "Kubernetes e2e suite"
"""As main.go calls it."""
Report = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Group:
    """`patterns`: regular expressions to be found in a spec's name. `run`: whether its specs are run."""

    name: str
    why: str
    patterns: tuple[str, ...]
    run: bool = False


@dataclass(frozen=True, kw_only=True)
class Result:
    """`seconds`: that it took. `failure`: first line of what went wrong, "" for what passed."""

    name: str
    seconds: float
    failure: str = ""


def groups(text: str) -> tuple[Group, ...]:
    """The groups of specs.toml, in its order."""
    return tuple(
        Group(name=each["name"], why=each["why"], patterns=tuple(each["specs"]), run=each.get("run", False))
        for each in tomllib.loads(text)["group"]
    )


def sort(names: Iterable[str], into: Sequence[Group]) -> tuple[Mapping[str, tuple[str, ...]], tuple[str, ...]]:
    """Group name -> its specs, and the specs that are in no group. A spec is in the first group that has its name."""
    found: dict[str, list[str]] = {group.name: [] for group in into}
    nowhere: list[str] = []
    for name in sorted(names):
        first = next((group for group in into if any(re.search(each, name) for each in group.patterns)), None)
        (found[first.name] if first else nowhere).append(name)
    return {name: tuple(specs) for name, specs in found.items()}, tuple(nowhere)


def unused(names: Iterable[str], into: Sequence[Group]) -> tuple[str, ...]:
    """Patterns that no spec has: upstream's name has changed."""
    known = tuple(names)
    patterns = (each for group in into for each in group.patterns)
    return tuple(each for each in patterns if not any(re.search(each, name) for name in known))


def focus(names: Iterable[str]) -> str:
    """A regular expression of Go's for exactly these names, as ginkgo compares them: with the suite's before it."""
    quoted = "|".join(re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", name) for name in sorted(names))
    return f"^{SUITE} ({quoted})$"


def all_names(report: Report) -> tuple[str, ...]:
    """Names of the specs that a ginkgo report (its JSON) knows of, run or not."""
    return tuple(_name(node) for node in _nodes(report) if node["LeafNodeType"] == "It")


def results(report: Report) -> tuple[Result, ...]:
    """What became of the specs that were run, by name; and of what the suite does before and after, if that failed."""
    ran = (node for node in _nodes(report) if node["State"] not in ("skipped", "pending"))
    found = (Result(name=_name(node), seconds=(node.get("RunTime") or 0) / 1e9, failure=_failure(node)) for node in ran)
    return tuple(sorted((one for one in found if one.name or one.failure), key=lambda one: one.name))


def _nodes(report: Report) -> list[Mapping[str, Any]]:
    return [node for suite in report for node in suite["SpecReports"] or ()]


def _name(node: Mapping[str, Any]) -> str:
    """Empty for what is no spec and went well."""
    if node["LeafNodeType"] != "It":
        return "" if node["State"] == "passed" else str(node["LeafNodeType"])
    return " ".join([*(node["ContainerHierarchyTexts"] or ()), node["LeafNodeText"]])


def _failure(node: Mapping[str, Any]) -> str:
    if node["State"] == "passed":
        return ""
    told = str((node.get("Failure") or {}).get("Message") or node["State"])
    return told.strip().splitlines()[0]
