"""Who waits for whom."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from node_agent.agent.turns import Turns

PATIENCE = 10.0


def test_one_name_is_one_at_a_time_and_names_do_not_wait_for_each_other() -> None:
    turns, inside, most = Turns(), list[str](), list[int]()
    meeting = threading.Barrier(3, timeout=PATIENCE)

    def enter(name: str) -> None:
        with turns.alone(name) as mine:
            assert mine
            inside.append(name)
            most.append(inside.count(name))
            meeting.wait()  # only all three names together get past
            inside.remove(name)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(enter, name) for name in "abcabc"]:
            done.result(PATIENCE)
    assert most == [1] * 6


def test_who_does_not_wait_hears_that_somebody_is_there() -> None:
    turns = Turns()
    with turns.alone("a") as mine:
        assert mine
        with turns.alone("a", wait=False) as again:
            assert not again
        with turns.alone("a", wait=False) as again:
            assert not again
        with turns.alone("b", wait=False) as other:
            assert other
    with turns.alone("a", wait=False) as mine:
        assert mine
