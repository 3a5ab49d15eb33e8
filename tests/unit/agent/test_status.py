"""What an agent says of itself."""

from dataclasses import replace

from node_agent.agent import status
from node_agent.model.objects import Meta, SetMember, Vpc, VpcSpec, VpcStatus
from node_agent.rows.host import World


def vpc(name: str, vni: int, *hosts: str) -> Vpc:
    members = tuple(SetMember(place=i, host=host, address="198.18.0.1") for i, host in enumerate(hosts))
    return Vpc(
        name=name,
        spec=VpcSpec(cidr="10.0.0.0/16"),
        status=VpcStatus(vni=vni, members=members),
        meta=Meta(resource_version=vni * 10),
    )


def test_generations_are_of_vpcs_this_host_serves_or_lives_in() -> None:
    vpcs = {v.name: v for v in (vpc("served", 1, "h"), vpc("lived", 2, "x"), vpc("other", 3, "x"))}
    world = World("h", vpcs=vpcs, slots={2: 1})
    assert status.generations(world, set()) == {"served": 10, "lived": 20}
    assert status.generations(world, {"served"}) == {"lived": 20}


def test_ready_needs_rows_and_no_problem() -> None:
    def said(synced: bool, *problems: str) -> bool:
        return status.status(now=1.0, pid=2, mode="tc", synced=synced, problems=problems, programs=(), rows={}).ready

    assert [said(True), said(False), said(True, "x")] == [True, False, False]


def test_a_heartbeat_alone_is_no_news() -> None:
    old = status.status(now=1.0, pid=2, mode="tc", synced=True, problems=(), programs=(), rows={})
    assert status.differs(old, None)
    assert not status.differs(replace(old, heartbeat=9.0), old)
    assert status.differs(replace(old, problems=("x",)), old)
