"""Questions that packets do not wait for: revalidation, dead bouncers and their probes, budgets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.inet import IP, TCP, UDP

from node_agent.datapath.layout import (
    Action,
    AskedEntry,
    AskedState,
    BouncerKey,
    BouncerState,
    DropReason,
    FlowFlag,
    FlowKey,
    WireType,
)
from tests.datapath.conftest import VNI, roles
from tests.datapath.host import HZ, Endpoint, Host, ip_int, mapped
from tests.datapath.test_trust import message
from tests.datapath.walk import TC_REDIRECT, TC_SHOT, Net
from tests.waiting import until

pytestmark = pytest.mark.root
Q, V, D, N = WireType.QUERY, WireType.VERDICT, WireType.DATA, WireType.NOT_HERE
REVALIDATE, PROBE = 0x6D7A0100, 0x6D7A0200
ONE, TWO, THREE, FOUR = (f"198.18.0.{n}" for n in (11, 12, 13, 14))


def packet(sport: int = 4000, size: int = 8) -> IP:
    return IP(src="10.10.1.10", dst="10.10.1.20") / UDP(sport=sport, dport=53) / (b"x" * size)


def key(sport: int = 4000) -> FlowKey:
    return FlowKey(vni=VNI, src=mapped("10.10.1.10"), dst=mapped("10.10.1.20"), sport=sport, dport=53, proto=17)


@pytest.fixture
def net(host: Callable[..., Host], cast: dict[str, Endpoint]) -> Net:
    return roles(host, cast, {"anna": 1, "bert": 2}, [3], {"10.10.1.0": [3]})


@pytest.fixture
def pair(host: Callable[..., Host], cast: dict[str, Endpoint]) -> Net:
    """Two bouncers: hosts 3 and 4."""
    return roles(host, cast, {"anna": 1, "bert": 2}, [3, 4], {"10.10.1.0": [3, 4]})


def test_fresh_entry_asks_nothing(net: Net) -> None:
    for _ in range(5):
        net.walk("anna", packet())
    assert "REVALIDATIONS" not in net.hosts[ONE].events()
    assert net.hosts[ONE].flows(VNI)[key()].asked == 0


def test_entry_past_its_freshness_is_asked_about_once_and_goes_on_meanwhile(net: Net) -> None:
    net.walk("anna", packet())
    one = net.hosts[ONE]
    aged(one)
    for _ in range(5):
        assert net.walk("anna", packet()).wire == [("host-1", D)]
    assert one.flows(VNI)[key()].asked != 0
    assert one.flows(VNI)[key()].unanswered == 0


def aged(host: Host) -> None:
    """Every entry is past its freshness: as if it had been confirmed long ago."""
    host.put_flows(
        VNI, {k: replace(e, confirmed=(e.confirmed - 100 * HZ) & 0xFFFFFFFF) for k, e in host.flows(VNI).items()}
    )


@pytest.mark.parametrize(
    "payload",
    [
        packet(size=900),
        IP(src="10.10.1.10", dst="10.10.1.20") / TCP(sport=4000, dport=53, options=[("NOP", None)] * 4) / (b"y" * 900),
    ],
    ids=["udp", "tcp"],
)
def test_revalidation_confirms_and_carries_headers_only(net: Net, payload: IP) -> None:
    net.walk("anna", payload)
    one = net.hosts[ONE]
    aged(one)
    net.walk("anna", payload)
    asked = one.run("endpoint_tc", net.frame("anna", payload), net.endpoints["anna"][1].port, REVALIDATE)
    assert len(asked.data) == 14 + 50 + 20 + 20
    walk = net.walk("anna", payload, REVALIDATE)
    assert [t for _, t in walk.wire] == [Q, V] and walk.delivered == "" and walk.dropped is None
    entry = next(iter(one.flows(VNI).values()))
    assert entry.asked == 0
    assert net.walk("anna", payload).wire == [("host-1", D)]
    assert next(iter(one.flows(VNI).values())).asked == 0


def test_revalidation_taken_on_the_asking_host_itself(host: Callable[..., Host], cast: dict[str, Endpoint]) -> None:
    net = roles(host, cast, {"anna": 1, "bert": 2}, [1], {"10.10.1.0": [1]})
    net.walk("anna", packet())
    aged(net.hosts[ONE])
    walk = net.walk("anna", packet(), REVALIDATE)
    assert walk.wire == [] and walk.hops[0].code == TC_SHOT and walk.dropped is None
    assert net.walk("anna", packet()).wire == [("host-1", D)]
    assert net.hosts[ONE].flows(VNI)[key()].asked == 0


def test_revalidation_follows_a_moved_endpoint(net: Net, host: Callable[..., Host], cast: dict[str, Endpoint]) -> None:
    net.walk("anna", packet())
    aged(net.hosts[ONE])
    net.hosts[THREE].knows(cast["bert"], FOUR)
    net.walk("anna", packet(), REVALIDATE)
    assert net.hosts[ONE].flows(VNI)[key()].host == ip_int(FOUR)


def test_revalidation_of_what_is_no_more_ends_the_entry(net: Net, cast: dict[str, Endpoint]) -> None:
    net.walk("anna", packet())
    net.hosts[THREE].forgets(cast["bert"])
    net.walk("anna", packet(), REVALIDATE)
    assert net.hosts[ONE].flows(VNI) == {}
    assert net.walk("anna", packet()).dropped == DropReason.UNKNOWN_DESTINATION


def test_learned_entry_asks_in_its_own_direction(net: Net) -> None:
    net.walk("anna", packet())
    back = IP(src="10.10.1.20", dst="10.10.1.10") / UDP(sport=53, dport=4000)
    aged(net.hosts[TWO])
    walk = net.walk("bert", back, REVALIDATE)
    assert [t for _, t in walk.wire] == [Q, V]
    (entry,) = net.hosts[TWO].flows(VNI).values()
    assert entry.flags == FlowFlag.LEARNED and entry.host == ip_int(ONE)
    assert net.walk("bert", back).wire == [("host-2", D)]


def test_unanswered_revalidation_leaves_the_entry_alive_and_flagged(net: Net) -> None:
    net.walk("anna", packet())
    one = net.hosts[ONE]
    one.configure(reask=0)
    aged(one)
    net.walk("anna", packet())
    wait_a_tick()
    assert net.walk("anna", packet()).delivered == "bert"
    entry = one.flows(VNI)[key()]
    assert entry.flags & FlowFlag.STALE and entry.unanswered >= 1
    assert one.events()["REVALIDATIONS_UNANSWERED"] >= 1


COARSE = 6  # CLOCK_MONOTONIC_COARSE of time.h, which moves once a tick


def wait_a_tick() -> None:
    """Until the kernel's tick has moved on, by more than the one that a limit may be: the programs' clock knows
    nothing finer."""
    end = time.clock_gettime(COARSE) + 3 * time.clock_getres(COARSE)
    until(lambda: time.clock_gettime(COARSE) >= end, 10.0, "three ticks", pause=0.001)


def test_arrival_from_another_host_is_asked_about_not_believed(net: Net, cast: dict[str, Endpoint]) -> None:
    net.walk("anna", packet())
    stray = message(
        WireType.DATA,
        "198.18.0.66",
        ONE,
        IP(src="10.10.1.20", dst="10.10.1.10") / UDP(sport=53, dport=4000),
        tag=cast["anna"].tag,
    )
    net.arrive(net.hosts[ONE], stray)
    assert net.walk("anna", packet()).delivered == "bert"
    assert net.hosts[ONE].flows(VNI)[key()].asked != 0


def lose_queries(net: Net, count: int, first: int = 7000) -> None:
    """Questions that nobody answers: only the asking host's program runs."""
    one, e = net.hosts[ONE], net.endpoints["anna"][1]
    for port in range(first, first + count):
        assert one.run("endpoint_tc", net.frame("anna", packet(port)), e.port).code == TC_REDIRECT


