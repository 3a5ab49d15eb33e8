"""`mizar flows`, `drops` and the names in them: from bytes to words."""

from __future__ import annotations

from typing import Any

import pytest

from node_agent.cli import drops, flows, names
from node_agent.cli.flows import Clock, Held
from node_agent.cli.names import Names
from node_agent.datapath.layout import (
    AskedEntry,
    AskedState,
    Config,
    DropReason,
    EndpointKey,
    FlowEntry,
    FlowFlag,
    FlowKey,
    LocalRow,
    NatEntry,
    NatKind,
    Prefix,
)
from node_agent.model.errors import Permanent
from node_agent.model.objects import NetworkEndpoint, NetworkEndpointSpec, NetworkService, NetworkServiceSpec
from node_agent.rows.image import mapped, number

HZ = 250
NOW = 10_000 * HZ
TAG = 0x0A01
KNOWN = Names(
    vpcs={1000: "blue", 1001: "green"},
    hosts={"198.18.0.11": "host-1", "198.18.0.12": "host-2"},
    endpoints={(1000, "10.10.1.10"): "anna", (1000, "10.10.2.30"): "carl"},
)
CONFIG = Config(
    fresh=30 * HZ, idle_tcp=3600 * HZ, idle_closed=10 * HZ, idle_udp=180 * HZ, idle_icmp=30 * HZ, negative=HZ,
    underlay=(Prefix(),) * 8,
)  # fmt: skip


def key(src: str = "10.10.1.10", dst: str = "10.10.2.30", proto: int = 6, vni: int = 1000, port: int = 40000) -> bytes:
    return FlowKey(vni=vni, src=mapped(src), dst=mapped(dst), sport=port, dport=80, proto=proto).pack()


def entry(**how: Any) -> FlowEntry:
    usual = {"host": number("198.18.0.12"), "owner_tag": TAG, "flags": FlowFlag.ASKED}
    return FlowEntry(**{**usual, "confirmed": NOW - 10 * HZ, "seen": NOW - 2 * HZ, **how})


def held(flow: dict[bytes, FlowEntry] | None = None, **more: Any) -> Held:
    local = {EndpointKey(vni=1000, addr=mapped("10.10.1.10")).pack(): LocalRow(ifindex=9, mac=bytes(6), tag=TAG).pack()}
    rows = {raw: one.pack() for raw, one in (flow or {}).items()}
    return Held(
        config=CONFIG,
        clock=Clock(now=NOW, hz=HZ),
        slots={1000: 1},
        sizes={1: 1024},
        flows={1: rows},
        locals=local,
        **more,
    )


def one(**how: Any) -> dict[str, Any]:
    found = flows.assemble(held({key(): entry(**how)}), KNOWN)["flows"]
    assert len(found) == 1
    return dict(found[0])


def test_ticks_become_seconds_and_numbers_names() -> None:
    told = one()
    assert (told["vpc"], told["protocol"], told["peer"], told["kind"]) == ("blue", "tcp", "host-2", "asked")
    assert told["source"] == {"address": "10.10.1.10", "port": 40000, "name": "anna"}
    assert (told["age"], told["idle"], told["fresh"], told["state"]) == (10.0, 2.0, 20.0, "live")


def test_time_may_wrap() -> None:
    clock = Clock(now=5, hz=1)
    assert clock.since(0xFFFFFFFE) == 7
    assert Clock(now=(1 << 31) - 1 & 0x7FFFFFFF, hz=1).since(0xFFFFFFFF - 4) == 4


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ({"seen": NOW - 20 * HZ, "flags": FlowFlag.ASKED | FlowFlag.CLOSING}, "expired"),
        ({"seen": NOW - 3601 * HZ}, "expired"),
        ({"owner_tag": 7}, "former"),
        ({"flags": FlowFlag.LEARNED | FlowFlag.STALE}, "live"),
    ],
)
def test_entries_that_no_packet_uses_any_more(how: dict[str, Any], state: str) -> None:
    assert one(**how)["state"] == state


def test_flags_and_the_entry_s_age_are_told() -> None:
    told = one(flags=FlowFlag.LEARNED | FlowFlag.STALE, confirmed=NOW - 40 * HZ, asked=NOW, unanswered=2)
    assert (told["kind"], told["flags"], told["fresh"], told["asking"], told["unanswered"]) == (
        "learned", ["stale"], -10.0, True, 2,
    )  # fmt: skip


def test_only_the_vpc_or_endpoint_asked_for() -> None:
    rows = {key(): entry(), key(src="10.10.2.30", dst="10.10.9.9"): entry(), key(vni=1001): entry()}
    every = flows.assemble(held(rows), KNOWN)["flows"]
    assert [(o["vpc"], o["source"]["address"]) for o in every] == [
        ("blue", "10.10.1.10"), ("blue", "10.10.2.30"), ("green", "10.10.1.10"),
    ]  # fmt: skip
    assert len(flows.assemble(held(rows), KNOWN, vni=1001)["flows"]) == 1
    assert len(flows.assemble(held(rows), KNOWN, vni=0, ends=(1000, "10.10.2.30"))["flows"]) == 2


