"""Two things of one request at the same time, where one waits for others and the other for the kernel. Called by
`endpoints`, by way of the clock that `host` is given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

T = TypeVar("T")


class Beside(Protocol):
    """Begins the work; what it returns waits for the end of it, and has its result or its error."""

    def __call__(self, work: Callable[[], T]) -> Callable[[], T]: ...


def threaded(work: Callable[[], T]) -> Callable[[], T]:
    """In a thread of its own."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # handed to whoever waits
            done.set_exception(error)

    threading.Thread(target=run, name="beside", daemon=True).start()
    return done.result


def at_once(work: Callable[[], T]) -> Callable[[], T]:
    """Before anything else, in the caller's thread: for tests, which want one order of things."""
    result = work()
    return lambda: result