def asked_hosts(net: Net, first: int, count: int = 40) -> set[str]:
    one, e = net.hosts[ONE], net.endpoints["anna"][1]
    found = set()
    for port in range(first, first + count):
        data = one.run("endpoint_tc", net.frame("anna", packet(port)), e.port).data
        found.add(IP(data[14:]).dst)
    return found


def silence(net: Net, silent: str, alive: str) -> None:
    """`silent` never answers, `alive` always does, until the asking host has drawn its conclusion."""
    net.hosts[ONE].configure(pending=1)
    for round_ in range(8):
        one, e = net.hosts[ONE], net.endpoints["anna"][1]
        for port in range(8000 + 40 * round_, 8040 + 40 * round_):
            data = one.run("endpoint_tc", net.frame("anna", packet(port)), e.port).data
            if IP(data[14:]).dst == alive:
                net.arrive(net.hosts[alive], data)
        wait_a_tick()
        if "BOUNCERS_SKIPPED" in one.events():
            one.configure()  # what follows is not answered either, and shall not count
            return
    raise AssertionError("the silent bouncer is still asked")


def test_silent_bouncer_is_skipped_and_nothing_is_lost_after_that(pair: Net) -> None:
    silence(pair, THREE, FOUR)
    assert asked_hosts(pair, 9000) == {FOUR}


