from __future__ import annotations

from node_agent.datapath.direct import ICMP, TCP, Flow, Question
from node_agent.health import paths
from node_agent.health.answers import Answer, Wire
from node_agent.health.gate import Probed
from node_agent.health.pairs import Endpoint, Pair, Service

ANNA = Endpoint(vpc="a", subnet="s1", name="anna", address="10.0.0.2", host="h1", place="anna")
ADAM = Endpoint(vpc="a", subnet="s1", name="adam", address="10.0.0.3", host="h2", place="adam")
WEB = Service(vpc="a", name="web", address="10.96.0.9", ports=(("tcp", 80),), backends=("adam",))
WANTED = paths.Wanted(hosts={"h1": "198.18.0.11", "h2": "198.18.0.12"}, vnis={"a": 7}, endpoints=[ANNA, ADAM])


def probed(target: Endpoint | Service, wire: Wire, port: int, who: str = "adam") -> Probed:
    answer = Answer(reason="", sent=1, received=1, seconds=0.0, port=4000, identity={"vpc": "a", "name": who})
    return Probed(
        pair=Pair(source=ANNA, target=target, relation="same subnet"), protocol=wire, port=port, answer=answer
    )


def flow(proto: int, dst: str, dport: int) -> Flow:
    return Flow(vni=7, proto=proto, src="10.0.0.2", dst=dst, sport=4000, dport=dport)


def test_an_echo_has_its_id_as_both_ports() -> None:
    wanted = Question(flow=flow(ICMP, "10.0.0.3", 4000), peer="198.18.0.12")
    assert WANTED.question(probed(ADAM, "icmp", 0)) == wanted


def test_of_a_service_it_is_the_backend_that_answered() -> None:
    wanted = Question(flow=flow(TCP, "10.96.0.9", 80), peer="198.18.0.12", backend="10.0.0.3")
    assert WANTED.question(probed(WEB, "tcp", 80)) == wanted
    assert WANTED.question(probed(WEB, "tcp", 80, who="")) == "its backend did not say who it is"


def test_questions_are_read_back_as_they_were() -> None:
    questions = [
        Question(flow=flow(TCP, "10.0.0.3", 8080), peer="198.18.0.12"),
        Question(flow=flow(TCP, "10.96.0.9", 80), peer="198.18.0.12", backend="10.0.0.3"),
    ]
    assert paths.load(paths.dump(questions)) == questions
