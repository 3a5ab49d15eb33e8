"""Rows while an endpoint changes hosts: who speaks for it, who delivers to it, and who says where it went."""

from __future__ import annotations

from dataclasses import replace

from node_agent.datapath.layout import EndpointRow, LocalRow
from node_agent.model.objects import (
    Meta,
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    Subnet,
    SubnetSpec,
    concerns,
    stays,
)
from node_agent.rows.endpoints import endpoint_rows, moved_rows
from node_agent.rows.image import number

OLD, NEW = "198.18.0.10", "198.18.0.11"
SUBNET = Subnet(name="s1", spec=SubnetSpec(vpc="blue", cidr="10.0.1.0/24"))
BEFORE = NetworkEndpoint(
    name="7-10.0.1.5",
    spec=NetworkEndpointSpec(vpc="blue", subnet="s1", address="10.0.1.5", host="new", container_id="c"),
    status=NetworkEndpointStatus(host="old", host_address=OLD),
    meta=Meta(uid="u"),
)
DURING = replace(BEFORE, status=replace(BEFORE.status, next_host="new", next_address=NEW))
AFTER = replace(BEFORE, status=NetworkEndpointStatus(host="new", host_address=NEW, previous_host="old"))


def bounced(endpoint: NetworkEndpoint) -> EndpointRow:
    return EndpointRow.unpack(next(iter(endpoint_rows(endpoint, SUBNET, 7)["endpoints"].values())))


def test_during_a_move_both_hosts_speak_for_the_endpoint_and_the_old_one_delivers() -> None:
    assert [(bounced(e).host, bounced(e).next) for e in (BEFORE, DURING, AFTER)] == [
        (number(OLD), 0),
        (number(OLD), number(NEW)),
        (number(NEW), 0),
    ]


def test_the_old_host_alone_says_where_it_went_once_it_has_gone() -> None:
    row = LocalRow.unpack(next(iter(moved_rows(AFTER, 7, "old")["locals"].values())))
    assert (row.ifindex, row.moved_to, row.tag) == (0, number(NEW), AFTER.tag)
    assert moved_rows(AFTER, 7, "new") == moved_rows(AFTER, 7, "third") == {}
    assert moved_rows(BEFORE, 7, "old") == moved_rows(DURING, 7, "old") == {}


def test_an_endpoint_that_is_being_removed_went_nowhere() -> None:
    assert moved_rows(replace(AFTER, meta=Meta(uid="u", deleting=True)), 7, "old") == {}


def test_a_host_minds_an_endpoint_until_it_has_forgotten_it() -> None:
    assert [(stays(e, "old"), concerns(e, "old")) for e in (BEFORE, DURING, AFTER)] == [
        (True, True),
        (True, True),
        (False, True),
    ]
    assert all(stays(e, "new") for e in (BEFORE, DURING, AFTER))
    assert not concerns(AFTER, "third")
