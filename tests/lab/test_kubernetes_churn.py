"""What holds while pods come and go and parts of the cluster die: the short form; the long one is
tests/soak/test_pods.py."""

from __future__ import annotations

import random

import pytest

from tests.lab import mizar
from tests.lab.churn import at_once, kill_each, packets_without_api_server, settle
from tests.lab.cluster import Lab
from tests.lab.mizar import addresses, pod, reaches, space

pytestmark = pytest.mark.root

BURST = 15  # pods per node


lab = mizar.fixture()


def test_pods_made_at_once_have_an_address_each_and_give_it_back_round_after_round(lab: Lab) -> None:
    for _ in range(2):
        print(at_once(lab, BURST))
    assert not lab.get("networkendpoints")["items"]


def test_agents_plugins_runtimes_and_kubelets_that_are_killed_leave_no_address_and_no_interface(lab: Lab) -> None:
    kill_each(lab, random.Random(5), 2)
    one, two = lab.nodes
    lab.apply(pod("anna", one), pod("bert", two))
    found = addresses(lab, "anna", "bert")
    assert reaches(space(lab, one, "anna"), space(lab, two, "bert"), found["bert"])
    settle(lab)


def test_without_the_api_server_packets_go_on_agents_say_so_and_all_heals(lab: Lab) -> None:
    packets_without_api_server(lab, random.Random(6), 0.0)
