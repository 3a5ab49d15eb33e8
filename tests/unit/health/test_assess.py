from __future__ import annotations

from dataclasses import replace

from node_agent.health.answers import Answer
from node_agent.health.assess import Outcome, assess, judge, summary
from node_agent.health.pairs import Endpoint, Pair, Service

ALICE = Endpoint(vpc="a", subnet="s1", name="alice", address="10.0.0.2", host="host-1", place="/n/alice")
ADAM = Endpoint(vpc="a", subnet="s1", name="adam", address="10.0.0.3", host="host-2", place="/n/adam")
BOB = Endpoint(vpc="b", subnet="s1", name="bob", address="10.0.0.4", host="host-2", place="/n/bob")
FRIENDS = Pair(source=ALICE, target=ADAM, relation="same subnet")
STRANGERS = Pair(source=ALICE, target=BOB, relation="other vpc")


def answer(reason: str = "", sent: int = 1, received: int = 1, who: Endpoint | None = None) -> Answer:
    identity = {"vpc": who.vpc, "name": who.name, "address": who.address} if who else None
    return Answer(reason=reason, sent=sent, received=received, seconds=0.01, identity=identity)


def test_the_right_answerer_is_well() -> None:
    assert judge(FRIENDS, "tcp", answer(who=ADAM)).reason == ""
    assert judge(FRIENDS, "icmp", answer(sent=3, received=3)).reason == ""


def test_the_wrong_answerer_and_silence_are_not() -> None:
    assert judge(FRIENDS, "udp", answer(who=BOB)).reason == "answered by b/bob instead of a/adam"
    assert judge(FRIENDS, "tcp", answer("no answer within 3 s", received=0)).reason == "no answer within 3 s"


def test_a_repeated_packet_is_counted_but_no_failure() -> None:
    outcome = judge(FRIENDS, "icmp", answer(sent=4, received=3))
    assert (outcome.reason, outcome.lost) == ("", 1)
    health = assess([outcome])
    assert health.ok and health.lost == 1 and "1 repeated" in summary(health)


def test_across_vpcs_silence_is_right() -> None:
    assert judge(STRANGERS, "tcp", answer("no answer within 1 s", received=0)).reason == ""
    # The own VPC may use the same address: then its own endpoint answers.
    assert judge(STRANGERS, "tcp", answer(who=ADAM)).reason == ""


def test_across_vpcs_an_answer_is_a_leak() -> None:
    reason = "answered by b/bob, though a and b must not reach each other"
    assert judge(STRANGERS, "tcp", answer(who=BOB)).reason == reason
    assert "answered by an echo" in judge(STRANGERS, "icmp", answer()).reason


def test_silence_of_a_source_that_could_not_send_proves_nothing() -> None:
    assert judge(STRANGERS, "tcp", answer("open network namespace", sent=0, received=0)).reason


def test_a_failure_names_hosts_endpoints_protocol_and_reason() -> None:
    health = assess([Outcome(pair=FRIENDS, protocol="tcp", reason="no answer within 3 s")])
    line = "host-1 -> host-2: a/alice (10.0.0.2) -> a/adam (10.0.0.3): tcp: no answer within 3 s"
    assert health.problems == (line,)
    assert [host.reasons for host in health.hosts] == [(line,), (line,)]
    assert health.pairs[0].reasons == ("tcp: no answer within 3 s",)
    assert not health.ok and not health.pairs[0].ok


def test_hosts_are_judged_by_the_probes_that_touch_them() -> None:
    good = Outcome(pair=FRIENDS, protocol="icmp", reason="")
    health = assess([good], hosts=["host-1", "host-2", "host-3"], host_problems=[("host-3", "agent is not running")])
    assert [(h.name, h.probed, h.ok) for h in health.hosts] == [
        ("host-1", 1, True),
        ("host-2", 1, True),
        ("host-3", 0, False),
    ]
    assert health.problems == ("host-3: agent is not running",)


def test_a_summary_is_one_line_when_all_is_well() -> None:
    health = assess([Outcome(pair=FRIENDS, protocol=p, reason="") for p in ("icmp", "tcp", "udp")])
    assert summary(health) == "healthy: 3 probes over 1 pair of 2 hosts"
    assert summary(assess([])) == "healthy: no two endpoints to probe between"


def test_one_of_a_thing_is_one() -> None:
    lines = summary(assess([Outcome(pair=FRIENDS, protocol="tcp", reason="it is gone")])).splitlines()
    assert lines[0] == "unhealthy: 1 failure in 1 probe over 1 pair of 2 hosts"
    assert lines[1] == "  host-1: 1 of 1 probe failed"


def test_a_summary_is_bounded() -> None:
    health = assess([Outcome(pair=FRIENDS, protocol="tcp", reason=f"reason {n}") for n in range(50)])
    lines = summary(health, most=5).splitlines()
    assert lines[0] == "unhealthy: 50 failures in 50 probes over 1 pair of 2 hosts"
    assert lines[1] == "  host-1: 50 of 50 probes failed"
    assert lines[-1] == "  and 45 more" and len(lines) == 9


WEB = Service(vpc="a", name="web", address="10.0.255.1", ports=(("tcp", 80),), backends=("adam", "ada"))


def test_a_service_is_answered_by_one_of_its_backends() -> None:
    pair = Pair(source=ALICE, target=WEB, relation="service")
    assert judge(pair, "tcp 80", answer(who=ADAM)).reason == ""
    assert judge(pair, "icmp", answer(sent=3, received=3)).reason == ""
    wrong = "instead of a backend of service a/web (10.0.255.1)"
    assert judge(pair, "tcp 80", answer(who=ALICE)).reason == f"answered by a/alice {wrong}"
    assert judge(pair, "tcp 80", answer(who=replace(ADAM, vpc="b"))).reason == f"answered by b/adam {wrong}"
    health = assess([judge(pair, "tcp 80", answer("no answer within 3 s", received=0))], hosts=["host-1"])
    assert [(host.name, host.failed) for host in health.hosts] == [("host-1", 1)]
    assert health.problems == (
        "host-1: a/alice (10.0.0.2) -> service a/web (10.0.255.1): tcp 80: no answer within 3 s",
    )


def test_an_equal_address_must_answer_and_as_ones_own() -> None:
    pair = Pair(source=ALICE, target=ADAM, relation="equal address")
    assert judge(pair, "udp", answer(who=ADAM)).reason == ""
    assert judge(pair, "udp", answer(who=BOB)).reason == "answered by b/bob instead of a/adam"
    assert judge(pair, "udp", answer("no answer within 3 s", received=0)).reason


def test_a_service_of_another_vpc_must_not_answer() -> None:
    pair = Pair(source=BOB, target=WEB, relation="other vpc")
    assert judge(pair, "tcp 80", answer("no answer within 1 s", received=0)).reason == ""
    assert (
        judge(pair, "tcp 80", answer(who=ADAM)).reason == "answered by a/adam, though b and a must not reach each other"
    )
