"""The gate with a network that answers as it is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from node_agent.health import gate
from node_agent.health.answers import Answer, Request
from node_agent.health.pairs import Common, Endpoint, Service

ANNA = Endpoint(vpc="a", subnet="s1", name="anna", address="10.0.0.2", host="h1", place="anna")
ADAM = Endpoint(vpc="a", subnet="s1", name="adam", address="10.0.0.3", host="h2", place="adam")
BERT = Endpoint(vpc="b", subnet="t1", name="bert", address="10.1.0.2", host="h1", place="bert")
WEB = Service(vpc="a", name="web", address="10.96.0.9", ports=(("tcp", 80),), backends=("anna", "adam"))
NAME = Common(name="name server", protocol="dns", vpc="a", question="web.local", answer="10.96.0.9")
API = Common(name="API server", protocol="connect")
EVERYONE = (ANNA, ADAM, BERT)


class Network:
    """Delivers within VPCs; `leaks`: between them too; `lost`: addresses that nobody answers for."""

    def __init__(self, *, leaks: bool = False, lost: Sequence[str] = (), resolved: str = "10.96.0.9") -> None:
        self.leaks, self.lost, self.resolved = leaks, lost, resolved
        self.asked: list[Request] = []

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        self.asked += requests
        return [self.answer(each) for each in requests]

    def answer(self, request: Request) -> Answer:
        source = next(one for one in EVERYONE if one.place == request.source)
        if request.protocol == "dns":
            return Answer(reason="", sent=1, received=1, seconds=0.0, identity={"address": self.resolved}, port=9)
        if request.protocol == "connect":
            reached = "api" not in self.lost
            return Answer(reason="" if reached else "no answer", sent=1, received=int(reached), seconds=0.0)
        target = ADAM if request.address == WEB.address else next(e for e in EVERYONE if e.address == request.address)
        if request.address in self.lost or (source.vpc != target.vpc and not self.leaks):
            return Answer(reason="no answer", sent=1, received=0, seconds=0.0)
        identity = None if request.protocol == "icmp" else {"vpc": target.vpc, "name": target.name}
        return Answer(reason="", sent=1, received=1, seconds=0.0, identity=identity, port=4000)


def test_all_is_asked_in_one_go_from_where_it_can_be_sent() -> None:
    network = Network()
    rounds: list[int] = []

    def ask(requests: Sequence[Request]) -> list[Answer]:
        rounds.append(len(requests))
        return network.ask(requests)

    health = gate.examine(EVERYONE, services=[WEB], common=[NAME, API], mtu=1450, ask=ask)
    assert health.ok, health.problems
    assert rounds == [len(network.asked)]
    assert {each.source for each in network.asked} == {"anna", "adam", "bert"}
    assert {each.size for each in network.asked} == {0, 1450}


def test_what_is_common_is_asked_from_every_host_and_vpc_that_it_is_for() -> None:
    network = Network()
    gate.examine(EVERYONE, common=[NAME, API], ask=network.ask)
    common = sorted((each.protocol, each.source) for each in network.asked if each.protocol in ("dns", "connect"))
    assert common == [("connect", "adam"), ("connect", "anna"), ("connect", "bert"), ("dns", "adam"), ("dns", "anna")]
    assert {each.question for each in network.asked if each.protocol == "dns"} == {"web.local"}


def test_a_name_with_another_address_fails() -> None:
    health = gate.examine([ANNA], common=[NAME], ask=Network(resolved="10.96.0.1").ask)
    assert health.problems == (
        "h1: a/anna (10.0.0.2) -> name server for web.local: dns: answered 10.96.0.1 instead of 10.96.0.9",
    )


def test_an_api_server_out_of_reach_fails() -> None:
    health = gate.examine([ANNA], common=[API], ask=Network(lost=["api"]).ask)
    assert health.problems == ("h1: a/anna (10.0.0.2) -> API server: connect: no answer",)


def test_a_leak_between_vpcs_fails() -> None:
    health = gate.examine(EVERYONE, ask=Network(leaks=True).ask)
    assert all("must not reach each other" in problem for problem in health.problems) and health.problems


def test_the_path_is_asked_once_and_only_where_all_was_answered() -> None:
    asked: list[Sequence[gate.Probed]] = []

    def direct(probed: Sequence[gate.Probed]) -> list[str | None]:
        asked.append(probed)
        return ["by way of h3"] * len(probed)

    network = Network(lost=[ADAM.address])
    health = gate.examine(EVERYONE, services=[WEB], common=[NAME, API], ask=network.ask, direct=direct)
    [probed] = asked
    found = {(one.pair.source.name, one.pair.target.name, one.protocol) for one in probed}
    # adam is not asked about, as he does not answer; a VIP answers echoes itself; other VPCs and names have no path.
    assert found == {
        ("adam", "anna", "icmp"),
        ("adam", "anna", "tcp"),
        ("adam", "anna", "udp"),
        ("adam", "web", "tcp"),
        ("anna", "web", "tcp"),
    }
    assert sum("direct: by way of h3" in problem for problem in health.problems) == 3


def test_nobody_asks_about_no_path() -> None:
    def direct(probed: Sequence[gate.Probed]) -> list[str | None]:
        raise AssertionError(probed)

    assert gate.examine([ANNA], ask=Network().ask, direct=direct).ok


def test_the_example_of_the_page_on_outputs_has_the_numbers_of_its_stack() -> None:
    page = (Path(__file__).parents[3] / "docs/outputs.md").read_text()
    told = json.loads(page.partition("```json")[2].partition("```")[0])
    [one], [service] = told["endpoints"], told["services"]
    known = {key: one[key] for key in ("vpc", "subnet", "name", "address", "host")}
    ports = tuple((port["protocol"], port["port"]) for port in service["ports"])
    web = Service(
        vpc=service["vpc"], name=service["name"], address=service["vip"], ports=ports, backends=(one["name"],)
    )

    def ask(requests: Sequence[Request]) -> list[Answer]:
        return [Answer(reason="", sent=3, received=3, seconds=0.0, identity=one, port=4000) for _ in requests]

    health = gate.examine(
        [Endpoint(**known, place="here")], services=[web], mtu=1450, ask=ask, direct=lambda probed: [None] * len(probed)
    )
    assert service["backends"] == [one["name"]] and health.ok, health.problems
    assert told["health"] == {"healthy": True, "pairs": len(health.pairs), "probes": health.probes, "failures": []}
