"""Which of upstream's specs are run: groups, names as ginkgo has them, and what its report says."""

from __future__ import annotations

import re
from typing import Any

from tests.engine.engine_env import ROOT
from tools.conformance import specs
from tools.conformance.specs import Group, Result

GROUPS = (
    Group(name="ports", why="", patterns=("NodePort service",)),
    Group(name="services", why="", patterns=("^Services should",), run=True),
)


def node(name: str, state: str, kind: str = "It", **more: Any) -> dict[str, Any]:
    said = {"ContainerHierarchyTexts": ["[sig-network] A"], "LeafNodeText": name, "LeafNodeType": kind}
    return {**said, "State": state, **more}


def test_a_spec_is_in_the_first_group_that_has_its_name() -> None:
    sorted_in, nowhere = specs.sort(["Services should a NodePort service", "Services should b", "DNS"], GROUPS)
    assert sorted_in == {"ports": ("Services should a NodePort service",), "services": ("Services should b",)}
    assert nowhere == ("DNS",)
    assert specs.unused(["Services should b"], GROUPS) == ("NodePort service",)


def test_the_list_is_read_and_says_why_of_each_group() -> None:
    groups = specs.groups((ROOT / "tools/conformance/specs.toml").read_text())
    assert all(group.why and group.patterns for group in groups)
    assert len({group.name for group in groups}) == len(groups)
    assert {group.run for group in groups} == {False, True}


def test_exactly_the_chosen_names_are_in_focus() -> None:
    chosen = ["[sig-network] A (b) c? [Conformance]", "[sig-network] d.e"]
    pattern = specs.focus(chosen)
    assert all(re.search(pattern, f"{specs.SUITE} {name}") for name in chosen)
    for other in ("[sig-network] d.e [Slow]", "[sig-network] dxe", "x [sig-network] d.e"):
        assert not re.search(pattern, f"{specs.SUITE} {other}")


def test_a_report_says_what_ran_and_what_broke_before_it() -> None:
    report = [
        {
            "SpecReports": [
                node("works", "passed", RunTime=2_500_000_000),
                node("breaks", "failed", RunTime=1_000_000_000, Failure={"Message": "no answer\nand more"}),
                node("is not chosen", "skipped"),
                node("", "passed", "SynchronizedBeforeSuite"),
                node("", "failed", "SynchronizedAfterSuite", Failure={"Message": "left over"}),
            ]
        }
    ]
    assert specs.all_names(report) == (
        "[sig-network] A works",
        "[sig-network] A breaks",
        "[sig-network] A is not chosen",
    )
    assert specs.results(report) == (
        Result(name="SynchronizedAfterSuite", seconds=0.0, failure="left over"),
        Result(name="[sig-network] A breaks", seconds=1.0, failure="no answer"),
        Result(name="[sig-network] A works", seconds=2.5),
    )
