"""Services come and go: what each of several hosts holds before and after."""

import dataclasses

import pytest

from node_agent.datapath.layout import FlowEntry, FlowKey, NatEntry, NatKind, ServiceKey, ServiceRow, SubnetKey
from node_agent.model.errors import Permanent, Temporary
from node_agent.model.objects import NetworkHost, NetworkService, NetworkServiceSpec, ServiceBackend, ServicePort, Vpc
from node_agent.rows.image import MapImage, mapped, number
from tests.transition.agents import VNI, Agents, Fuse, Killed

SERVICES = {"services", "maglev", "backends"}
WHOLE = SubnetKey(vni=VNI, subnet=0).pack()


@pytest.fixture
def agents() -> Agents:
    """Four hosts with one endpoint each; h0 and h1 are the set, h0 alone bounces s1."""
    made = Agents(4)
    made.vpc({"h0": "active", "h1": "active"})
    made.subnet((0,))
    for i in range(4):
        assert made.add(f"h{i}", f"c{i}").code == 0
    made.settle()
    return made


def spec(*backends: str, vip: str = "10.0.0.10", vpc: str = "blue") -> NetworkServiceSpec:
    return NetworkServiceSpec(
        vpc=vpc,
        vip=vip,
        ports=(ServicePort(protocol="tcp", port=80, target_port=8080),),
        backends=tuple(ServiceBackend(address=address) for address in backends),
    )


def serve(agents: Agents, *backends: str, name: str = "web") -> None:
    agents.store.create(NetworkService(name=name, spec=spec(*backends)))
    agents.settle()


def changed(before: dict[str, MapImage], after: dict[str, MapImage]) -> dict[str, set[str]]:
    """Host -> maps that are not what they were."""
    return {
        host: {name for name in {*image, *after[host]} if image.get(name) != after[host].get(name)}
        for host, image in before.items()
        if image != after[host]
    }


def test_a_service_is_known_to_the_members_only(agents: Agents) -> None:
    before = agents.images()
    serve(agents, "10.0.1.2", "10.0.1.3")
    after = agents.images()
    assert changed(before, after) == {"h0": SERVICES, "h1": SERVICES}
    assert {name: after["h0"][name] for name in SERVICES} == {name: after["h1"][name] for name in SERVICES}
    for host in ("h0", "h1"):
        steps = agents.hosts[host].maps.steps[-3:]
        assert [step.rpartition(" ")[2] for step in steps] == ["backends", "maglev", "services"]
    agents.store.delete(NetworkService, "web")
    agents.settle()
    assert agents.images() == before
    assert [step.rpartition(" ")[2] for step in agents.hosts["h1"].maps.steps[-3:]] == [
        "services",
        "maglev",
        "backends",
    ]


def test_an_update_of_backends_changes_nothing_else(agents: Agents) -> None:
    serve(agents, "10.0.1.2", "10.0.1.3")
    before = agents.images()
    agents.store.put_spec(NetworkService, "web", spec("10.0.1.2", "10.0.1.3", "10.0.1.4"))
    agents.settle()
    grown = agents.images()
    assert changed(before, grown) == {"h0": {"maglev", "backends"}, "h1": {"maglev", "backends"}}
    agents.store.put_spec(NetworkService, "web", spec())
    agents.settle()
    empty = agents.images()
    assert changed(grown, empty) == {"h0": SERVICES, "h1": SERVICES}
    key = ServiceKey(vni=VNI, vip=number("10.0.0.10"), port=80, proto=6).pack()
    assert ServiceRow.unpack(empty["h1"]["services"][key]).size == 0


def test_an_unrelated_vpc_sees_nothing_of_it(agents: Agents) -> None:
    agents.vpc({"h2": "active"}, "red", 8)
    agents.settle()
    agents.store.create(NetworkService(name="red-web", spec=spec("10.0.1.2", vpc="red")))
    agents.settle()
    before = agents.images()
    serve(agents, "10.0.1.2")
    assert set(changed(before, agents.images())) == {"h0", "h1"}
    mine, other = ({ServiceKey.unpack(key).vni for key in agents.images()[host]["services"]} for host in ("h0", "h2"))
    assert (mine, other) == ({VNI}, {8})


def test_a_joining_member_answers_once_it_has_seen_the_services(agents: Agents) -> None:
    serve(agents, "10.0.1.2")
    maps = agents.hosts["h2"].maps
    maps.steps.clear()
    agents.vpc({"h0": "active", "h1": "active", "h2": "joining"})
    agents.hosts["h2"].agent.turn()
    assert WHOLE in maps.rows["serving"]
    order = [step.rpartition(" ")[2] for step in maps.steps]
    assert order.index("services") < order.index("serving")
    assert agents.store.get(NetworkHost, "h2").status.generations == {
        "blue": agents.store.get(Vpc, "blue").meta.resource_version
    }
    agents.vpc({"h0": "active", "h1": "active"})
    agents.settle()
    assert not SERVICES & set(maps.image())


