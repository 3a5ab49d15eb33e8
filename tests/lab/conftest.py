"""Fixtures of tests on the real kernel: a stack id of their own, and nothing left behind however a test ends."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

import pytest

from node_agent.emulation import cleanup, stack
from node_agent.model.places import StackPlaces


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
