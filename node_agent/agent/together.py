"""One answer for many who ask the same at the same time. Called by `pods`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class _Question(Generic[V]):
    """`begun`: how often it was asked; `done`: how often an answer came, and `answer` or `error` is the last."""

    begun: int = 0
    done: int = 0
    asking: bool = False
    waiting: int = 0
    answer: list[V] = field(default_factory=list)
    error: BaseException | None = None


class Together(Generic[K, V]):
    """`fetch` is called for one of those who wait; any thread may ask.

    Nobody gets an answer that was asked for before he came: what was true when he asked is in it.
    """

    def __init__(self, fetch: Callable[[K], V]) -> None:
        self._fetch = fetch
        self._changed = threading.Condition()
        self._questions: dict[K, _Question[V]] = {}

    def ask(self, key: K) -> V:
        """What `fetch` answers, or raises, from now on."""
        with self._changed:
            question = self._questions.setdefault(key, _Question())
            question.waiting += 1
            mine = question.begun + 1
            try:
                self._changed.wait_for(lambda: question.done >= mine or not question.asking)
                if question.done < mine:
                    self._answer(key, question)
                if question.error:
                    raise question.error
                return question.answer[0]
            finally:
                question.waiting -= 1
                if not question.waiting:
                    del self._questions[key]

    def _answer(self, key: K, question: _Question[V]) -> None:
        """Fetch, while others may come and wait."""
        question.begun += 1
        question.asking = True
        answer, error = list[V](), None
        self._changed.release()
        try:
            answer = [self._fetch(key)]
        except Exception as caught:
            error = caught
        finally:
            self._changed.acquire()
            question.asking = False
            question.done = question.begun
            question.answer, question.error = answer, error
            self._changed.notify_all()
