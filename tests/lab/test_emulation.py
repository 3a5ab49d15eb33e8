"""Fabric, hosts and stack folders on the real kernel."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from node_agent.emulation import cleanup, endpoints, fabric, hosts, stack
from node_agent.emulation.hosts import Spec
from node_agent.health import probes
from node_agent.health.answers import Request
from node_agent.kernel import features, links, netns
from node_agent.model.errors import Permanent
from node_agent.model.places import NETNS, RUN, StackPlaces
from tests import probing

pytestmark = pytest.mark.root

NAMES = ("host-1", "host-2", "host-3")


def address(number: int) -> str:
    return f"198.18.0.{10 + number}"


def make_hosts(places: StackPlaces) -> None:
    fabric.make(places)
    for number, name in enumerate(NAMES):
        hosts.make(places, Spec(name=name, address=f"{address(number)}/24"))


def unanswered(places: StackPlaces) -> list[str]:
    """Pairs of hosts that cannot ping each other over the underlay."""
    pairs = [(source, target) for source in NAMES for target in range(len(NAMES))]
    answers = probes.run(
        [
            Request(protocol="icmp", source=str(places.netns_path(source)), address=address(target), timeout=2)
            for source, target in pairs
        ]
    )
    return [f"{pair}: {answer.reason}" for pair, answer in zip(pairs, answers, strict=True) if answer.reason]


def test_hosts_reach_each_other_over_the_fabric(places: StackPlaces) -> None:
    began = time.perf_counter()
    fabric.make(places)
    made = time.perf_counter()
    for number, name in enumerate(NAMES):
        hosts.make(places, Spec(name=name, address=f"{address(number)}/24"))
    done = time.perf_counter()
    print(f"\nfabric {(made - began) * 1e3:.1f} ms, one host {(done - made) * 1e3 / len(NAMES):.1f} ms")
    assert unanswered(places) == []
    seen = fabric.inspect(places)
    assert seen is not None and seen.up and seen.ports == ("p-host-1", "p-host-2", "p-host-3")


def test_a_host_is_what_was_asked_for(places: StackPlaces) -> None:
    fabric.make(places)
    made = hosts.make(places, Spec(name="host-1", address="198.18.0.11/24", mtu=1400))
    assert made == hosts.inspect(places, "host-1")
    assert (made.address, made.mtu, made.problems) == ("198.18.0.11/24", 1400, ())
    with links.opened(places.netns_path("host-1")) as net:
        active = features.read(net, "uplink0")
        assert [name for name in features.UPLINK if active.get(name)] == []
        assert net.addresses("mzgro0") == ()
        assert net.need("mzgro0").up
    assert netns.sysctl(places.netns_path("host-1"), "net/ipv6/conf/all/disable_ipv6") == "1"


def test_making_again_changes_nothing(places: StackPlaces) -> None:
    make_hosts(places)
    before = [hosts.inspect(places, name) for name in NAMES]
    make_hosts(places)
    assert [hosts.inspect(places, name) for name in NAMES] == before


@pytest.mark.parametrize(
    "damage",
    ["uplink gone", "uplink down", "offload on", "unplugged", "gro device gone", "fabric gone", "forwarding on"],
)
def test_damage_is_seen_and_repaired(places: StackPlaces, damage: str) -> None:
    make_hosts(places)
    with (
        links.opened(places.netns_path("host-2")) as net,
        links.opened(places.netns_path(fabric.NAME)) as underlay,
    ):
        match damage:
            case "uplink gone":
                net.delete("uplink0")
            case "uplink down":
                net.ensure("uplink0", up=False)
            case "offload on":
                features.ensure(net, "uplink0", {features.TX_UDP_SEGMENTATION: True})
            case "unplugged":
                underlay.ensure("p-host-2", master="")
            case "gro device gone":
                net.delete("mzgro0")
            case "fabric gone":
                fabric.remove(places)
            case "forwarding on":
                netns.set_sysctl(places.netns_path("host-2"), "net/ipv4/ip_forward", "1")
    seen = hosts.inspect(places, "host-2")
    assert seen is not None and seen.problems
    make_hosts(places)
    assert unanswered(places) == []


def test_a_removed_host_can_be_made_again_at_once(places: StackPlaces) -> None:
    make_hosts(places)
    for _ in range(5):
        hosts.remove(places, "host-2")
        assert hosts.inspect(places, "host-2") is None
        hosts.remove(places, "host-2")
        hosts.make(places, Spec(name="host-2", address=f"{address(1)}/24"))
        # Its MAC address is the old one, so its neighbours need not forget anything first.
        assert unanswered(places) == []


def test_a_host_without_fabric_is_refused(places: StackPlaces) -> None:
    with pytest.raises(Permanent, match="make host host-1: the stack has no fabric"):
        hosts.make(places, Spec(name="host-1", address="198.18.0.11/24"))
    assert hosts.inspect(places, "host-1") is None


def test_a_long_host_name_fits(places: StackPlaces) -> None:
    fabric.make(places)
    name = "a-host-with-a-name-of-many-words"
    assert hosts.make(places, Spec(name=name, address="198.18.0.11/24")).problems == ()


def test_two_stacks_with_the_same_addresses_do_not_meet(new_stack: Callable[[], StackPlaces]) -> None:
    one, two = new_stack(), new_stack()
    fabric.make(one)
    fabric.make(two)
    hosts.make(one, Spec(name="host-1", address="198.18.0.11/24"))
    hosts.make(two, Spec(name="host-1", address="198.18.0.11/24"))
    hosts.make(two, Spec(name="host-2", address="198.18.0.12/24"))
    assert probing.ping(two.netns_path("host-1"), "198.18.0.12").answered
    assert not probing.ping(one.netns_path("host-1"), "198.18.0.12", timeout=0.5).answered
    cleanup.remove(one.id)
    assert probing.ping(two.netns_path("host-1"), "198.18.0.12").answered


def test_nothing_of_a_stack_is_in_the_own_namespace(places: StackPlaces) -> None:
    with links.opened() as net:
        before = net.all()
        make_hosts(places)
        assert net.all() == before


def test_the_stack_folder_is_private_and_repaired(places: StackPlaces) -> None:
    seen = stack.inspect(places)
    assert seen is not None and seen.whole
    places.root.chmod(0o755)
    seen = stack.inspect(places)
    assert seen is not None and not seen.whole
    assert stack.make(places).whole
    stack.remove(places)
    stack.remove(places)
    assert stack.inspect(places) is None


def test_cleanup_leaves_nothing(places: StackPlaces, capsys: pytest.CaptureFixture[str]) -> None:
    make_hosts(places)
    endpoints.make(places, "web")
    endpoints.start_workload(places, "web", vpc="a", address="10.0.0.2")
    assert places.id in cleanup.ids()
    assert cleanup.main([places.id]) == 0
    assert "removed 2 processes, 5 namespaces" in capsys.readouterr().out
    assert not cleanup.leftovers(places.id)
    assert places.id not in cleanup.ids()
    assert not places.root.exists()
    assert netns.listed(f"mizar-{places.id}-", NETNS) == ()
    assert cleanup.main([places.id]) == 0
    assert "nothing left" in capsys.readouterr().out
    assert places.id not in processes_and_mounts()


def test_cleanup_finds_a_stack_whose_folder_is_gone(places: StackPlaces) -> None:
    fabric.make(places)
    stack.remove(places)
    assert places.id in cleanup.ids()
    cleanup.remove(places.id)
    assert places.id not in cleanup.ids()


def test_cleanup_spares_a_stack_whose_id_begins_alike(places: StackPlaces) -> None:
    longer = StackPlaces(f"{places.id}-00ff00")
    try:
        stack.make(longer)
        fabric.make(longer)
        fabric.make(places)
        cleanup.remove(places.id)
        assert fabric.inspect(longer) is not None
    finally:
        cleanup.remove(longer.id)


def test_cleanup_refuses_an_impossible_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert cleanup.main(["../../etc"]) == 2
    assert "no stack id" in capsys.readouterr().err


def test_the_last_stack_takes_the_common_folder_along(places: StackPlaces) -> None:
    cleanup.remove(places.id)
    # Other stacks of this machine keep it, and may come and go meanwhile.
    assert not RUN.exists() or any(RUN.iterdir())


def processes_and_mounts() -> str:
    """Every process' command line, and every mount, as one text."""
    lines = [Path("/proc/self/mountinfo").read_text()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines.append((entry / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return "\n".join(lines)
