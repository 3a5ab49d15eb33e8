"""A hundred pods on each of two nodes, made and removed five times; and what dies while pods come and go."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab import churn, mizar
from tests.lab.churn import PARTS, Churn, kill, settle
from tests.lab.cluster import Lab
from tests.lab.mizar import PATIENCE, addresses, pod, reaches, space
from tests.lab.network import until
from tests.lab.test_kubernetes_churn import at_once, complaints
from tests.soak.rounds import count, dice, rounds

pytestmark = [pytest.mark.soak, pytest.mark.root]

PODS = 100  # per node
AWAY = 60.0  # seconds


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with mizar.made(__name__) as made:
        yield made


def test_a_hundred_pods_per_node_at_once_have_an_address_each_and_give_it_back(lab: Lab) -> None:
    for _ in rounds(5):
        print(at_once(lab, PODS))
    assert not lab.get("networkendpoints")["items"]


def test_parts_that_are_killed_during_churn_leave_nothing(lab: Lab) -> None:
    chance = dice()
    for _ in rounds(5):
        with Churn(lab, chance):
            for _ in range(8 * len(PARTS)):
                time.sleep(chance.uniform(0.0, 1.5))  # a moment of the churn like any other
                kill(lab, chance.choice(list(lab.nodes)), chance.choice(PARTS))
        settle(lab)


def test_a_minute_without_the_api_server_stops_no_packet(lab: Lab) -> None:
    one, two = lab.nodes
    lab.apply(pod("anna", one), pod("bert", two))
    found = addresses(lab, "anna", "bert")
    here, there = space(lab, one, "anna"), space(lab, two, "bert")
    with Churn(lab, dice()):
        with churn.without_api_server(lab):
            end, lost, sent = time.monotonic() + AWAY * count(1), 0, 0
            while time.monotonic() < end:
                sent += 1
                lost += not reaches(here, there, found["bert"])
            assert len(complaints(lab)) == len(lab.nodes)
        until(lambda: not complaints(lab), PATIENCE, "the agents' word that all is well")
    print(f"{sent} exchanges without the API server, {lost} lost")
    assert not lost
    settle(lab)
