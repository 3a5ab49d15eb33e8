"""Programs on a bpffs of the test's own, run in a namespace of the test's own by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node_agent.kernel import links, mounts, netns
from node_agent.model.places import StackPlaces
from tests.datapath.host import Endpoint, Host
from tests.datapath.walk import Net

ROOT = Path(__file__).resolve().parents[2]
VNI, OTHER_VNI = 1000, 1001


@pytest.fixture(scope="session")
def objects() -> Path:
    """Folder of the compiled programs, as they are in the tree now."""
    subprocess.run(["make", "-s", "-C", str(ROOT / "bpf")], check=True)
    return ROOT / "bpf" / "build"


@pytest.fixture(scope="session")
def bpffs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("bpf")
    mounts.ensure_bpffs(folder)
    yield folder
    mounts.unmount(folder)


@pytest.fixture(scope="session")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Numbers of devices that exist in the namespace that the tests run in: a test run may name them as its device."""
    # Named as a stack's, so that what a killed run leaves is swept by the next (tests/conftest.py). Seven digits: six
    # could be taken for the end of the stack's id, and there is no folder to tell.
    path = StackPlaces(f"test-{os.getpid():07}-{0:06x}").netns_path("devices")
    netns.create(path)
    try:
        with netns.enter(path):
            with links.opened(path) as net:
                for i in range(6):
                    net.ensure_veth(f"v{i}", peer_netns=path, peer=f"w{i}", mtu=1450)
                found = [net.need(f"v{i}").index for i in range(6)]
            yield found
    finally:
        netns.delete(path)


@pytest.fixture(scope="session")
def host_pool(bpffs: Path) -> Iterator[dict[tuple[int, bool], Host]]:
    """Hosts outlive their test: loading and verifying the programs is what takes time."""
    pool: dict[tuple[int, bool], Host] = {}
    yield pool
    for one in pool.values():
        one.close()


@pytest.fixture
def host(bpffs: Path, objects: Path, ports: list[int], host_pool: dict[tuple[int, bool], Host]) -> Callable[..., Host]:
    """Makes host number n with empty maps."""

    def make(number: int, xdp: bool = True) -> Host:
        known = host_pool.get((number, xdp))
        if known is not None:
            known.reset()
            return known
        pins = bpffs / f"{number}-{'xdp' if xdp else 'tc'}"
        made = Host(f"host-{number}", f"198.18.0.{10 + number}", pins, objects, xdp)
        return host_pool.setdefault((number, xdp), made)

    return make


@pytest.fixture
def cast(ports: list[int]) -> dict[str, Endpoint]:
    """The named cast: anna and bert share subnet a, carl is in subnet b, eve has bert's address in another VPC."""

    def made(name: str, address: str, vni: int, tag: int, port: int) -> Endpoint:
        net = address.rsplit(".", 1)[0]
        return Endpoint(name, vni, address, f"{net}.0", f"{net}.1", tag, ports[port])

    return {
        e.name: e
        for e in (
            made("anna", "10.10.1.10", VNI, 0x0A01, 0),
            made("bert", "10.10.1.20", VNI, 0x0A02, 1),
            made("carl", "10.10.2.30", VNI, 0x0A03, 2),
            made("eve", "10.10.1.20", OTHER_VNI, 0x0A05, 3),
        )
    }


@pytest.fixture
def three_hosts(host: Callable[..., Host], cast: dict[str, Endpoint]) -> Net:
    """anna on host 1, bert on host 2, carl on host 3; all three are the VPC set and bounce both subnets."""
    return roles(
        host, cast, {"anna": 1, "bert": 2, "carl": 3}, [1, 2, 3], {"10.10.1.0": [1, 2, 3], "10.10.2.0": [1, 2, 3]}
    )


def roles(
    host: Callable[..., Host],
    cast: dict[str, Endpoint],
    homes: dict[str, int],
    members: list[int],
    bouncers: dict[str, list[int]],
    xdp: bool = True,
) -> Net:
    """A net with these endpoints on these hosts, this VPC set, and these bouncers per subnet (all by host number)."""
    hosts = {n: host(n, xdp) for n in sorted({*homes.values(), *members})}
    net = Net(list(hosts.values()))
    for name, number in homes.items():
        net.place(cast[name], hosts[number])
    addresses = [hosts[n].address for n in members]
    masks = {s: sum(1 << members.index(n) for n in numbers) for s, numbers in bouncers.items()}
    for number, h in hosts.items():
        h.vpc(VNI, addresses)
        for subnet, mask in masks.items():
            h.subnet(VNI, subnet, mask)
        if number not in members:
            continue
        for subnet, numbers in bouncers.items():
            h.route(VNI, subnet, 24)
            if number in numbers:
                for name, home in homes.items():
                    if cast[name].subnet == subnet:
                        h.knows(cast[name], hosts[home].address)
                h.serve(VNI, subnet)
        h.serve(VNI)
    return net
