"""Addresses for many requests at once, of one host and of two."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from node_agent.agent import claims
from node_agent.agent.claims import Exhausted, Trying
from node_agent.model.objects import NetworkEndpoint, NetworkEndpointSpec, Subnet, SubnetSpec
from node_agent.testing.store import FakeStore

VNI = 7
PATIENCE = 10.0


class Counting(FakeStore):
    """Counts what it was asked. `together`: so many creations wait for each other."""

    def __init__(self, together: int = 1) -> None:
        super().__init__()
        self.creations = self.lists = 0
        self._meeting = threading.Barrier(together, timeout=PATIENCE)

    def create(self, obj: Any) -> Any:
        self.creations += 1
        self._meeting.wait()
        return super().create(obj)

    def list(self, cls: Any, where: Any = None) -> Any:
        self.lists += 1
        return super().list(cls, where)


def subnet(cidr: str = "10.0.1.0/24") -> Subnet:
    return Subnet(name="s1", spec=SubnetSpec(vpc="blue", cidr=cidr))


class Host:
    """Claims for containers of one host, and knows of its own."""

    def __init__(self, name: str, store: FakeStore, cidr: str = "10.0.1.0/24") -> None:
        self._name, self._store, self._subnet = name, store, subnet(cidr)
        self._trying = Trying()
        self._known = set[str]()

    def claim(self, container: str) -> str:
        spec = NetworkEndpointSpec(vpc="blue", subnet="s1", address="", host=self._name, container_id=container)
        with claims.claimed(self._store, VNI, self._subnet, spec, self._trying, self._known.__contains__) as made:
            self._known.add(made.name)
        return made.spec.address


def test_requests_of_one_host_at_the_same_time_meet_before_they_ask_the_store() -> None:
    store = Counting(together=8)
    host = Host("h", store)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(host.claim, [f"c{n}" for n in range(8)]))
    assert len(set(found)) == 8
    assert (store.creations, store.lists) == (8, 0)


def test_hosts_that_meet_go_elsewhere_and_all_addresses_are_given_out() -> None:
    store = FakeStore()
    hosts = [Host(name, store) for name in ("a", "b", "c")]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda n: hosts[n % 3].claim(f"c{n}"), range(253)))
    assert len(set(found)) == 253
    with pytest.raises(Exhausted, match=r"all 253 of 10\.0\.1\.0/24 are taken"):
        hosts[0].claim("one too many")


def test_what_a_request_tries_is_free_for_others_once_it_has_given_up() -> None:
    trying = Trying()
    names = ["x", "y"]

    def both() -> Iterator[str]:
        with trying.first(names) as one, trying.first(names) as two, trying.first(names) as none:
            yield from (one, two, none)

    assert list(both()) == ["x", "y", ""]
    assert list(both()) == ["x", "y", ""]


def test_an_address_that_was_asked_for_is_claimed_or_refused() -> None:
    store = FakeStore()
    spec = NetworkEndpointSpec(vpc="blue", subnet="s1", address="10.0.1.9", host="h", container_id="c")
    with claims.claimed(store, VNI, subnet(), spec, Trying(), lambda name: False) as made:
        pass
    assert [each.name for each in store.list(NetworkEndpoint)] == [made.name] == ["7-10.0.1.9"]