def test_without_the_list_of_services_a_member_does_not_answer_for_the_vpc(agents: Agents) -> None:
    serve(agents, "10.0.1.2")
    agents.vpc({"h0": "active", "h1": "active", "h2": "joining"})
    # Vpc and own endpoints are read, then the new watches in their order: services, then subnets.
    agents.store.fail = [None, None, Temporary("read store: gone")]
    agents.hosts["h2"].agent.turn()
    assert WHOLE not in agents.hosts["h2"].maps.rows["serving"]
    assert "blue" not in agents.store.get(NetworkHost, "h2").status.generations
    agents.settle()
    assert WHOLE in agents.hosts["h2"].maps.rows["serving"]
    assert agents.images()["h2"]["services"] == agents.images()["h0"]["services"]


def test_a_restarted_member_finds_its_services_in_order(agents: Agents) -> None:
    serve(agents, "10.0.1.2", "10.0.1.3")
    before = agents.images()
    for name in ("h0", "h1"):
        agents.hosts[name].maps.steps.clear()
        agents.start(name)
        assert agents.hosts[name].maps.steps == []
    assert agents.images() == before


def test_what_a_dead_member_missed_is_mended(agents: Agents) -> None:
    serve(agents, "10.0.1.2", "10.0.1.3")
    agents.hosts["h0"].alive = False
    agents.store.put_spec(NetworkService, "web", spec("10.0.1.3"))
    serve(agents, "10.0.1.2", name="other")
    agents.store.delete(NetworkService, "other")
    agents.settle()
    agents.start("h0")
    for name in SERVICES:
        assert agents.images()["h0"][name] == agents.images()["h1"][name]


@pytest.mark.parametrize("steps", range(4))
def test_a_member_killed_between_two_steps_is_mended_by_the_next(agents: Agents, steps: int) -> None:
    serve(agents, "10.0.1.2", "10.0.1.3")
    host, fuse = agents.hosts["h0"], Fuse(steps)
    agents.store.put_spec(NetworkService, "web", dataclasses.replace(spec("10.0.1.4"), vip="10.0.0.11"))
    host.maps.before = fuse.step
    with pytest.raises(Killed):
        host.agent.turn()
    host.maps.before = lambda step: None
    agents.start("h0")
    agents.settle()
    for name in SERVICES:
        assert agents.images()["h0"][name] == agents.images()["h1"][name]


def test_rows_that_vanish_are_put_back_and_a_full_map_is_told(agents: Agents) -> None:
    serve(agents, "10.0.1.2")
    host = agents.hosts["h1"]
    before = host.maps.image()
    host.maps.rows["maglev"].popitem()
    agents.clock.advance(10)
    host.agent.turn()
    assert host.maps.image() == before
    assert "put 1 of maglev" in host.log.getvalue()
    host.maps.fail = [Permanent("write 251 rows of maglev: it is full")]
    serve(agents, "10.0.1.3", name="other")
    agents.clock.advance(10)
    agents.settle()
    assert agents.images()["h1"]["maglev"] == agents.images()["h0"]["maglev"]


def test_a_vpcs_nat_table_comes_and_goes_with_its_flow_table(agents: Agents) -> None:
    maps = agents.hosts["h3"].maps
    assert (maps.sizes, maps.nat_sizes) == ({1: 1024}, {1: 256})
    del maps.nats[1], maps.nat_sizes[1]
    agents.clock.advance(10)
    agents.hosts["h3"].agent.turn()
    assert (maps.sizes, maps.nat_sizes) == ({1: 1024}, {1: 256})
    assert "put 1 of flows" in agents.hosts["h3"].log.getvalue()
    agents.delete("h3", "c3")
    assert (maps.sizes, maps.nat_sizes) == ({}, {})


def test_an_endpoint_that_goes_takes_its_nat_pairs_along(agents: Agents) -> None:
    kept = agents.add("h3", "kept").address
    gone = agents.add("h3", "gone").address
    vip, other, gateway = "10.0.0.10", "10.0.1.13", "10.0.1.1"
    maps = agents.hosts["h3"].maps

    def nat(src: str, dst: str, to: tuple[str, str], vni: int = VNI) -> bytes:
        """An entry for src -> dst, which becomes `to`."""
        key = FlowKey(vni=vni, src=mapped(src), dst=mapped(dst), sport=5, dport=80, proto=6).pack()
        flow = FlowEntry(vip=number(vip), vip_port=80)
        entry = NatEntry(flow=(flow,), src=number(to[0]), dst=number(to[1]), kind=NatKind.FORWARD)
        maps.nats[1][key] = entry.pack()
        return key

    nat(gone, vip, (gone, other))
    nat(other, gone, (vip, gone))
    nat(gone, vip, (gateway, gone))  # a backend of its own
    nat(gone, gateway, (vip, gone))
    nat(kept, vip, (kept, gone))  # as another's backend
    nat(gone, kept, (vip, kept))
    left = {nat(kept, vip, (kept, other)), nat(other, kept, (vip, kept)), nat(gone, vip, (gone, other), vni=8)}
    agents.delete("h3", "gone")
    assert set(maps.nats[1]) == left
