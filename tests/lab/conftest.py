"""Fixtures of tests on the real kernel: a stack id of their own, and nothing left behind however a test ends."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node_agent.emulation import cleanup, stack
from node_agent.model.places import StackPlaces

OWN_ID = re.compile(r"test-(\d+)-[0-9a-f]{6}")


@pytest.fixture(scope="session", autouse=True)
def no_leftovers_of_killed_runs() -> None:
    """A run that was killed could not clean up; its ids carry the pid of a process that is gone."""
    if os.geteuid() != 0:
        return
    for id in cleanup.ids():
        match = OWN_ID.fullmatch(id)
        if match and not Path(f"/proc/{match.group(1)}").exists():
            cleanup.remove(id)


@pytest.fixture
def new_stack(request: pytest.FixtureRequest) -> Iterator[Callable[[], StackPlaces]]:
    """Makes the folder of one more stack with an id that no other test and no other run has."""
    made: list[StackPlaces] = []

    def make() -> StackPlaces:
        mark = hashlib.sha256(f"{request.node.nodeid}/{len(made)}".encode()).hexdigest()[:6]
        places = StackPlaces(f"test-{os.getpid()}-{mark}")
        made.append(places)
        stack.make(places)
        return places

    yield make
    failures = []
    for places in made:
        try:
            cleanup.remove(places.id)
        except Exception as error:
            failures.append(str(error))
    assert not failures, failures


@pytest.fixture
def places(new_stack: Callable[[], StackPlaces]) -> StackPlaces:
    """The folder of a stack of the test's own."""
    return new_stack()


@pytest.fixture
def until() -> Callable[..., float]:
    """Wait until a condition holds, at most `within` seconds; returns the seconds it took."""

    def wait(condition: Callable[[], object], within: float, what: str = "condition") -> float:
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > within:
                pytest.fail(f"{what}: not within {within:g} s")
            time.sleep(0.005)
        return time.monotonic() - began

    return wait