def test_burst_of_open_questions_is_no_silence(pair: Net) -> None:
    lose_queries(pair, 60)
    assert "BOUNCERS_SKIPPED" not in pair.hosts[ONE].events()
    assert asked_hosts(pair, 9000) == {THREE, FOUR}


def test_skipped_bouncer_is_probed_and_its_answer_takes_it_back(pair: Net) -> None:
    silence(pair, THREE, FOUR)
    one, e = pair.hosts[ONE], pair.endpoints["anna"][1]
    early = one.run("endpoint_tc", pair.frame("anna", packet(9900)), e.port, PROBE)
    assert early.code == TC_SHOT  # its time has not come
    one.configure(skip=0)
    expire(one)
    walk = pair.walk("anna", packet(9900), PROBE)
    assert walk.wire == [("host-1", Q), ("host-3", V)]
    assert one.events()["BOUNCERS_BACK"] == 1
    assert asked_hosts(pair, 9000) == {THREE, FOUR}


def expire(host: Host) -> None:
    rows = {k: BouncerState.unpack(v) for k, v in host.maps.read("bouncers").items()}
    host.maps.put("bouncers", {k: replace(b, until=(b.until - 60 * HZ) & 0xFFFFFFFF).pack() for k, b in rows.items()})


def test_all_bouncers_silent_are_all_still_asked(net: Net) -> None:
    one, e = net.hosts[ONE], net.endpoints["anna"][1]
    one.configure(pending=1)
    for _ in range(4):
        lose_queries(net, 20)
        wait_a_tick()
    assert "BOUNCERS_SKIPPED" in one.events()
    assert one.run("endpoint_tc", net.frame("anna", packet(9999)), e.port).code == TC_REDIRECT


def test_endpoint_that_asks_too_much_is_held_back(net: Net) -> None:
    one, e = net.hosts[ONE], net.endpoints["anna"][1]
    one.configure(query_burst=10, query_rate=0)
    codes = [one.run("endpoint_tc", net.frame("anna", packet(p)), e.port).code for p in range(5000, 5015)]
    assert codes == [TC_REDIRECT] * 10 + [TC_SHOT] * 5
    assert one.maps.drops() == {(VNI, DropReason.QUERY_BUDGET): 5}


