"""Namespaces, links, features and filters on the real kernel."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from node_agent.emulation import cleanup
from node_agent.kernel import commands, features, filters, limits, links, mounts, netns
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces
from tests.lab.routes import routes

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def one(places: StackPlaces) -> Path:
    netns.create(places.netns_path("one"))
    return places.netns_path("one")


@pytest.fixture
def two(places: StackPlaces) -> Path:
    netns.create(places.netns_path("two"))
    return places.netns_path("two")


@pytest.fixture
def programs() -> Iterator[tuple[int, int]]:
    """Two loaded classifier programs: one lets packets pass, the other drops them."""
    fds = (load(0), load(2))
    yield fds
    for fd in fds:
        os.close(fd)


def load(verdict: int) -> int:
    """A program of two instructions: return `verdict`."""
    code = struct.pack("<BBhi", 0xB7, 0, 0, verdict) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    instructions, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    raw = struct.pack("<IIQQ", 3, 2, ctypes.addressof(instructions), ctypes.addressof(licence)) + bytes(96)
    attributes = ctypes.create_string_buffer(raw)
    fd: int = ctypes.CDLL(None, use_errno=True).syscall(321, 5, attributes, len(raw))
    assert fd >= 0, os.strerror(ctypes.get_errno())
    return fd


def test_a_namespace_is_made_once_and_deleted_twice(places: StackPlaces) -> None:
    path = places.netns_path("pod")
    made = netns.create(path)
    assert netns.create(path) == made == netns.identity(path)
    assert path in netns.listed(f"mizar-{places.id}-", path.parent)
    netns.delete(path)
    netns.delete(path)
    assert not netns.exists(path) and not path.exists()


def test_the_file_of_a_killed_create_is_adopted(places: StackPlaces) -> None:
    path = places.netns_path("pod")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert not netns.exists(path)
    assert netns.create(path) == netns.identity(path)


def test_a_new_namespace_has_loopback_and_no_ipv6(one: Path) -> None:
    with links.opened(one) as net:
        assert net.need("lo").up
        net.ensure_bridge("later")
    assert netns.sysctl(one, "net/ipv6/conf/later/disable_ipv6") == "1"


def test_entering_moves_the_calling_thread_only_and_comes_back(one: Path) -> None:
    own = netns.identity(netns.OWN)

    def inside() -> None:
        with pytest.raises(ZeroDivisionError), netns.enter(one):
            assert netns.identity(netns.OWN) == netns.identity(one)
            assert netns.identity(Path("/proc/self/ns/net")) == own  # the main thread's
            _ = 1 // 0
        assert netns.identity(netns.OWN) == own

    with ThreadPoolExecutor(1) as pool:
        pool.submit(inside).result()
    assert netns.identity(netns.OWN) == own
    assert netns.call_in(one, lambda: netns.identity(netns.OWN)) == netns.identity(one)
    reason = "open network namespace /run/netns/none: No such file"
    with pytest.raises(Permanent, match=reason), netns.enter(Path("/run/netns/none")):
        pass


def test_a_command_runs_inside_and_its_failure_says_all(one: Path) -> None:
    assert netns.run_in(one, ["ip", "-br", "link"], 5).stdout.startswith("lo ")
    with pytest.raises(commands.CommandError) as caught:
        netns.run_in(one, ["ip", "link", "show", "none"], 5)
    assert caught.value.argv[-1] == "none" and caught.value.code and "does not exist" in caught.value.stderr
    with pytest.raises(commands.CommandError, match=r"still running after 0\.1 s"):
        netns.run_in(one, ["sleep", "9"], 0.1)


def test_nothing_leaks(places: StackPlaces) -> None:
    def once(number: int) -> None:
        path = places.netns_path(f"pod{number}")
        netns.create(path)
        with links.opened(path) as net:
            net.ensure_bridge("b")
            features.read(net, "b")
        netns.delete(path)

    once(0)
    before = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for number in range(10):
        once(number)
    assert (len(list(Path("/proc/self/fd").iterdir())), threading.active_count()) == before


def test_a_pair_is_made_adopted_and_replaced(one: Path, two: Path) -> None:
    with links.opened(one) as net:
        made = net.ensure_veth("mz1", peer_netns=two, peer="eth0", mtu=1450, mac="02:00:00:00:00:01")
        assert (made.mtu, made.mac, made.up) == (1450, "02:00:00:00:00:01", False)
        again = net.ensure_veth("mz1", peer_netns=two, peer="eth0", mtu=1400)
        assert again.index == made.index and again.mtu == 1400
        # The peer's namespace is made anew under the same path: the old pair must go, even while it is still there.
        netns.delete(two)
        netns.create(two)
        assert net.ensure_veth("mz1", peer_netns=two, peer="eth0", mtu=1450).index != made.index
        with links.opened(two) as there:
            assert there.need("eth0").mtu == 1450
            there.delete("eth0")
            there.delete("eth0")
        assert net.get("mz1") is None


def test_a_strangers_link_in_the_way_is_replaced(one: Path, two: Path) -> None:
    with links.opened(one) as net, links.opened(two) as there:
        net.ensure_bridge("mz1")
        there.ensure_bridge("eth0")
        assert net.ensure_veth("mz1", peer_netns=two, peer="eth0", mtu=1450).kind == "veth"
        assert there.need("eth0").kind == "veth"


def test_a_pods_addressing(one: Path, two: Path) -> None:
    with links.opened(one) as net, links.opened(two) as pod:
        net.ensure_veth("mz1", peer_netns=two, peer="eth0", mtu=1450)
        net.ensure("mz1", up=True)
        pod.ensure("eth0", up=True)
        for _ in range(2):
            pod.ensure_address("eth0", "10.0.0.5/32")
            pod.ensure_pod_routes("eth0")
        assert pod.addresses("eth0") == ("10.0.0.5/32",)
        assert routes(two) == ["169.254.1.1 proto static scope link", "default via 169.254.1.1 proto static onlink"]
        pod.ensure_address("eth0", "10.0.0.6/32")
        assert pod.addresses("eth0") == ("10.0.0.6/32",)
    shown = netns.run_in(two, ["ip", "route"], 5).stdout
    assert "default via 169.254.1.1 dev eth0" in shown and "onlink" in shown
    assert "169.254.1.1 dev eth0" in shown and "scope link" in shown


def test_the_address_is_the_only_one_also_within_one_prefix(one: Path) -> None:
    with links.opened(one) as net:
        net.ensure_bridge("b")
        for address in ("10.0.0.7/24", "10.0.0.8/24", "10.0.0.9/24", "10.0.0.8/32"):
            net.ensure_address("b", address)
            assert net.addresses("b") == (address,)


def test_absent_and_impossible_links_are_named(one: Path, two: Path) -> None:
    with links.opened(one) as net:
        assert net.get("none") is None and net.index("none") is None
        with pytest.raises(Permanent, match=r"find link none in .*: no such interface"):
            net.ensure("none", up=True)
        with pytest.raises(Permanent, match="a-name-that-is-too-long"):
            net.ensure_veth("a-name-that-is-too-long", peer_netns=two, peer="eth0", mtu=1450)


def test_features_follow_or_are_named(one: Path, two: Path) -> None:
    with links.opened(one) as net:
        net.ensure_veth("mz1", peer_netns=two, peer="eth0", mtu=1450)
        assert features.read(net, "mz1")[features.TX_UDP_SEGMENTATION]
        for _ in range(2):
            features.ensure(net, "mz1", {**features.UPLINK, **features.GRO})
        active = features.read(net, "mz1")
        assert not any(active[name] for name in features.UPLINK) and active["rx-gro"]
        with pytest.raises(Permanent, match="no-such-feature stays off, rx-lro stays off"):
            features.ensure(net, "mz1", {"rx-lro": True, "no-such-feature": True})
        with pytest.raises(Permanent, match="count features of none: no such interface"):
            features.read(net, "none")
    shown = netns.run_in(one, ["ethtool", "-k", "mz1"], 5, check=False).stdout
    assert not shown or "tx-udp-segmentation: off" in shown


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_filter_is_replaced_in_place(one: Path, programs: tuple[int, int], direction: filters.Direction) -> None:
    with links.opened(one) as net:
        net.ensure_bridge("b")
        assert filters.attached(net, "b", direction) is None
        filters.detach(net, "b", direction)
        first = filters.attach(net, "b", direction, programs[0], "first")
        assert first.name == "first" and first.id and len(first.tag) == 16
        second = filters.attach(net, "b", direction, programs[1], "second")
        assert second.id != first.id and filters.attached(net, "b", direction) == second
        shown = netns.run_in(one, ["tc", "filter", "show", "dev", "b", direction], 5).stdout
        assert shown.count("handle 0x1") == 1 and "direct-action" in shown
        filters.detach(net, "b", direction)
        assert filters.attached(net, "b", direction) is None
        assert filters.attached(net, "none", direction) is None
        with pytest.raises(Permanent, match=f"attach third to {direction} of b: "):
            filters.attach(net, "b", direction, 999, "third")


def test_a_bpffs_is_mounted_once(places: StackPlaces) -> None:
    mounts.ensure_bpffs(places.bpffs)
    assert [mount.type for mount in mounts.below(places.root)] == ["bpf"]
    mounts.unmount(places.bpffs)
    mounts.unmount(places.bpffs)
    assert mounts.below(places.root) == ()
    cleanup.remove(places.id)


def test_too_few_inotify_instances_are_said_before_a_daemon_meets_it() -> None:
    """As a user of its own, who has none: what others have does not count."""
    allowed = int(limits.INOTIFY.read_text())
    program = (
        "import ctypes, os; from node_agent.kernel import limits; os.setuid(54321); limits.need_inotify(12);"
        f"held = [ctypes.CDLL(None).inotify_init1(0) for _ in range({allowed} - 5)]; limits.need_inotify(12)"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert f"fs.inotify.max_user_instances: {allowed}, of which 5 are free, and 12 are needed" in told.stderr
