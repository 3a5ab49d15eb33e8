"""What a run did, in words."""

from __future__ import annotations

from typing import Any

import pytest

from node_agent.cli.explain import ANSWERS, Seen, sentences
from node_agent.cli.names import Names
from node_agent.cli.packets import Message
from node_agent.cli.stage import PRIVATE, SHARED, Snapshot
from node_agent.datapath.layout import (
    MAPS,
    Action,
    AskedEntry,
    AskedState,
    Counter,
    DropReason,
    FlowEntry,
    FlowFlag,
    FlowKey,
    WireType,
)
from node_agent.datapath.reasons import REASONS, phrase
from node_agent.rows.diff import PUT_ORDER
from node_agent.rows.image import mapped, number

KNOWN = Names(
    vpcs={1000: "blue"},
    hosts={f"198.18.0.1{n}": f"host-{n}" for n in (1, 2, 3)},
    endpoints={(1000, "10.10.1.10"): "anna", (1000, "10.10.2.30"): "carl"},
)
KEY = FlowKey(vni=1000, src=mapped("10.10.1.10"), dst=mapped("10.10.2.30"), sport=7, dport=7, proto=1)
BACK = FlowKey(vni=1000, src=KEY.dst, dst=KEY.src, sport=7, dport=7, proto=1)


def entry(flag: FlowFlag, host: int, **more: int) -> bytes:
    return FlowEntry(host=number(f"198.18.0.1{host}"), flags=flag, **more).pack()


def message(kind: WireType, sender: int, receiver: int, **more: Any) -> Message:
    ends = {"sender": f"198.18.0.1{sender}", "receiver": f"198.18.0.1{receiver}"}
    return Message(type=kind, vni=1000, **{**ends, **more})


def did(*rose: Counter, host: str = "host-1", program: str = "endpoint_tc", **how: Any) -> list[str]:
    before: Snapshot = how.pop("before", Snapshot())
    after: dict[str, Any] = how.pop("after", {})
    kept = Snapshot(**{"flows": before.flows, **after}, counters={c: rose.count(c) for c in rose})
    return sentences(Seen(host=host, program=program, key=KEY, before=before, after=kept, **how), KNOWN)


def test_a_miss_asks() -> None:
    assert did(Counter.QUERIES_SENT, went=message(WireType.QUERY, 1, 2)) == [
        "miss: no entry in its flow table",
        "asks host-2, a bouncer of the sender's subnet",
    ]


def test_asker_and_bouncer_may_be_one_host() -> None:
    told = did(
        Counter.QUERIES_SENT,
        Counter.VERDICTS_APPLIED,
        after={"flows": {KEY.pack(): entry(FlowFlag.ASKED, 3)}},
        went=message(WireType.DATA, 1, 3),
    )
    assert told == [
        "miss: no entry in its flow table",
        "asks itself, being a bouncer of the sender's subnet",
        "installs an entry: 10.10.1.10 -> 10.10.2.30 ASKED, to host-3",
        "sends it to host-3",
    ]


def test_a_bouncer_answers_or_passes_on() -> None:
    asked = message(WireType.QUERY, 1, 2, asker="198.18.0.11")
    verdict = message(WireType.VERDICT, 2, 1, action=Action.ALLOW, target="198.18.0.13")
    assert did(host="host-2", program="transit_xdp", came=asked, went=verdict) == [
        "is asked by host-1",
        "answers host-1: yes, it is on host-3",
    ]
    passed = message(WireType.QUERY, 2, 3, asker="198.18.0.11", passed=True)
    assert "passes the question on to host-3" in did(Counter.QUERIES_PASSED, came=asked, went=passed)[1]


def test_a_hit_is_followed_and_an_old_one_asked_about() -> None:
    before = Snapshot(flows={KEY.pack(): entry(FlowFlag.ASKED, 3)})
    data = message(WireType.DATA, 1, 3)
    assert did(before=before, went=data) == ["hit: entry ASKED, to host-3", "sends it to host-3"]
    due = {"flows": {KEY.pack(): entry(FlowFlag.ASKED, 3, asked=9)}}
    assert did(before=before, after=due, went=data)[1].startswith("the entry is old")


def test_delivery_learns_the_way_back() -> None:
    told = did(
        came=message(WireType.DATA, 1, 3),
        host="host-3",
        after={"flows": {BACK.pack(): entry(FlowFlag.LEARNED, 1)}},
        handed="10.10.2.30",
    )
    assert told == [
        "learns an entry for the reply: 10.10.2.30 -> 10.10.1.10 LEARNED, to host-1",
        "DELIVERS it to carl",
    ]


def test_gateways_answer_and_endpoints_that_are_gone_send_back() -> None:
    assert did(Counter.GATEWAY_REPLIES, handed="10.10.1.10") == ["ANSWERS anna itself, in the name of 10.10.2.30"]
    gone = message(WireType.NOT_HERE, 3, 1, target="198.18.0.12")
    assert "it moved to host-2" in did(host="host-3", came=message(WireType.DATA, 1, 3), went=gone)[0]


def test_a_refusal_is_remembered_and_a_drop_explained() -> None:
    told = did(
        Counter.VERDICTS_APPLIED,
        came=message(WireType.VERDICT, 2, 1, action=Action.UNKNOWN),
        after={
            "drops": {(1000, DropReason.UNKNOWN_DESTINATION): 1},
            "asked": {KEY.pack(): AskedEntry(state=AskedState.NEGATIVE).pack()},
        },
    )
    assert told[0] == "takes the answer of host-2: nobody in the VPC has that address"
    assert told[-1] == "DROPS it: unknown_destination: nobody in the VPC has the destination address"


def test_a_program_that_does_nothing_says_so() -> None:
    came = message(WireType.DATA, 1, 3)
    assert did(came=came, program="transit_xdp", passed_up=True) == ["leaves it to the program behind it"]


@pytest.mark.parametrize("reason", list(DropReason)[:-1] if DropReason.__members__.get("COUNT") else list(DropReason))
def test_every_reason_is_explained_in_a_short_phrase(reason: DropReason) -> None:
    assert reason in REASONS and 0 < len(phrase(reason)) <= 100


def test_every_action_is_explained() -> None:
    assert set(Action) - set(ANSWERS) <= {Action.NONE, Action.EGRESS}


def test_every_map_is_shared_with_the_stage_or_made_for_it() -> None:
    """A new map fails here: does a program write it? Then it belongs to PRIVATE, or traces would leave traces."""
    assert set(MAPS) == PRIVATE | SHARED and not PRIVATE & SHARED
    assert set(PUT_ORDER) >= SHARED, "the stage shares only what the agent writes"
