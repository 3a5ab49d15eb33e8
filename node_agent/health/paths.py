"""What is to be asked of a host's tables about a probe that was answered: pure. For the gate's `direct`.

Where a flow should go is the word of the store and the plan, and no agent's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from node_agent.datapath import direct
from node_agent.datapath.direct import Flow, Question
from node_agent.health.answers import Wire
from node_agent.health.gate import Probed
from node_agent.health.pairs import Endpoint

PROTOCOLS: Mapping[Wire, int] = {"icmp": direct.ICMP, "tcp": direct.TCP, "udp": direct.UDP}


class Wanted:
    """Where flows should go. `hosts`: name -> underlay address; `vnis`: VPC -> number."""

    def __init__(self, hosts: Mapping[str, str], vnis: Mapping[str, int], endpoints: Iterable[Endpoint]) -> None:
        self._hosts, self._vnis = hosts, vnis
        self._named = {(one.vpc, one.name): one for one in endpoints}

    def question(self, probed: Probed) -> Question | str:
        """What the tables of the source's host are to be asked, or why nothing can be."""
        source, target = probed.pair.source, probed.pair.target
        flow = Flow(
            vni=self._vnis.get(source.vpc, 0),
            proto=PROTOCOLS[probed.protocol],
            src=source.address,
            dst=target.address,
            sport=probed.answer.port,
            dport=probed.answer.port if probed.protocol == "icmp" else probed.port,
        )
        if isinstance(target, Endpoint):
            return Question(flow=flow, peer=self._hosts.get(target.host, ""))
        backend = self._named.get((target.vpc, (probed.answer.identity or {}).get("name", "")))
        if backend is None:
            return "its backend did not say who it is"
        return Question(flow=flow, peer=self._hosts.get(backend.host, ""), backend=backend.address)


def dump(questions: Sequence[Question]) -> str:
    """One line of JSON."""
    return json.dumps([asdict(each) for each in questions])


def load(text: str) -> list[Question]:
    """Raises ValueError for anything else than what `dump` wrote."""
    raw = json.loads(text)
    if not isinstance(raw, list):
        raise ValueError(f"no list of questions: {text[:60]!r}")
    return [_question(each) for each in raw]


def _question(raw: dict[str, Any]) -> Question:
    return Question(flow=Flow(**raw["flow"]), peer=raw["peer"], backend=raw["backend"])
