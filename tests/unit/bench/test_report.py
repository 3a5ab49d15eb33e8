import json

import pytest

from node_agent.bench import report
from node_agent.bench.figures import Sample
from node_agent.bench.machine import Machine
from node_agent.bench.run import Result, rotated, subjects_of
from node_agent.bench.scenarios import BOUNCER_GOAL, FIGURES, GOALS, PAIRS, SCENARIOS
from node_agent.model.errors import Invalid

MACHINE = Machine("a processor", 2, True, 8.0, "6.1", "cubic")


def result(*samples: Sample) -> Result:
    return Result(MACHINE, samples, (0.01, 0.02), 3)


def text(*samples: Sample) -> str:
    return report.text(result(*samples), FIGURES, GOALS, BOUNCER_GOAL, "the command")


def bulk(mizar: list[float], vxlan: list[float]) -> list[Sample]:
    both = (("mizar", mizar), ("vxlan", vxlan))
    return [Sample("tcp1-gso", subject, n, value) for subject, values in both for n, value in enumerate(values)]


def test_the_machine_and_the_command_come_first() -> None:
    told = text(*bulk([2.0], [1.0]))
    assert "`the command`" in told and "2 CPUs (a processor), 8 GiB, Linux 6.1" in told
    assert "3 more were made again" in told


def test_a_row_has_medians_ranges_and_the_ratio() -> None:
    told = text(*bulk([20.0, 30.0, 10.0], [10.0, 10.0, 10.0]))
    assert (
        "| bulk TCP, 1 stream, GSO wire, Gbit/s | 20.00 (10.00 to 30.00) | 10.00 (10.00 to 10.00) "
        "| 2.00 (1.00 to 3.00) |" in told
    )
    assert "bulk TCP, 1 stream, GSO wire: at least 1.0, measured 2.00: met" in told


def test_one_round_has_no_range_and_a_missed_goal_says_by_how_much() -> None:
    told = text(*bulk([6.0], [10.0]))
    assert "| 6.00 | 10.00 |" in told
    assert "measured 0.60: missed by 40%" in told


def test_hosts_without_xdp_are_told_beside_the_others() -> None:
    told = text(*bulk([6.0], [10.0]), Sample("tcp1-gso", "mizar-tc", 0, 12.0))
    assert "| 6.00 | 12.00 | 10.00 | 0.60 (0.60 to 0.60) | 1.20 (1.20 to 1.20) |" in told
    assert "measured 0.60: missed by 40% (TC only: 1.20)" in told


def test_where_no_host_has_xdp_nobody_is_measured_twice() -> None:
    assert subjects_of(SCENARIOS[0], "generic") == PAIRS
    assert "mizar-tc" not in subjects_of(SCENARIOS[0], "tc")


def test_a_bouncer_is_held_against_its_reflector() -> None:
    name, _ = BOUNCER_GOAL
    told = text(Sample(name, "bouncer", 0, 4.0), Sample(name, "reflector", 0, 8.0))
    assert "| 4.00 | 8.00 | 125 (125 to 125) |" in told
    assert "at most 70 ns above the reflector, measured 125: missed by 55 ns" in told


def test_figures_of_mizar_alone_have_a_table_of_their_own() -> None:
    assert "| maps in the kernel, MiB | 12.5 |" in text(Sample("memory-maps", "mizar", 0, 12.5))


def test_the_tables_go_between_the_markers_of_a_document() -> None:
    document = f"# Title\n{report.BEGIN}\nold\n{report.END}\nthe rest\n"
    assert report.pasted(document, "new\n") == f"# Title\n{report.BEGIN}\nnew\n{report.END}\nthe rest\n"
    for wrong in ("nothing\n", f"{report.END}\n{report.BEGIN}\n", document + document):
        with pytest.raises(Invalid, match="each once and in this order"):
            report.pasted(wrong, "new\n")


def test_counts_have_no_ratio() -> None:
    lost = [Sample("first-lost", subject, 0, 2.0) for subject in ("mizar", "vxlan")]
    assert "| 2 | 2 | - |" in text(*lost)


def test_json_holds_every_sample() -> None:
    told = json.loads(report.as_json(result(*bulk([1.0, 2.0], [3.0, 4.0])), FIGURES, "the command"))
    assert len(told["samples"]) == 4 and told["samples"][0]["figure"] == "tcp1-gso"
    assert told["machine"]["cpus"] == 2 and told["figures"]["tcp1-gso"]["unit"] == "Gbit/s"


def test_names_of_scenarios_and_figures_are_unique() -> None:
    figures = [figure.name for scenario in SCENARIOS for figure in scenario.figures]
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(figures)) == len(figures) and len(set(names)) == len(names)
    assert {goal.figure for goal in GOALS} <= set(figures) and BOUNCER_GOAL[0] in figures


def test_every_subject_begins_a_round_once() -> None:
    assert [rotated(PAIRS, n)[0] for n in range(len(PAIRS))] == list(PAIRS)
    assert sorted(rotated(PAIRS, 5)) == sorted(PAIRS)
