"""Waiting for a state: every test that has to wait looks again and again, and only for so long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def until(look: Callable[[], T], within: float, what: str | Callable[[], object], pause: float = 0.01) -> T:
    """What `look` returns, once that is true; fails the test after `within` seconds. `what`: what is waited for, or
    who says at the end how things stand. `pause`: seconds between two looks."""
    end = time.monotonic() + within
    while not (found := look()):
        if time.monotonic() > end:
            pytest.fail(f"{what if isinstance(what, str) else what()}: not within {within:g} s")
        time.sleep(pause)
    return found
