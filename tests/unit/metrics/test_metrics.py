"""Figures: what they say, how they are written, and that asking for them hurts nobody."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from node_agent.cli.metrics import samples
from node_agent.cni.protocol import Reply, Request
from node_agent.metrics import exposition, server
from node_agent.metrics.agent import AgentFigures, requests
from node_agent.metrics.controller import ControllerFigures, Turns
from node_agent.metrics.figures import Figure, Metric
from node_agent.metrics.timings import BOUNDS, Timings
from node_agent.model.errors import MizarError
from node_agent.model.objects import (
    NetworkHost,
    NetworkHostSpec,
    NetworkHostStatus,
    SetMember,
    Vpc,
    VpcSpec,
    VpcStatus,
)
from node_agent.testing.maps import FakeMaps
from node_agent.testing.store import FakeStore

GAUGE = Figure("gauge", "mizar_x", "Told", ("vpc",), [(('b"l\\u\ne',), 2.0)])


def found(metrics: list[Metric]) -> dict[tuple[str, ...], float]:
    """Name and label values, in the order of the labels' names, -> number."""
    text = exposition.text(metrics).decode()
    return {(one["name"], *(v for _, v in sorted(one["labels"].items()))): one["value"] for one in samples(text)}


def test_figures_are_written_and_read_back_whatever_is_in_a_label() -> None:
    assert found([GAUGE])["mizar_x", 'b"l\\u\ne'] == 2.0
    counter = Figure("counter", "mizar_y", "Told", (), [((), 3.0)])
    assert found([counter])["mizar_y_total",] == 3.0


def test_requests_are_timed_by_verb_and_outcome() -> None:
    now = [0.0]
    timings = Timings(lambda: now[0])

    def handle(request: Request) -> Reply:
        now[0] += 0.03 if request.verb == "ADD" else 99.0
        if request.verb == "DEL":
            raise MizarError("no")
        return Reply(code=0 if request.verb == "ADD" else 7)

    timed = timings.timed(handle)
    for verb in ("ADD", "ADD", "CHECK"):
        timed(Request(verb=verb))  # type: ignore[arg-type]
    with pytest.raises(MizarError):
        timed(Request(verb="DEL"))
    told = requests("h1", timings.read())
    assert [which for which, _, _ in told.samples] == [
        ("h1", "ADD", "ok"), ("h1", "CHECK", "failed"), ("h1", "DEL", "failed"),
    ]  # fmt: skip
    adds = dict(told.samples[0][1])
    assert (adds["0.02"], adds["0.05"], adds["+Inf"]) == (0, 2, 2)
    assert dict(told.samples[1][1])[str(BOUNDS[-1])] == 0
    assert found([told])["mizar_request_seconds_sum", "h1", "ok", "ADD"] == pytest.approx(0.06)


def test_timings_lose_nothing_between_threads() -> None:
    timings = Timings()
    threads = [threading.Thread(target=lambda: [timings.add("ADD", "ok", 0.001) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert timings.read()["ADD", "ok"].counts[0] == 2000


def store() -> FakeStore:
    made = FakeStore()
    made.create(NetworkHost(name="h1", spec=NetworkHostSpec(address="198.18.0.11")))
    made.put_status(NetworkHost, "h1", NetworkHostStatus(heartbeat=90.0, ready=True, problems=("uplink: down",)))
    members = (SetMember(place=0, host="h1", address="198.18.0.11", state="joining"),)
    made.create(Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16"), status=VpcStatus(vni=1000, members=members)))
    return made


def test_the_controller_tells_of_hosts_sets_and_its_own_turns() -> None:
    now = [5.0]
    turns = Turns(lambda: False, lambda: now[0])
    assert turns() is False and turns() is False
    now[0] = 8.0
    told = found(ControllerFigures(store(), turns, wall=lambda: 100.0)())
    assert told["mizar_controller_turns_total",] == 2
    assert told["mizar_controller_turn_age_seconds",] == 3.0
    assert told["mizar_heartbeat_age_seconds", "h1"] == 10.0
    assert told["mizar_set_members", "joining", "blue"] == 1 and told["mizar_set_members", "active", "blue"] == 0
    assert told["mizar_objects", "Vpc"] == 1


def test_an_agent_without_a_store_still_tells_what_its_maps_hold(tmp_path: Path) -> None:
    maps, broken = FakeMaps(), store()
    figures = AgentFigures("h1", broken, tmp_path, maps, Timings(), wall=lambda: 100.0, monotonic=lambda: 0.0)
    figures._counted_at = 0.0  # counted just now: counting needs pinned maps, and is the lab's business
    assert found(figures())["mizar_agent_problems", "h1"] == 1
    broken.fail = [MizarError("gone")]
    told = found(figures())
    assert told["mizar_store_readable", "h1"] == 0 and ("mizar_agent_ready", "h1") not in told


def test_what_fails_is_said_once_and_answered() -> None:
    said: list[str] = []

    def broken() -> list[Metric]:
        raise MizarError("the maps are gone")

    asked = server.Server(Path("/none/metrics.sock"), broken, said.append)
    assert [asked.answer(), asked.answer()] == [(500, b"the maps are gone\n")] * 2
    assert said == ["collect figures: MizarError: the maps are gone"]


def test_a_path_that_cannot_be_used_stops_nobody(tmp_path: Path) -> None:
    said: list[str] = []
    asked = server.Server(tmp_path / ("x" * 120), lambda: [GAUGE], said.append)
    asked.start()
    asked.close()
    assert len(said) == 1 and "serve figures" in said[0]
