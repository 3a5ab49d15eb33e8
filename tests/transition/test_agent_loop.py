"""The agent's loop: it adopts, mends, reports, and touches nothing it need not."""

import pytest

from node_agent.agent.host import CHECK_EVERY
from node_agent.cni import protocol
from node_agent.cni.protocol import Request
from node_agent.datapath.layout import Config, DropKey, DropReason, EndpointKey, EndpointRow, SubnetKey, VpcKey, VpcRow
from node_agent.model.errors import Invalid, Permanent, Temporary
from node_agent.model.objects import NetworkHost, Subnet, Vpc
from node_agent.rows.config import KEY
from node_agent.rows.endpoints import Port
from node_agent.rows.image import mapped, number
from tests.transition.agents import VNI, Agents

S1 = number("10.0.1.0")


@pytest.fixture
def agents() -> Agents:
    """Four hosts with one endpoint each; h0 and h1 are the set and bounce s1, h0 alone bounces s2."""
    made = Agents(4)
    made.vpc({"h0": "active", "h1": "active"})
    made.subnet((0, 1))
    made.subnet((0,), "s2", "10.0.2.0/28")
    for i in range(4):
        assert made.add(f"h{i}", f"c{i}").code == 0
    made.settle()
    return made


def test_a_restarted_agent_finds_everything_in_order(agents: Agents) -> None:
    before = agents.images()
    for name, host in agents.hosts.items():
        host.maps.steps.clear()
        agents.start(name)
        assert host.maps.steps == []
    assert agents.images() == before


def test_a_restarted_agent_keeps_the_slots_of_the_pinned_rows(agents: Agents) -> None:
    agents.vpc({"h0": "active"}, "red", 8)
    agents.subnet((0,), "r1", "10.0.1.0/28", vpc="red")
    assert agents.add("h3", "red", subnet="r1", vpc="red").code == 0
    agents.delete("h3", "c3")  # slot 1 is free again, red has slot 2
    host = agents.hosts["h3"]
    assert VpcRow.unpack(host.maps.rows["vpcs"][VpcKey(vni=8).pack()]).slot == 2
    host.maps.steps.clear()
    agents.start("h3")
    assert host.maps.steps == []
    assert list(host.maps.sizes) == [2]


def test_what_changed_while_it_was_dead_is_mended_and_pruned(agents: Agents) -> None:
    host = agents.hosts["h0"]
    stray = EndpointKey(vni=VNI, addr=mapped("10.0.1.13")).pack()
    host.maps.rows["endpoints"][stray] = bytes(16)
    host.maps.rows["asked"][bytes(44)] = bytes(16)
    host.alive = False
    agents.delete("h3", "c3")
    agents.settle()
    wanted = {key for key, _ in agents.hosts["h1"].maps.rows["endpoints"].items()}
    agents.start("h0")
    assert set(host.maps.rows["endpoints"]) == wanted
    assert bytes(44) in host.maps.rows["asked"]  # the programs' own


def test_rows_are_not_touched_before_the_store_was_read(agents: Agents) -> None:
    before = agents.images()["h0"]
    agents.store.fail = [Temporary("read store: gone")]
    agents.start("h0")
    assert agents.images()["h0"] == before


def test_a_detached_program_and_a_deleted_row_are_put_back_and_told(agents: Agents) -> None:
    host = agents.hosts["h0"]
    before = host.maps.image()
    host.kernel.hooks = {}
    host.kernel.endpoint_hooks.clear()
    host.maps.rows["serving"].clear()
    del host.maps.sizes[1], host.maps.flows[1]
    agents.clock.advance(10)
    host.agent.turn()
    assert host.maps.image() == before
    assert host.kernel.hooks == {"xdp": "transit_xdp", "tc": "transit_tc"}
    assert len(host.kernel.endpoint_hooks) == 1
    assert list(host.maps.sizes) == [1]
    for said in ("transit_xdp attached", "endpoint_tc attached", "put 3 of serving", "put 1 of flows"):
        assert said in host.log.getvalue()
    assert agents.store.get(NetworkHost, "h0").status.ready


def test_status_verb_tells_and_touches_nothing(agents: Agents) -> None:
    host = agents.hosts["h0"]
    assert agents.ask("h0", Request(verb="STATUS")).code == 0
    host.kernel.hooks = {}
    host.kernel.endpoint_hooks.clear()
    host.kernel.down = True
    host.maps.rows["serving"].clear()
    del host.maps.sizes[1], host.maps.flows[1]
    veth = next(iter(host.kernel.ports))
    host.kernel.ports[veth] = Port(100)
    before, steps = str(host.kernel) + str(host.maps), len(host.maps.steps)
    reply = agents.ask("h0", Request(verb="STATUS"))
    assert reply.code == protocol.LIMITED
    for said in (
        "transit_xdp is not attached to xdp",
        f"endpoint_tc is not attached to {veth}",
        "put 3 of serving",
        "flow table 1 is missing",
        "device of endpoint",
        "uplink0 is down",
    ):
        assert said in reply.message
    assert (str(host.kernel) + str(host.maps), len(host.maps.steps)) == (before, steps)


