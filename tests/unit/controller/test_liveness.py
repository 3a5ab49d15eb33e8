from __future__ import annotations

import pytest

from node_agent.controller.liveness import Host, Pulse, feel, frozen, view
from node_agent.model.config import ControllerConfig
from node_agent.model.objects import Meta, NetworkHost, NetworkHostSpec, NetworkHostStatus

CONFIG = ControllerConfig(stack_id="s", store="x", dead_after=30, hold_down=300)


def host(heartbeat: float, uid: str = "u", ready: bool = True, drain: bool = False) -> dict[str, NetworkHost]:
    return {
        "h": NetworkHost(
            name="h",
            spec=NetworkHostSpec(address="198.18.0.11", drain=drain),
            meta=Meta(uid=uid),
            status=NetworkHostStatus(heartbeat=heartbeat, ready=ready),
        )
    }


def pulse(beat_at: float = 1000, heartbeat: float = 1000, **more: object) -> dict[str, Pulse]:
    return {"h": Pulse(uid="u", heartbeat=heartbeat, beat_at=beat_at, **more)}  # type: ignore[arg-type]


def test_dead_after_30_s_without_a_new_heartbeat_by_our_clock() -> None:
    assert not feel(pulse(), host(1000), 1030, CONFIG)["h"].dead
    assert feel(pulse(), host(1000), 1030.1, CONFIG)["h"].dead


@pytest.mark.parametrize("stamp", [1.0, 5000.0])
def test_a_heartbeat_counts_by_changing_whatever_its_clock_says(stamp: float) -> None:
    felt = feel(pulse(), host(stamp), 1025, CONFIG)
    assert (felt["h"].beat_at, felt["h"].dead) == (1025, False)


@pytest.mark.parametrize(("stamp", "beat_at"), [(990.0, 990), (5000.0, 1000), (1.0, 976), (0.0, 1000)])
def test_first_sight(stamp: float, beat_at: float) -> None:
    assert feel({}, host(stamp), 1000, CONFIG)["h"] == Pulse(uid="u", heartbeat=stamp, beat_at=beat_at)


def test_a_stale_host_at_first_sight_is_given_nothing_yet() -> None:
    felt = feel({}, host(1), 1000, CONFIG)
    assert (view(host(1), felt, 1000, CONFIG)["h"].alive, view(host(1), felt, 1000, CONFIG)["h"].eligible) == (1, 0)


def test_a_host_that_never_beat_is_neither_dead_nor_eligible() -> None:
    felt = feel({}, host(0), 1000, CONFIG)
    felt = feel(felt, host(0), 9000, CONFIG)
    seen = view(host(0), felt, 9000, CONFIG)["h"]
    assert (felt["h"].dead, seen.alive, seen.eligible, frozen(felt, {"h": seen})) == (False, True, False, False)


def test_hold_down_counts_from_the_return() -> None:
    felt = feel(pulse(dead=True), host(2000), 2000, CONFIG)
    assert (felt["h"].dead, felt["h"].returned_at) == (False, 2000)
    for now, eligible in ((2001, False), (2299, False), (2300, True)):
        felt = feel(felt, host(now), now, CONFIG)
        assert view(host(now), felt, now, CONFIG)["h"].eligible == eligible
        assert view(host(now), felt, now, CONFIG)["h"].alive


def test_another_uid_is_another_host() -> None:
    felt = feel(pulse(dead=True), host(2000, uid="v"), 2000, CONFIG)
    assert view(host(2000, uid="v"), felt, 2000, CONFIG)["h"].eligible


@pytest.mark.parametrize(("what", "eligible"), [({}, True), ({"ready": False}, False), ({"drain": True}, False)])
def test_eligible(what: dict[str, bool], eligible: bool) -> None:
    assert view(host(1000, **what), pulse(), 1000, CONFIG)["h"].eligible == eligible  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dead", "hosts", "expected"),
    [(0, 1, False), (1, 3, False), (2, 5, True), (2, 6, False), (3, 7, True), (1, 2, True), (0, 0, False)],
)
def test_frozen(dead: int, hosts: int, expected: bool) -> None:
    pulses = {str(n): Pulse(uid="u", heartbeat=1, beat_at=1, dead=n < dead) for n in range(hosts)}
    unborn = {f"new-{n}": Pulse(uid="u", heartbeat=0, beat_at=1) for n in range(9)}
    seen = {name: Host(name=name, address="198.18.0.11") for name in pulses | unborn}
    assert frozen(pulses | unborn, seen) == expected


def test_the_silence_of_drained_hosts_freezes_nothing() -> None:
    pulses = {str(n): Pulse(uid="u", heartbeat=1, beat_at=1, dead=n < 2) for n in range(4)}
    seen = {name: Host(name=name, address="198.18.0.11", drain=name < "2") for name in pulses}
    assert not frozen(pulses, seen)


def test_removed_hosts_are_forgotten() -> None:
    assert feel(pulse(), {}, 1000, CONFIG) == {}