def test_bouncer_over_its_budget_says_busy_and_another_answers(pair: Net) -> None:
    three = pair.hosts[THREE]
    three.configure(busy_rate=1, busy_burst=1)
    for port in range(60):
        assert pair.walk("anna", packet(5000 + port, size=600)).delivered == "bert"
    assert three.events()["QUERIES_REFUSED_BUSY"] >= 1
    assert asked_hosts(pair, 9000) == {FOUR}  # left alone for a while


def now_of(host: Host) -> int:
    """The programs' clock, from what they stamped last."""
    return max(e.seen for e in host.flows(VNI).values())


@pytest.mark.parametrize("ago", [1, 10 * HZ, 2**31 - 1000, 2**31 + 1000, 2**32 - 10 * HZ])
def test_bouncer_that_was_left_alone_long_ago_is_asked(pair: Net, ago: int) -> None:
    """Whatever 32-bit ticks make of it: after a boot they are large, and `until` is 0 where it was never set."""
    pair.walk("anna", packet())
    one = pair.hosts[ONE]
    until = BouncerState(until=(now_of(one) - ago) & 0xFFFFFFFF)
    one.maps.put("bouncers", {BouncerKey(host=ip_int(THREE)).pack(): until.pack()})
    assert asked_hosts(pair, 9000) == {THREE, FOUR}


@pytest.mark.parametrize("ago", [10 * HZ, 2**31 + 1000])
@pytest.mark.parametrize("state", [AskedState.PENDING, AskedState.NEGATIVE])
def test_question_of_long_ago_holds_back_nothing(net: Net, ago: int, state: AskedState) -> None:
    net.walk("anna", packet())
    one = net.hosts[ONE]
    one.configure(pending=HZ)
    old = AskedEntry(
        since=(now_of(one) - ago) & 0xFFFFFFFF, packets=64, state=state, owner_tag=net.endpoints["anna"][1].tag
    )
    one.maps.put("asked", {key(4001).pack(): old.pack()})
    assert net.walk("anna", packet(4001)).delivered == "bert"


@pytest.mark.parametrize("bouncer", [1, 3])
def test_only_bouncer_is_believed_though_its_list_is_old(
    host: Callable[..., Host], cast: dict[str, Endpoint], bouncer: int
) -> None:
    net = roles(host, cast, {"anna": 1, "bert": 2}, [bouncer], {"10.10.1.0": [bouncer]})
    net.hosts[f"198.18.0.{10 + bouncer}"].serve(VNI, "10.10.1.0", stale=True)
    assert net.walk("anna", packet()).delivered == "bert"
    assert net.walk("anna", IP(src="10.10.1.10", dst="10.10.1.77") / UDP()).dropped == DropReason.UNKNOWN_DESTINATION


def test_scan_by_one_endpoint_leaves_others_questions_noted(net: Net, cast: dict[str, Endpoint]) -> None:
    one = net.hosts[ONE]
    carl = replace(cast["carl"], address="10.10.1.30", subnet="10.10.1.0", gateway="10.10.1.1")
    net.place(carl, one)
    net.hosts[THREE].knows(carl, ONE)
    one.configure(query_burst=160, query_rate=0)
    nobody = IP(src=carl.address, dst="10.10.1.77") / UDP(sport=1, dport=2)
    assert net.walk("carl", nobody).dropped == DropReason.UNKNOWN_DESTINATION
    codes = [
        one.run("endpoint_tc", net.frame("anna", packet(p)), net.endpoints["anna"][1].port).code
        for p in range(5000, 5100)
    ]
    assert codes == [TC_REDIRECT] * 100  # every question is asked
    assert len(one.maps.read("asked")) == 160 // 16 + 1
    assert net.walk("carl", nobody).wire == []


def test_refusal_that_nobody_asked_for_takes_no_room(net: Net) -> None:
    frame = message(WireType.VERDICT, THREE, ONE, packet(), action=Action.UNKNOWN)
    net.arrive(net.hosts[ONE], frame)
    assert net.hosts[ONE].maps.read("asked") == {}