def test_repair_verb_puts_right_at_once(agents: Agents) -> None:
    host = agents.hosts["h2"]
    host.kernel.hooks = {}
    assert agents.ask("h2", Request(verb="REPAIR")).code == 0
    assert host.kernel.hooks
    host.kernel.down = True
    for verb in ("REPAIR", "STATUS"):
        reply = agents.ask("h2", Request(verb=verb))  # type: ignore[arg-type]
        assert (reply.code, reply.message) == (protocol.LIMITED, "uplink: uplink0 is down")


def test_a_changed_uplink_is_told_by_status_and_to_the_programs_by_repair(agents: Agents) -> None:
    host = agents.hosts["h1"]
    host.kernel.mtu = 1400
    before = dict(host.maps.rows["config"])
    reply = agents.ask("h1", Request(verb="STATUS"))
    assert (reply.code, "mtu=1400" in reply.message) == (protocol.NOT_AVAILABLE, True)
    assert host.maps.rows["config"] == before
    assert agents.ask("h1", Request(verb="REPAIR")).code == 0
    (row,) = host.maps.rows["config"].values()
    assert Config.unpack(row).mtu == 1400
    assert agents.ask("h1", Request(verb="STATUS")).code == 0
    assert agents.add("h1", "c1").mtu == 1350  # added before with 1450


def test_status_tells_programs_problems_and_generations(agents: Agents) -> None:
    said = agents.store.get(NetworkHost, "h0").status
    assert (said.ready, said.mode, [p.hook for p in said.programs]) == (True, "generic", ["tc", "xdp"])
    assert said.generations == {"blue": agents.store.get(Vpc, "blue").meta.resource_version}
    agents.hosts["h0"].kernel.down = True
    agents.clock.advance(10)
    agents.settle()
    said = agents.store.get(NetworkHost, "h0").status
    assert (said.ready, said.problems) == (False, ("uplink: uplink0 is down",))
    agents.hosts["h0"].kernel.down = False
    agents.clock.advance(10)
    agents.settle()
    assert agents.store.get(NetworkHost, "h0").status.ready


def test_heartbeat_every_two_seconds_and_at_once_on_news(agents: Agents) -> None:
    def beats() -> int:
        return agents.store.get(NetworkHost, "h2").meta.resource_version

    before = beats()
    agents.clock.advance(1.0)
    agents.hosts["h2"].agent.turn()
    assert beats() == before
    agents.vpc({"h0": "active", "h1": "active", "h2": "joining"})
    agents.hosts["h2"].agent.turn()
    assert beats() > before
    before = beats()
    agents.clock.advance(2.0)
    agents.hosts["h2"].agent.turn()
    assert beats() > before


def test_a_joining_bouncer_reports_the_generation_once_it_can_answer(agents: Agents) -> None:
    agents.vpc({"h0": "active", "h1": "active", "h2": "joining"})
    agents.subnet((0, 2))
    agents.hosts["h2"].agent.turn()
    maps = agents.hosts["h2"].maps
    assert SubnetKey(vni=VNI, subnet=number("10.0.1.0")).pack() in maps.rows["serving"]
    assert len(maps.rows["endpoints"]) == 4
    rows = [step for step in maps.steps if step.endswith(("endpoints", "serving"))]
    assert rows.index("put 1 of endpoints") < max(i for i, step in enumerate(rows) if step.endswith("serving"))
    assert agents.store.get(NetworkHost, "h2").status.generations == {
        "blue": agents.store.get(Vpc, "blue").meta.resource_version
    }


def test_a_member_that_leaves_forgets_everything(agents: Agents) -> None:
    agents.delete("h1", "c1")
    agents.vpc({"h0": "active"})
    agents.subnet((0,))
    agents.settle()
    assert set(agents.images()["h1"]) == {"config"}
    agents.vpc({"h0": "active", "h1": "active"})
    agents.subnet((0, 1))
    agents.settle()
    assert len(agents.hosts["h1"].maps.rows["endpoints"]) == 3


def test_a_long_silent_store_makes_the_list_stale(agents: Agents) -> None:
    host = agents.hosts["h0"]
    before = dict(host.maps.rows["serving"])
    agents.clock.advance(61)
    agents.store.fail = [Temporary("read store: gone")] * 2
    host.agent.turn()
    changed = {k for k in before if host.maps.rows["serving"][k] != before[k]}
    assert changed == {SubnetKey(vni=VNI, subnet=number(s)).pack() for s in ("10.0.1.0", "10.0.2.0")}
    assert "read store: gone" in host.agent.problems()[0]


