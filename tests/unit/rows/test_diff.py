"""Order of steps: what is named before what names it, and who forgets stops answering first."""

import pytest

from node_agent.datapath.layout import VpcKey, VpcRow
from node_agent.model.errors import Permanent
from node_agent.rows import slots
from node_agent.rows.diff import PUT_ORDER, Change, diff
from tests.whole import apply

EVERYTHING = {name: {b"k": b"v"} for name in PUT_ORDER}


def test_from_nothing_serving_comes_last_and_locals_before_bouncing() -> None:
    assert [c.map for c in diff({}, EVERYTHING)] == list(PUT_ORDER)
    assert PUT_ORDER.index("locals") < PUT_ORDER.index("endpoints") < PUT_ORDER.index("serving")
    assert PUT_ORDER.index("backends") < PUT_ORDER.index("maglev") < PUT_ORDER.index("services")


def test_to_nothing_serving_goes_first_and_config_stays() -> None:
    steps = diff(EVERYTHING, {})
    services = ["services", "maglev", "backends"]
    assert [c.map for c in steps] == [
        "serving",
        *services,
        "endpoints",
        "ports",
        "locals",
        "routes",
        "subnets",
        "vpcs",
        "listed",
    ]
    assert all(c.verb == "delete" for c in steps)


def test_serving_is_withdrawn_before_anything_else_changes() -> None:
    have = {"serving": {b"a": b"0"}, "endpoints": {b"x": b"1"}}
    want = {"endpoints": {b"y": b"2"}, "serving": {b"b": b"0"}}
    assert diff(have, want) == [
        Change("delete", "serving", {b"a": b""}),
        Change("put", "endpoints", {b"y": b"2"}),
        Change("put", "serving", {b"b": b"0"}),
        Change("delete", "endpoints", {b"x": b""}),
    ]


def test_equal_images_need_nothing_and_state_of_programs_is_left_alone() -> None:
    assert diff(EVERYTHING, EVERYTHING) == []
    assert diff({"asked": {b"x": b"1"}, "flows": {b"x": b"1"}}, {}) == []


def test_apply_does_what_the_steps_say() -> None:
    other = {"vpcs": {b"z": b"1"}, "locals": {b"k": b"w"}}
    assert apply(EVERYTHING, diff(EVERYTHING, other)) == {**other, "config": {b"k": b"v"}}


def test_slots_stay_with_their_vpc_and_free_ones_are_used_again() -> None:
    have = slots.read({VpcKey(vni=v).pack(): VpcRow(slot=s).pack() for v, s in ((5, 3), (6, 0), (9, 1))})
    assert have == {5: 3, 9: 1}
    assert slots.assign(have, [5, 6, 7]) == {5: 3, 6: 1, 7: 2}
    with pytest.raises(Permanent, match="all 1023 are taken"):
        slots.assign({}, range(1, 1025))