def test_nat_pairs_and_questions() -> None:
    forward = NatEntry(
        flow=(entry(vip=number("10.10.9.9"), vip_port=80),),
        src=number("10.10.1.10"), dst=number("10.10.2.30"), sport=40000, dport=8080, kind=NatKind.FORWARD,
    )  # fmt: skip
    reverse = NatEntry(
        flow=(entry(),), src=number("10.10.9.9"), dst=number("10.10.1.10"), sport=80, dport=40000, kind=NatKind.REVERSE
    )
    questions = {
        key(port=1): AskedEntry(since=NOW - HZ // 2, state=AskedState.PENDING, attempt=1, packets=3, bytes=99).pack(),
        key(port=2): AskedEntry(since=NOW - 5 * HZ, state=AskedState.NEGATIVE).pack(),
    }
    pairs = {1: {key(dst="10.10.9.9"): forward.pack(), key(src="10.10.2.30", dst="10.10.1.10"): reverse.pack()}}
    told = flows.assemble(held(nats=pairs, asked=questions), KNOWN)
    assert [(o["nat"], o["state"], o["becomes"]["destination"]) for o in told["nats"]] == [
        ("forward", "live", "10.10.2.30:8080"), ("reverse", "live", "10.10.1.10:40000"),
    ]  # fmt: skip
    assert [(o["state"], o["age"], o["tries"], o["packets"], o["expired"]) for o in told["asked"]] == [
        ("pending", 0.5, 2, 3, False), ("negative", 5.0, 1, 0, True),
    ]  # fmt: skip
    text = flows.text({"host": "host-1", **told})
    for words in ("blue 0 of 1024", "forward", "anna:40000", "pending", "negative (expired)"):
        assert words in text


def test_nothing_to_tell_is_one_line() -> None:
    empty = Held(config=CONFIG, clock=Clock(now=NOW, hz=HZ))
    assert flows.text({"host": "host-1", **flows.assemble(empty, KNOWN)}) == "host host-1: flow tables: none"


def test_drops_are_sorted_and_never_zero() -> None:
    counted = {
        "host-1": {(1000, DropReason.TTL): 3, (0, DropReason.NO_VPC): 0},
        "host-2": {(1000, DropReason.TTL): 3, (7, DropReason.DENIED): 9, (0, DropReason.MALFORMED): 1},
    }
    told = drops.assemble(counted, KNOWN)
    assert [(o["reason"], o["vpc"], o["host"], o["packets"]) for o in told] == [
        ("denied", "7", "host-2", 9),
        ("ttl", "blue", "host-1", 3),
        ("ttl", "blue", "host-2", 3),
        ("malformed", "", "host-2", 1),
    ]
    assert "refused by policy" in drops.text(told)
    assert drops.text([]) == "no packet was dropped"


def endpoint(name: str, vpc: str, vni: int, address: str) -> NetworkEndpoint:
    spec = NetworkEndpointSpec(vpc=vpc, subnet="s", address=address, host="host-1", container_id=name, workload=name)
    return NetworkEndpoint(name=f"{vni}-{address}", spec=spec)


ENDPOINTS = (endpoint("anna", "blue", 1000, "10.10.1.10"), endpoint("eve", "green", 1001, "10.10.1.10"))
SERVICES = (NetworkService(name="web", spec=NetworkServiceSpec(vpc="blue", vip="10.10.9.9")),)


def test_endpoints_by_name_object_or_address() -> None:
    assert names.endpoint(ENDPOINTS, "eve").spec.vpc == "green"
    assert names.endpoint(ENDPOINTS, "1000-10.10.1.10").spec.workload == "anna"
    with pytest.raises(Permanent, match="it is the address of 2 endpoints; there are anna, eve"):
        names.endpoint(ENDPOINTS, "10.10.1.10")


def test_a_destination_is_meant_in_the_sender_s_vpc() -> None:
    def meant(vpc: str, wanted: str) -> tuple[str, str]:
        return names.destination(ENDPOINTS, SERVICES, vpc, wanted)

    assert meant("green", "10.10.1.10") == ("10.10.1.10", "eve")
    assert meant("blue", "web") == meant("blue", "10.10.9.9") == ("10.10.9.9", "web")
    assert meant("green", "10.10.9.9") == ("10.10.9.9", "")
    with pytest.raises(Permanent, match=r"eve in VPC blue: it is in VPC green; give its address, 10\.10\.1\.10"):
        meant("blue", "eve")
    with pytest.raises(Permanent, match="find host nope: there is none; there are host-1, host-2"):
        KNOWN.host_address("nope")


def test_what_comes_back_to_a_client_that_is_its_own_backend_is_in_use() -> None:
    raw = key(src="10.10.1.10", dst="10.10.1.1")
    for kind, state in ((NatKind.REVERSE | NatKind.HAIRPIN, "live"), (NatKind.REVERSE, "former")):
        made = NatEntry(
            flow=(entry(),), src=number("10.10.9.9"), dst=number("10.10.1.10"), sport=80, dport=40000, kind=kind
        )
        (told,) = flows.assemble(held(nats={1: {raw: made.pack()}}), KNOWN)["nats"]
        assert told["state"] == state


def test_what_no_packet_uses_is_hidden_and_counted() -> None:
    rows = {key(): entry(), key(port=2): entry(seen=NOW - 3601 * HZ), key(port=3): entry(owner_tag=7)}
    refused = AskedEntry(since=NOW - 9 * HZ, state=AskedState.NEGATIVE).pack()
    every = flows.assemble(held(rows, asked={key(): refused}), KNOWN)
    assert (len(every["flows"]), len(every["asked"]), every["hidden"]) == (3, 1, 0)
    told = flows.in_use(every)
    assert ([one["source"]["port"] for one in told["flows"]], told["asked"], told["hidden"]) == ([40000], [], 3)
    assert "3 more that no packet uses any more" in flows.text({"host": "host-1", **told})
    assert "more that" not in flows.text({"host": "host-1", **every})
    assert " - " in flows.text({"host": "host-1", **every}), "freshness of what is not used"
