"""Pinned maps and programs on the real kernel: batches, absent keys, wrong shapes, adoption, modes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from node_agent.datapath import elements, libbpf, programs, ticks
from node_agent.datapath.layout import MAPS, Config, FlowKey, NatEntry, RouteKey, RouteRow
from node_agent.datapath.library import BpfError
from node_agent.datapath.maps import HostMaps
from node_agent.kernel import links, netns
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def objects() -> Path:
    subprocess.run(["make", "-s", "-C", str(ROOT / "bpf")], check=True)
    return ROOT / "bpf" / "build"


@pytest.fixture
def loaded(places: StackPlaces, objects: Path) -> Iterator[tuple[programs.ProgramSet, HostMaps, Path]]:
    pins = places.host("h").pins
    found = programs.ensure_loaded(objects, pins)
    with HostMaps(pins / "maps") as maps:
        yield found, maps, pins
    found.close()


@pytest.mark.parametrize("name", sorted(set(MAPS) - {"flows", "nats", "counters", "drops", "config", "routes"}))
def test_rows_go_in_and_out_in_batches(loaded: tuple[object, HostMaps, Path], name: str) -> None:
    maps, spec = loaded[1], MAPS[name]
    rows = {
        i.to_bytes(spec.key_size, "little"): (i % 256).to_bytes(spec.value_size, "little")
        for i in range(1, min(10_000, spec.max_entries // 2))
    }
    maps.put(name, rows)
    assert maps.read(name) == rows
    half = list(rows)[::2]
    maps.delete(name, [*half, b"\xff" * spec.key_size, *half])
    assert maps.read(name) == {key: value for key, value in rows.items() if key not in set(half)}
    maps.delete(name, rows)
    assert maps.read(name) == {}


def opened(maps: HostMaps, name: str) -> dict[int, int]:
    """Slot -> descriptor of its inner map, which the process holds until it ends."""
    ids = {int.from_bytes(slot, "little"): int.from_bytes(id_, "little") for slot, id_ in maps.read(name).items()}
    found = {slot: libbpf.map_by_id(id_) for slot, id_ in ids.items()}
    return {slot: fd for slot, fd in found.items() if fd is not None}


def test_prefixes_arrays_and_flow_tables(loaded: tuple[object, HostMaps, Path]) -> None:
    maps = loaded[1]
    keys = [RouteKey(prefixlen=128 + i, vni=7, addr=bytes(12) + bytes([10, i, 0, 0])).pack() for i in range(20)]
    routes = {key: RouteRow(subnet=i).pack() for i, key in enumerate(keys)}
    maps.put("routes", routes)
    assert maps.read("routes") == routes
    maps.delete("routes", [*routes, *routes])
    assert maps.read("routes") == {}
    maps.put("config", {bytes(4): Config(self=5).pack()})
    assert maps.read("config") == {bytes(4): Config(self=5).pack()}
    assert maps.ensure_flow_tables({1: 4096, 9: 256}) == {1, 9}
    assert maps.ensure_flow_tables({9: 512}) == {9}
    assert maps.ensure_flow_tables({1: 4096, 9: 512}) == set()
    assert maps.flow_tables() == {1: 4096, 9: 512}
    assert {slot: libbpf.map_info(fd).max_entries for slot, fd in opened(maps, "nats").items()} == {
        1: max(1024, maps.least),
        9: max(256, maps.least),
    }
    assert (maps.read_flows(1), maps.read_flows(5), maps.find_flow(9, bytes(44))) == ({}, {}, None)
    entries = {FlowKey(vni=7, sport=i).pack(): NatEntry(dport=i).pack() for i in range(100)}
    for key, value in entries.items():
        elements.update(opened(maps, "nats")[9], key, value)
    assert (maps.read_nats(9), maps.read_nats(1), maps.read_nats(5)) == (entries, {}, {})
    maps.delete_nats(9, [*list(entries)[:50], bytes(44)])
    assert maps.read_nats(9) == dict(list(entries.items())[50:])
    maps.delete("nats", [(1).to_bytes(4, "little")])
    assert maps.ensure_flow_tables({1: 4096}) == {1}
    maps.drop_flow_tables([1, 2, 9])
    assert (maps.flow_tables(), maps.read("nats")) == ({}, {})
    assert maps.drops() == {}
    assert set(maps.counters().values()) == {0}


def test_a_map_of_another_shape_and_rows_of_another_size_are_refused(loaded: tuple[object, HostMaps, Path]) -> None:
    _, maps, pins = loaded
    with pytest.raises(Permanent, match=r"use map vpcs: 1 bytes \(78\) instead of 4"):
        maps.put("vpcs", {b"x": b""})
    (pins / "maps" / "serving").unlink()
    fd = libbpf.create_map(1, "serving", 8, 12, 16)
    libbpf.pin(fd, pins / "maps" / "serving")
    os.close(fd)
    with HostMaps(pins / "maps") as fresh, pytest.raises(Permanent, match="value size 12 instead of 4"):
        fresh.read("serving")
    (pins / "maps" / "serving").unlink()
    with HostMaps(pins / "maps") as fresh, pytest.raises(Permanent, match="nothing is pinned"):
        fresh.read("serving")


def test_a_full_map_says_so(loaded: tuple[object, HostMaps, Path]) -> None:
    maps, spec = loaded[1], MAPS["vpcs"]
    with pytest.raises(BpfError, match="rows of vpcs"):
        maps.put("vpcs", {i.to_bytes(4, "little"): bytes(spec.value_size) for i in range(spec.max_entries + 2)})


def test_programs_are_adopted_unless_the_maps_are_others(
    loaded: tuple[programs.ProgramSet, HostMaps, Path], objects: Path
) -> None:
    found, _, pins = loaded
    again = programs.ensure_loaded(objects, pins)
    assert {n: p.id for n, p in again.programs.items()} == {n: p.id for n, p in found.programs.items()}
    (pins / "maps" / "vpcs").unlink()
    other = programs.ensure_loaded(objects, pins)
    assert not {p.id for p in other.programs.values()} & {p.id for p in found.programs.values()}
    again.close()
    other.close()


def test_errors_carry_what_libbpf_said(tmp_path: Path) -> None:
    wrong = tmp_path / "x.bpf.o"
    wrong.write_bytes(b"not ELF")
    with pytest.raises(BpfError, match="not a proper ELF object"):
        libbpf.load(wrong)
    with pytest.raises(BpfError, match="No such file"):
        programs.digest(tmp_path)


def test_xdp_changes_in_place_and_follows_the_mode(
    loaded: tuple[programs.ProgramSet, HostMaps, Path], objects: Path, places: StackPlaces
) -> None:
    found, _, pins = loaded
    path = places.netns_path("h")
    netns.create(path)
    with netns.enter(path), links.opened(path) as net:
        net.ensure_veth("a", peer_netns=path, peer="b", mtu=1500)
        index = net.need("a").index
        xdp = found[programs.TRANSIT_XDP]

        def ensure(mode: str, program: programs.Program = xdp) -> tuple[bool, tuple[str, int] | None]:
            changed = programs.ensure_xdp(pins / "links", program, index, mode)  # type: ignore[arg-type]
            state = programs.xdp_state(index)
            return changed, (state.mode, state.id) if state else None

        assert ensure("generic") == (True, ("generic", xdp.id))
        assert ensure("generic") == (False, ("generic", xdp.id))
        for pin in (pins / "progs" / found.digest).iterdir():
            pin.unlink()
        new = programs.ensure_loaded(objects, pins)
        assert ensure("generic", new[programs.TRANSIT_XDP]) == (True, ("generic", new[programs.TRANSIT_XDP].id))
        assert ensure("native") == (True, ("native", xdp.id))
        assert ensure("tc") == (True, None)
        assert ensure("tc") == (False, None)
        new.close()


def test_a_tick_is_what_the_programs_count(objects: Path) -> None:
    assert ticks.verified(objects / "clock.bpf.o").hz == ticks.coarse_hz()
