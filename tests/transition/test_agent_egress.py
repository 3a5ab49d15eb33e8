"""What the agent does for flows out of the VPC: the list, the way to its own stack, rows of endpoints that are gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node_agent.agent.outside import Outlet
from node_agent.cni import protocol
from node_agent.cni.protocol import Request
from node_agent.datapath.layout import Config, EgressKey, EgressRow, ListedKey, ListedRow
from node_agent.model.addresses import OUTLET_ADDRESS
from node_agent.model.config import Listed
from node_agent.model.errors import Invalid
from node_agent.rows.config import KEY
from node_agent.rows.image import number
from tests.transition.agents import VNI, Agents

API = Listed(address="198.18.0.10", port=443, protocol="tcp")
LISTED = ListedKey(addr=number("198.18.0.10"), port=443, proto=6).pack()


@pytest.fixture
def agents() -> Agents:
    """One host, h0, that lists its own address, with an endpoint."""
    made = Agents(1)
    made.vpc({"h0": "active"})
    made.subnet((0,))
    host = made.hosts["h0"]
    host.config = replace(host.config, listed=(API,))
    host.kernel.way_out = Outlet(0, ("198.18.0.10",))  # its devices are made by the first check
    made.start("h0")
    assert made.add("h0", "c0").code == 0
    made.settle()
    return made


def config(agents: Agents) -> Config:
    return Config.unpack(agents.hosts["h0"].maps.rows["config"][KEY])


def test_the_list_is_told_and_put_back(agents: Agents) -> None:
    host = agents.hosts["h0"]
    rows = {LISTED: ListedRow(local=1).pack()}
    assert host.maps.rows["listed"] == rows
    host.maps.rows["listed"].clear()
    host.maps.rows["listed"][ListedKey(addr=1, port=1, proto=6).pack()] = ListedRow().pack()
    assert "listed" in agents.ask("h0", Request(verb="STATUS")).message
    agents.ask("h0", Request(verb="REPAIR"))
    assert host.maps.rows["listed"] == rows


def test_what_is_listed_no_more_is_forgotten_by_the_next_agent(agents: Agents) -> None:
    host = agents.hosts["h0"]
    host.config = replace(host.config, listed=())
    agents.start("h0")
    assert host.maps.rows["listed"] == {}


def test_programs_are_told_of_the_outlet_as_it_comes_and_changes(agents: Agents) -> None:
    assert (config(agents).outlet, config(agents).outlet_address) == (0, 0)
    for ifindex in (7, 9):
        agents.hosts["h0"].kernel.way_out = Outlet(ifindex, ("198.18.0.10",))
        assert agents.ask("h0", Request(verb="STATUS")).code == protocol.NOT_AVAILABLE
        assert agents.ask("h0", Request(verb="REPAIR")).code == 0
        assert (config(agents).outlet, config(agents).outlet_address) == (ifindex, number(OUTLET_ADDRESS))


def test_an_address_that_moves_away_is_reached_by_the_uplink(agents: Agents) -> None:
    agents.hosts["h0"].kernel.way_out = Outlet()
    agents.ask("h0", Request(verb="REPAIR"))
    assert agents.hosts["h0"].maps.rows["listed"] == {LISTED: ListedRow(local=0).pack()}


def test_a_list_that_must_not_be_is_refused_at_start(agents: Agents) -> None:
    host = agents.hosts["h0"]
    host.config = replace(host.config, listed=(replace(API, port=4789, protocol="udp"), replace(API, port=0)))
    with pytest.raises(Invalid) as caught:
        agents.start("h0")
    assert len(caught.value.mistakes) == 2


def test_rows_of_an_endpoint_go_with_it_and_no_others(agents: Agents) -> None:
    rows = agents.hosts["h0"].maps.rows["egress"]
    (endpoint,) = agents.hosts["h0"].agent._tables.own()
    mine = EgressRow(vni=VNI, endpoint=number(endpoint.spec.address), port=4000)
    for port, row in enumerate((mine, replace(mine, endpoint=1), replace(mine, vni=VNI + 1)), 61440):
        rows[EgressKey(own_port=port, proto=6).pack()] = row.pack()
    agents.ask("h0", Request(verb="DEL", container_id="c0"))
    assert sorted(EgressKey.unpack(key).own_port for key in rows) == [61441, 61442]
