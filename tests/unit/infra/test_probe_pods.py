"""Which pods the health gate of a cluster makes."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

from infra.render.probe_pods import Network, ProbePod, Shared, choose, pod
from node_agent.health.pairs import Endpoint
from node_agent.health.pairs import choose as pairs_of

NODES = ("control-1", "host-1", "host-2")
BLUE = [Network(vpc="blue", subnet=f"blue-{letter}") for letter in "abc"]
RED = [Network(vpc="red", subnet="red-a")]


def endpoints(pods: tuple[ProbePod, ...]) -> list[Endpoint]:
    return [
        Endpoint(vpc=one.vpc, subnet=one.subnet, name=one.name, address=f"10.0.0.{n}", host=one.node, place=one.name)
        for n, one in enumerate(pods)
    ]


def test_every_vpc_is_on_every_node_and_every_subnet_on_one() -> None:
    pods = choose(NODES, BLUE + RED)
    for vpc in ("blue", "red"):
        assert {one.node for one in pods if one.vpc == vpc} == set(NODES)
    assert {(one.vpc, one.subnet) for one in pods} == {(one.vpc, one.subnet) for one in BLUE + RED}
    assert len(pods) == (3 + 2) + 3
    assert len({one.name for one in pods}) == len(pods)


def test_any_two_nodes_are_probed_both_ways_within_a_subnet_and_others_between() -> None:
    found = {(p.source.host, p.target.host, p.relation) for p in pairs_of(endpoints(choose(NODES, BLUE)))}
    for source, target in permutations(NODES, 2):
        assert (source, target, "same subnet") in found
    assert {relation for _, _, relation in found} == {"same subnet", "other subnet", "same host"}


def test_further_subnets_are_spread() -> None:
    extra = Counter(one.node for one in choose(NODES, BLUE) if one.subnet != "blue-a")
    assert max(extra.values()) == 1


def test_a_large_cluster_is_sampled_and_every_node_gets_a_turn() -> None:
    nodes = [f"n{number}" for number in range(40)]
    networks = [Network(vpc=f"v{number}", subnet=f"v{number}-a") for number in range(40)]
    pods = choose(nodes, networks, most=80)
    assert len(pods) == 80 and {one.node for one in pods} == set(nodes)
    assert set(Counter(one.vpc for one in pods).values()) == {2}


def test_no_network_and_no_node_is_no_pod() -> None:
    assert choose(NODES, []) == choose([], BLUE) == ()


def test_a_probe_pod_has_no_capability_and_ends_by_itself() -> None:
    made = pod(choose(NODES, RED)[0], Shared(namespace="mizar-health-x", image="i@sha256:1", seconds=150))
    assert made["spec"]["activeDeadlineSeconds"] == 150
    assert made["spec"]["securityContext"]["runAsNonRoot"]
    [container] = made["spec"]["containers"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not made["spec"]["automountServiceAccountToken"]
