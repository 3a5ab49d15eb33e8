"""A clock that moves when it is told to; stands in for time.time and time.monotonic in tests."""

from __future__ import annotations


class FakeClock:
    """Calling it gives the time in seconds; `advance` moves it."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """The new time."""
        self.now += seconds
        return self.now

    def __repr__(self) -> str:
        return f"FakeClock({self.now:.3f})"
