"""Many who ask the same at once, and what each may be told."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from node_agent.agent.together import Together
from node_agent.model.errors import Temporary

PATIENCE = 10.0


class Slow:
    """Answers with the number of the question, when it is let go on."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.error: Exception | None = None

    def __call__(self, key: str) -> int:
        self.asked += 1
        number = self.asked
        self.begun.release()
        assert self.go_on.acquire(timeout=PATIENCE)
        if self.error:
            raise self.error
        return number


def test_who_comes_while_an_answer_is_under_way_waits_for_the_next_one() -> None:
    slow = Slow()
    together = Together(slow)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(together.ask, "a")
        assert slow.begun.acquire(timeout=PATIENCE)
        late = [pool.submit(together.ask, "a") for _ in range(8)]
        end = time.monotonic() + PATIENCE
        while together._questions["a"].waiting < 9:
            assert time.monotonic() < end
        for _ in range(9):
            slow.go_on.release()
        assert first.result(PATIENCE) == 1
        assert {each.result(PATIENCE) for each in late} == {2}
    assert slow.asked == 2


def test_one_after_the_other_everybody_asks_anew() -> None:
    slow = Slow()
    together = Together(slow)
    for number in (1, 2):
        slow.go_on.release()
        assert together.ask("a") == number


def test_an_error_is_told_to_those_who_waited_for_it_and_kept_for_nobody() -> None:
    slow = Slow()
    slow.error = Temporary("ask: nobody answers")
    together = Together(slow)
    slow.go_on.release()
    with pytest.raises(Temporary, match="nobody answers"):
        together.ask("a")
    slow.error = None
    slow.go_on.release()
    assert together.ask("a") == 2


def test_other_questions_do_not_wait() -> None:
    slow = Slow()
    together = Together(lambda key: slow(key) if key == "slow" else 0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(together.ask, "slow")
        assert slow.begun.acquire(timeout=PATIENCE)
        assert together.ask("quick") == 0
        slow.go_on.release()
        assert waiting.result(PATIENCE) == 1
