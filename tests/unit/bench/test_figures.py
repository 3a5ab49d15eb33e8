import math

import pytest

from node_agent.bench import figures
from node_agent.bench.figures import MIZAR, VXLAN, Figure, Goal, Sample

MORE = Figure("rate", "a rate", "Mpps", 2, "more")
LESS = Figure("wait", "a wait", "us", 1, "less")
KNOWN = {figure.name: figure for figure in (MORE, LESS)}


def samples(figure: str, **values: list[float]) -> list[Sample]:
    return [Sample(figure, subject, n, value) for subject, them in values.items() for n, value in enumerate(them)]


def test_summary_is_median_and_range() -> None:
    assert figures.summary([3.0, 1.0, 2.0, 9.0]) == figures.Summary(2.5, 1.0, 9.0, 4)
    assert figures.summary([]) is None


def test_ratio_is_of_medians_and_its_range_of_single_rounds() -> None:
    known = samples("rate", mizar=[10.0, 20.0, 30.0], vxlan=[5.0, 20.0, 20.0])
    found = figures.ratio(known, "rate", MIZAR, VXLAN)
    assert found == figures.Ratio(1.0, 1.0, 2.0)


def test_ratio_uses_only_rounds_that_both_have() -> None:
    known = [Sample("rate", "mizar", 0, 4.0), Sample("rate", "mizar", 1, 8.0), Sample("rate", "vxlan", 1, 4.0)]
    found = figures.ratio(known, "rate", MIZAR, VXLAN)
    assert found is not None and (found.least, found.most) == (2.0, 2.0)


@pytest.mark.parametrize("vxlan", [[], [0.0]])
def test_no_ratio_to_nothing(vxlan: list[float]) -> None:
    assert figures.ratio(samples("rate", mizar=[1.0], vxlan=vxlan), "rate", MIZAR, VXLAN) is None


def test_goals_know_which_way_is_good() -> None:
    known = samples("rate", mizar=[11.0], vxlan=[10.0]) + samples("wait", mizar=[11.0], vxlan=[10.0])
    found = figures.judge(known, [Goal("rate", 1.0), Goal("wait", 1.0), Goal("absent", 1.0)], KNOWN)
    assert [(v.goal.figure, v.measured, v.met) for v in found] == [("rate", 1.1, True), ("wait", 1.1, False)]


def test_subjects_come_in_the_order_of_their_first_samples() -> None:
    assert figures.subjects(samples("rate", vxlan=[1.0, 2.0], mizar=[1.0]), "rate") == ("vxlan", "mizar")


def test_nanoseconds_of_a_rate() -> None:
    assert figures.nanoseconds(4.0) == 250.0
    assert math.isinf(figures.nanoseconds(0.0))


def test_quantiles_are_actual_values() -> None:
    assert [figures.quantile([5.0, 1.0, 3.0], q) for q in (0.0, 0.5, 0.99)] == [1.0, 3.0, 5.0]
    with pytest.raises(ValueError):
        figures.quantile([], 0.5)
