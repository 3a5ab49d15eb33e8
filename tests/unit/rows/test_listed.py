from __future__ import annotations

import pytest

from node_agent.datapath.layout import Limit, ListedKey, ListedRow
from node_agent.model.addresses import OUTLET_ADDRESS
from node_agent.model.config import Listed
from node_agent.model.errors import Invalid
from node_agent.rows.image import number
from node_agent.rows.listed import listed_rows

API = Listed(address="198.18.0.10", port=6443, protocol="tcp")
DNS = Listed(address="198.18.0.12", port=53, protocol="udp")


def test_a_row_each_that_says_whose_the_address_is() -> None:
    rows = listed_rows([API, DNS], ["198.18.0.10"])["listed"]
    assert {ListedKey.unpack(k): ListedRow.unpack(v) for k, v in rows.items()} == {
        ListedKey(addr=number("198.18.0.10"), port=6443, proto=6): ListedRow(local=1),
        ListedKey(addr=number("198.18.0.12"), port=53, proto=17): ListedRow(local=0),
    }


def test_somebody_elses_link_local_address_may_be_listed() -> None:
    assert listed_rows([Listed(address="169.254.169.254", port=80, protocol="tcp")], [])["listed"]


def test_every_mistake_at_once() -> None:
    wrong = [
        Listed(address="198.18.0.300", port=0, protocol="tcp"),
        Listed(address="127.0.0.1", port=80, protocol="tcp"),
        Listed(address="224.0.0.1", port=80, protocol="udp"),
        Listed(address=OUTLET_ADDRESS, port=80, protocol="tcp"),
        Listed(address="198.18.0.10", port=int(Limit.WIRE_PORT), protocol="udp"),
        Listed(address="198.18.0.10", port=80, protocol="icmp"),  # type: ignore[arg-type]
    ]
    with pytest.raises(Invalid) as caught:
        listed_rows([API, *wrong], [])
    assert len(caught.value.mistakes) == len(wrong) + 1
    assert any("tunnel" in mistake for mistake in caught.value.mistakes)


def test_tcp_may_have_the_tunnels_number() -> None:
    assert listed_rows([Listed(address="198.18.0.10", port=int(Limit.WIRE_PORT), protocol="tcp")], [])
