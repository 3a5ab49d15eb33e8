from __future__ import annotations

from node_agent.health.answers import Answer, Request, dump, load_answers, load_requests
from node_agent.health.inside import addressed

TOLD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
RESOLV = "search default.svc\nnameserver 10.96.0.10\nnameserver 10.96.0.11\noptions ndots:5\n"


def request(protocol: str, address: str = "") -> Request:
    return Request(protocol=protocol, source="", address=address, port=0)  # type: ignore[arg-type]


def test_what_has_an_address_goes_there() -> None:
    assert addressed(request("tcp", "10.0.0.2"), "", {}) == request("tcp", "10.0.0.2")


def test_a_question_goes_to_the_pods_first_name_server() -> None:
    found = addressed(request("dns"), RESOLV, TOLD)
    assert isinstance(found, Request) and (found.address, found.port) == ("10.96.0.10", 53)


def test_a_connect_goes_to_the_pods_api_server() -> None:
    found = addressed(request("connect"), RESOLV, TOLD)
    assert isinstance(found, Request) and (found.address, found.port) == ("10.96.0.1", 6443)


def test_a_pod_that_was_told_of_neither_says_so() -> None:
    assert addressed(request("dns"), "search here\nnameserver\n", {}) == "the pod was told of no name server"
    assert addressed(request("connect"), RESOLV, {}) == "the pod was told of no API server"


def test_requests_and_answers_are_read_back_as_they_were() -> None:
    requests = [request("dns"), Request(protocol="icmp", source="x", address="10.0.0.2", size=1450, count=3)]
    assert load_requests(dump(requests)) == requests
    answers = [
        Answer(reason="", sent=1, received=1, seconds=0.1, identity={"vpc": "a"}, port=7),
        Answer(reason="no", sent=0, received=0, seconds=0.0),
    ]
    assert load_answers(dump(answers)) == answers
    assert "\n" not in dump(requests)