def test_a_map_that_refuses_is_told_and_mended_later(agents: Agents) -> None:
    host = agents.hosts["h3"]
    host.maps.fail = [Permanent("write 1 rows of locals: no memory")]
    assert agents.add("h3", "more").code == protocol.FAILED
    reply = agents.add("h3", "more")
    assert reply.code == 0
    assert EndpointKey(vni=VNI, addr=mapped(reply.address)).pack() in host.maps.rows["locals"]
    assert len(host.maps.rows["ports"]) == 2


def test_a_full_map_is_told_and_loses_no_news(agents: Agents) -> None:
    """h1 has too little room for what it must know. What it hears meanwhile counts as soon as there is room again."""
    full, other = agents.hosts["h1"], agents.hosts["h0"]
    full.maps.room["endpoints"] = len(full.maps.rows["endpoints"]) + 1
    for pod in range(4):
        agents.add("h3", f"pod-{pod}")
    agents.settle()
    assert any("rows of endpoints" in said for said in full.agent.problems())
    for pod in range(3):
        assert agents.delete("h3", f"pod-{pod}").code == 0
    agents.settle()
    agents.clock.advance(CHECK_EVERY)
    agents.settle()
    assert not full.agent.problems()
    assert full.maps.rows["endpoints"] == {
        key: row for key, row in other.maps.rows["endpoints"].items() if EndpointRow.unpack(row).subnet == S1
    }


def test_what_a_full_map_is_to_forget_makes_room_for_what_it_must_know(agents: Agents) -> None:
    full, other = agents.hosts["h1"], agents.hosts["h0"]
    full.maps.room["endpoints"] = len(full.maps.rows["endpoints"])
    full.alive = False
    agents.delete("h3", "c3")
    agents.add("h3", "another", address="10.0.1.12")
    agents.start("h1")
    agents.settle()
    assert full.maps.rows["endpoints"] == other.maps.rows["endpoints"]


def test_a_host_that_cannot_carry_the_tunnel_is_refused(agents: Agents) -> None:
    agents.hosts["h0"].kernel.mistakes = ["uplink: tx-udp-segmentation of uplink0 must be off"]
    with pytest.raises(Invalid, match="tx-udp-segmentation"):
        agents.start("h0")


def test_config_row_names_this_host(agents: Agents) -> None:
    row = Config.unpack(agents.hosts["h2"].maps.rows["config"][KEY])
    assert (row.self, row.uplink, row.fresh) == (number("198.18.0.12"), 2, 7500)


def test_hosts_without_a_role_watch_nothing_that_grows(agents: Agents) -> None:
    agents.join()
    needs = set(agents.hosts["h4"].agent._intent._open)
    always = {("vpcs", ""), ("own", ""), ("held", ""), ("moved", "")}
    assert needs == always
    assert set(agents.hosts["h3"].agent._intent._open) == always | {("subnet", "s1")}
    assert set(agents.hosts["h1"].agent._intent._open) == always | {
        ("subnets", "blue"),
        ("services", "blue"),
        ("endpoints", "s1"),
    }


def test_a_subnet_that_goes_takes_its_rows_along(agents: Agents) -> None:
    agents.store.delete(Subnet, "s2")
    agents.settle()
    assert SubnetKey(vni=VNI, subnet=number("10.0.2.0")).pack() not in agents.hosts["h0"].maps.rows["serving"]
    assert len(agents.hosts["h0"].maps.rows["routes"]) == 1


def test_without_its_host_object_the_agent_says_so(agents: Agents) -> None:
    agents.store.delete(NetworkHost, "h3")
    agents.clock.advance(2)
    agents.settle()
    assert agents.hosts["h3"].agent.problems() == ["write status: the store has no host h3"]


def test_what_was_counted_of_a_vpc_goes_with_it(agents: Agents) -> None:
    host = agents.hosts["h3"]
    counts = {vni: DropKey(vni=vni, reason=DropReason.NO_VPC).pack() for vni in (0, VNI, VNI + 1)}
    host.maps.rows["drops"] = dict.fromkeys(counts.values(), bytes(8))
    host.agent.check()
    assert set(host.maps.rows["drops"]) == {counts[0], counts[VNI]}


def test_roles_that_come_and_go_take_no_row_of_an_endpoint_away(agents: Agents) -> None:
    """Which watch shows the subnet changes with them; the endpoint's own packets must not fall in between."""
    host = agents.hosts["h2"]
    before = {name: dict(host.maps.rows[name]) for name in ("ports", "locals")}
    host.maps.steps.clear()
    for roles, bouncers in (({"h0": "active", "h1": "active", "h2": "active"}, (0, 1, 2)),
                            ({"h0": "active", "h1": "active"}, (0, 1))):  # fmt: skip
        agents.vpc(roles)  # type: ignore[arg-type]
        agents.subnet(bouncers)
        agents.settle()
    assert [step for step in host.maps.steps if "ports" in step or "locals" in step] == []
    assert {name: host.maps.rows[name] for name in before} == before
