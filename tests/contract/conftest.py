from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.kernel import netns
from node_agent.store.base import Store
from node_agent.store.kubernetes import KubernetesStore
from node_agent.store.kubernetes_access import from_kubeconfig
from node_agent.store.open import open_store
from node_agent.testing.store import FakeStore
from tests.contract.apiserver import ApiServer, empty, running
from tests.contract.bystander import Bystander


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A real one; its objects are removed before each test that uses it."""
    with running() as server:
        yield server


@pytest.fixture
def kubernetes(api_server: ApiServer) -> Iterator[Store]:
    """A store in an empty cluster. The test's thread is in the server's network namespace meanwhile."""
    with netns.enter(api_server.netns):
        opened = open_store(f"kubernetes:{api_server.kubeconfig}")
        empty(opened)
        yield opened
        opened.close()


IN_CLUSTER = ("kubernetes", "kubernetes-bystander")


@pytest.fixture(params=["sqlite", "fake", *(pytest.param(name, marks=pytest.mark.root) for name in IN_CLUSTER)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Every store that there is; one more parameter holds another store to the same contract."""
    opened: Store
    if request.param in IN_CLUSTER:
        opened = request.getfixturevalue("kubernetes")
        if request.param == "kubernetes-bystander":
            access = from_kubeconfig(request.getfixturevalue("api_server").kubeconfig)
            opened = Bystander(opened, KubernetesStore(access))
        yield opened
        opened.close()
        return
    opened = open_store(f"sqlite:{tmp_path}/stack/store.db") if request.param == "sqlite" else FakeStore()
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
