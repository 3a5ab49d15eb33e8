"""A hundred pods on each of two nodes, made and removed five times; and what dies while pods come and go."""

from __future__ import annotations

import pytest

from tests.lab import mizar
from tests.lab.churn import at_once, kill_each, packets_without_api_server
from tests.lab.cluster import Lab
from tests.soak.rounds import dice, rounds

pytestmark = [pytest.mark.soak, pytest.mark.root]

PODS = 100  # per node
AWAY = 60.0  # seconds


lab = mizar.fixture()


def test_a_hundred_pods_per_node_at_once_have_an_address_each_and_give_it_back(lab: Lab) -> None:
    for _ in rounds(5):
        print(at_once(lab, PODS))
    assert not lab.get("networkendpoints")["items"]


def test_parts_that_are_killed_during_churn_leave_nothing(lab: Lab) -> None:
    chance = dice()
    for _ in rounds(5):
        kill_each(lab, chance, 8)


def test_a_minute_without_the_api_server_stops_no_packet(lab: Lab) -> None:
    packets_without_api_server(lab, dice(), AWAY)
