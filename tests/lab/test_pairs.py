"""An endpoint's pair that is made in few words is the one that many words make, or there is none."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node_agent.agent.kernel import HostKernel
from node_agent.datapath import programs
from node_agent.datapath.programs import ENDPOINT_TC
from node_agent.kernel import commands, features, filters, links, netns, pairs
from node_agent.kernel.links import Links
from node_agent.kernel.pairs import Pair
from node_agent.model.config import AgentConfig
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces
from tests.lab import cluster

pytestmark = pytest.mark.root

NAME = "mz0123456789ab"


@pytest.fixture
def spaces(places: StackPlaces) -> Iterator[tuple[Path, Path]]:
    """A host and a pod."""
    made = places.netns_path("host"), places.netns_path("pod")
    for path in made:
        netns.create(path)
    yield made
    for path in made:
        netns.delete(path)


@pytest.fixture
def pair(spaces: tuple[Path, Path], places: StackPlaces) -> Iterator[Pair]:
    commands.run(["make", "-s", "-C", str(cluster.ROOT / "bpf")], 120.0)
    loaded = programs.ensure_loaded(cluster.ROOT / "bpf" / "build", places.host("host").pins)
    yield Pair(
        name=NAME,
        netns=spaces[1],
        peer="eth0",
        mac="02:00:00:00:00:09",
        address="10.0.0.9",
        mtu=1450,
        program=loaded[ENDPOINT_TC].fd,
        program_name=ENDPOINT_TC,
    )
    loaded.close()


def make(spaces: tuple[Path, Path], pair: Pair) -> int | None:
    with links.opened(spaces[0]) as net, links.opened(spaces[1]) as pod:
        return pairs.make(net, pod, pair)


def by_many_words(net: Links, pod: Links, pair: Pair) -> None:
    net.ensure_veth(pair.name, peer_netns=pair.netns, peer=pair.peer, mtu=pair.mtu, peer_mac=pair.mac)
    filters.attach(net, pair.name, "ingress", pair.program, pair.program_name)
    features.ensure(net, pair.name, features.GRO)
    features.ensure(pod, pair.peer, features.GRO)
    pod.ensure(pair.peer, up=True)
    pod.ensure_address(pair.peer, f"{pair.address}/32")
    pod.ensure_pod_routes(pair.peer)
    net.ensure(pair.name, up=True)


def state(spaces: tuple[Path, Path], pair: Pair) -> dict[str, Any]:
    """What another program than ours shows of the pair, without what differs between any two."""
    found: dict[str, Any] = {}
    for path, name in zip(spaces, (pair.name, pair.peer), strict=True):
        for what in (["address", "show", "dev", name], ["route", "show", "dev", name]):
            shown = json.loads(netns.run_in(path, ["ip", "-d", "-j", *what], 10.0).stdout)
            found[f"{name} {what[0]}"] = [plain(each) for each in shown]
        with links.opened(path) as net:
            found[f"{name} features"] = features.read(net, name)
            found[f"{name} program"] = getattr(filters.attached(net, name, "ingress"), "tag", None)
    return found


def plain(shown: dict[str, Any]) -> dict[str, Any]:
    random = ("ifindex", "link_index", "link_netnsid")
    # The host's end has a MAC of the kernel's choice.
    drop = (*random, "address") if shown.get("ifname") == NAME else random
    return {key: value for key, value in shown.items() if key not in drop}


def test_it_is_the_pair_that_many_words_make(spaces: tuple[Path, Path], pair: Pair) -> None:
    index = make(spaces, pair)
    made = state(spaces, pair)
    with links.opened(spaces[0]) as net, links.opened(spaces[1]) as pod:
        assert net.need(NAME).index == index
        net.delete(NAME)
        by_many_words(net, pod, pair)
    assert made == state(spaces, pair)
    assert made[f"{NAME} program"] and made["eth0 features"]["rx-gro"]


@pytest.mark.parametrize("taken", [NAME, "eth0"])
def test_where_a_name_is_taken_nothing_changes(spaces: tuple[Path, Path], pair: Pair, taken: str) -> None:
    where = spaces[0] if taken == NAME else spaces[1]
    netns.run_in(where, ["ip", "link", "add", taken, "type", "bridge"], 10.0)
    before = names(spaces)
    assert make(spaces, pair) is None
    assert names(spaces) == before


@pytest.mark.parametrize("wrong", [{"program": 99999}, {"mtu": 1}])
def test_what_cannot_be_made_whole_is_not_made(spaces: tuple[Path, Path], pair: Pair, wrong: dict[str, Any]) -> None:
    before = names(spaces)
    with pytest.raises(Permanent, match=f"add veth {NAME}"):
        make(spaces, replace(pair, **wrong))
    assert names(spaces) == before
    assert make(spaces, pair)


def test_a_program_that_somebody_attached_meanwhile_is_no_obstacle(spaces: tuple[Path, Path], pair: Pair) -> None:
    index = make(spaces, pair)
    assert index
    with links.opened(spaces[0]) as net:
        net.raw.changes(filters.first_messages(index, "ingress", pair.program, pair.program_name))
        assert filters.attached(net, NAME, "ingress")


def test_who_looks_after_all_pairs_leaves_one_alone_that_is_being_made(
    spaces: tuple[Path, Path], pair: Pair, places: StackPlaces
) -> None:
    config = AgentConfig(
        host="h", stack_id="s", address="198.18.0.11", uplink="uplink0", underlay_prefixes=(), store="", socket="/s",
        pins=str(places.host("host").pins), bpf_objects=str(cluster.ROOT / "bpf" / "build"),
    )  # fmt: skip
    kernel = HostKernel(config, spaces[0])
    kernel.load()
    for words in (["uplink0", "type", "bridge"], [NAME, "type", "veth", "peer", "name", "other"]):
        netns.run_in(spaces[0], ["ip", "link", "add", *words], 10.0)
    assert kernel.ensure_endpoint_programs() == []
    netns.run_in(spaces[0], ["ip", "link", "set", NAME, "up"], 10.0)
    assert kernel.ensure_endpoint_programs() == [f"{ENDPOINT_TC} attached to {NAME}"]
    assert kernel.ensure_endpoint_programs() == []
    assert kernel.uplink_mtu() == 1500


def test_a_pod_that_is_gone_is_said_to_be(spaces: tuple[Path, Path], pair: Pair, tmp_path: Path) -> None:
    with links.opened(spaces[0]) as net, pytest.raises(Permanent, match="open network namespace"):
        pairs.make(net, net, replace(pair, netns=tmp_path / "gone"))


def names(spaces: tuple[Path, Path]) -> list[list[str]]:
    found = []
    for path in spaces:
        with netns.enter(path):
            found.append(sorted(name for _, name in socket.if_nameindex()))
    return found
