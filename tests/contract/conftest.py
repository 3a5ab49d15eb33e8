from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.store.base import Store
from node_agent.store.open import open_store
from node_agent.testing.store import FakeStore


@pytest.fixture(params=["sqlite", "fake"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Every store that there is; one more parameter holds another store to the same contract."""
    opened: Store = open_store(f"sqlite:{tmp_path}/stack/store.db") if request.param == "sqlite" else FakeStore()
    yield opened
    opened.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the tests of the SQLite store alone put theirs."""
    return tmp_path / "stack" / "store.db"


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())  # the SDK of other tests keeps threads of its own
    yield
    assert not set(threading.enumerate()) - before
