"""What holds while pods come and go and parts of the cluster die: the short form; the long one is
tests/soak/test_pods.py."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from node_agent.bench import pods
from node_agent.kernel import netns
from tests.lab import churn, cluster, mizar
from tests.lab.churn import PARTS, Churn, kill, settle
from tests.lab.cluster import Lab
from tests.lab.mizar import PATIENCE, addresses, pod, reaches, space
from tests.lab.network import until

pytestmark = pytest.mark.root

BURST = 15  # pods per node


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with mizar.made(__name__) as made:
        yield made


def test_pods_made_at_once_have_an_address_each_and_give_it_back_round_after_round(lab: Lab) -> None:
    for _ in range(2):
        print(at_once(lab, BURST))
    assert not lab.get("networkendpoints")["items"]


def at_once(lab: Lab, number: int) -> str:
    """So many pods per node; fails when two share an address, or one stays behind."""
    store = f"kubernetes:{lab.places.root / 'admin.kubeconfig'}"
    return netns.call_in(
        lab.places.netns_path(cluster.CONTROL), lambda: pods.measure(store, list(lab.nodes), number, cluster.IMAGE)
    )


def test_agents_plugins_runtimes_and_kubelets_that_are_killed_leave_no_address_and_no_interface(lab: Lab) -> None:
    chance = random.Random(5)
    with Churn(lab, chance) as pods_that_come_and_go:
        for part in (*PARTS, *PARTS):
            time.sleep(chance.uniform(0.2, 1.5))  # a moment of the churn like any other
            kill(lab, chance.choice(list(lab.nodes)), part)
    assert pods_that_come_and_go.made > len(PARTS)
    settle(lab)
    one, two = lab.nodes
    lab.apply(pod("anna", one), pod("bert", two))
    found = addresses(lab, "anna", "bert")
    assert reaches(space(lab, one, "anna"), space(lab, two, "bert"), found["bert"])
    settle(lab)


def test_without_the_api_server_packets_go_on_agents_say_so_and_all_heals(lab: Lab) -> None:
    one, two = lab.nodes
    lab.apply(pod("anna", one), pod("bert", two))
    found = addresses(lab, "anna", "bert")
    here, there = space(lab, one, "anna"), space(lab, two, "bert")
    with Churn(lab, random.Random(6)):
        with churn.without_api_server(lab):
            until(lambda: len(complaints(lab)) == len(lab.nodes), PATIENCE, "the agents' word that the store is away")
            for _ in range(20):
                assert reaches(here, there, found["bert"])
        until(lambda: not complaints(lab), PATIENCE, "the agents' word that all is well")
    assert reaches(here, there, found["bert"])
    settle(lab)


def complaints(lab: Lab) -> list[str]:
    """What agents say of the store."""
    return [problem for problem in churn.whole(lab) if "cannot reach" in problem]
