from __future__ import annotations

import pytest

from node_agent.controller import vnis
from node_agent.controller.vnis import FIRST, assign
from node_agent.model.addresses import GRO_VNI, LAST_VNI


def test_ascending_from_the_watermark() -> None:
    assert assign(3, (), None) == ([1000, 1001, 1002], 1002)
    assert assign(2, {1000, 1005}, 1005) == ([1006, 1007], 1007)
    assert assign(1, (), 5000) == ([5001], 5001)
    assert assign(0, (), 5000) == ([], 5000)


def test_without_a_watermark_those_in_use_tell() -> None:
    assert assign(1, {0, 1000, 1007}, None) == ([1008], 1008)


def test_round_the_end_over_those_in_use_and_never_the_reserved_one() -> None:
    found, mark = assign(4, {FIRST, FIRST + 2}, LAST_VNI - 1)
    assert found == [LAST_VNI, FIRST + 1, FIRST + 3, FIRST + 4]
    assert mark == FIRST + 4
    assert GRO_VNI not in found


def test_none_left(monkeypatch: pytest.MonkeyPatch) -> None:
    last = FIRST + 99  # sixteen million take seconds
    monkeypatch.setattr(vnis, "LAST_VNI", last)
    everything = range(FIRST, last + 1)
    assert assign(2, everything, last) == ([], last)
    assert assign(2, set(everything) - {FIRST + 70}, last) == ([FIRST + 70], FIRST + 70)
