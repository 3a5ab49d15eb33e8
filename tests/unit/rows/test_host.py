"""Rows of a whole host: by role, and event by event equal to all at once."""

import dataclasses
import random

import pytest

from node_agent.datapath.layout import (
    EndpointKey,
    EndpointRow,
    LocalRow,
    PortKey,
    PortRow,
    RouteRow,
    ServingRow,
    SubnetKey,
    SubnetRow,
    VpcKey,
    VpcRow,
)
from node_agent.model.objects import (
    MemberState,
    Meta,
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkService,
    NetworkServiceSpec,
    ServiceBackend,
    ServicePort,
    SetMember,
    Subnet,
    SubnetSpec,
    SubnetStatus,
    Vpc,
    VpcSpec,
    VpcStatus,
)
from node_agent.rows import diff
from node_agent.rows.endpoints import Port
from node_agent.rows.host import Desired, World, bounced
from node_agent.rows.image import mapped, number
from tests.whole import apply, desired


def address(host: str) -> str:
    return f"198.18.0.{10 + int(host.removeprefix('h'))}"


def vpc(members: dict[int, tuple[str, MemberState]], vni: int = 7, name: str = "blue") -> Vpc:
    return Vpc(
        name=name,
        spec=VpcSpec(cidr="10.0.0.0/16"),
        status=VpcStatus(
            vni=vni,
            members=tuple(
                SetMember(place=place, host=host, address=address(host), state=state)
                for place, (host, state) in members.items()
            ),
        ),
    )


def subnet(bouncers: tuple[int, ...], name: str = "s1", cidr: str = "10.0.1.0/24", of: str = "blue") -> Subnet:
    return Subnet(name=name, spec=SubnetSpec(vpc=of, cidr=cidr), status=SubnetStatus(bouncers=bouncers))


def endpoint(
    at: str, host: str, *, of: str = "s1", held: bool = True, vni: int = 7, in_vpc: str = "blue", uid: str = ""
) -> NetworkEndpoint:
    status = NetworkEndpointStatus(host=host, host_address=address(host)) if held else NetworkEndpointStatus()
    return NetworkEndpoint(
        name=f"{vni}-{at}",
        status=status,
        meta=Meta(uid=uid or f"uid {vni} {at}"),
        spec=NetworkEndpointSpec(vpc=in_vpc, subnet=of, address=at, host=host, container_id=at),
    )


def service(
    *backends: str | ServiceBackend, name: str = "web", vip: str = "10.0.0.10", of: str = "blue", ports: int = 1
) -> NetworkService:
    """Ports 80 and on of TCP, to 8080 of the backends."""
    return NetworkService(
        name=name,
        spec=NetworkServiceSpec(
            vpc=of,
            vip=vip,
            ports=tuple(ServicePort(protocol="tcp", port=80 + i, target_port=8080) for i in range(ports)),
            backends=tuple(ServiceBackend(address=b) if isinstance(b, str) else b for b in backends),
        ),
    )


def world(
    host: str,
    *objects: Vpc | Subnet | NetworkEndpoint | NetworkService,
    links: dict[str, Port] | None = None,
    slots: dict[int, int] | None = None,
) -> World:
    vpcs = {o.name: o for o in objects if isinstance(o, Vpc)}
    subnets = {o.name: o for o in objects if isinstance(o, Subnet)}
    endpoints = {o.name: o for o in objects if isinstance(o, NetworkEndpoint)}
    services = {o.name: o for o in objects if isinstance(o, NetworkService)}
    listed = [(kind, name) for kind in ("Vpc", "NetworkService") for name in vpcs]
    listed += [("Subnet", name) for name in subnets]
    return World(host, vpcs, subnets, endpoints, services, links or {}, slots or {}, frozenset(listed))


MEMBERS: dict[int, tuple[str, MemberState]] = {0: ("h0", "active"), 1: ("h1", "active"), 2: ("h2", "joining")}
A = endpoint("10.0.1.2", "h5")


def test_a_bouncer_knows_where_endpoints_live() -> None:
    image = desired(world("h0", vpc(MEMBERS), subnet((0, 1)), A, endpoint("10.0.1.3", "h6", held=False)))
    rows = image["endpoints"]
    assert list(rows) == [EndpointKey(vni=7, addr=mapped("10.0.1.2")).pack()]
    assert EndpointRow.unpack(next(iter(rows.values()))) == EndpointRow(
        host=number("198.18.0.15"), subnet=number("10.0.1.0"), tag=A.tag
    )
    assert set(image["serving"]) == {
        SubnetKey(vni=7, subnet=0).pack(),
        SubnetKey(vni=7, subnet=number("10.0.1.0")).pack(),
    }


def test_a_divider_that_does_not_bounce_knows_subnets_only() -> None:
    image = desired(world("h1", vpc(MEMBERS), subnet((0,)), A))
    assert set(image) == {"vpcs", "subnets", "routes", "serving"}
    assert set(image["serving"]) == {SubnetKey(vni=7, subnet=0).pack()}
    assert [RouteRow.unpack(value).subnet for value in image["routes"].values()] == [number("10.0.1.0")]


def test_joining_and_leaving_members_are_accepted_and_not_asked() -> None:
    members: dict[int, tuple[str, MemberState]] = {0: ("h0", "leaving"), 3: ("h1", "active"), 15: ("h2", "joining")}
    row = VpcRow.unpack(desired(world("h1", vpc(members)))["vpcs"][VpcKey(vni=7).pack()])
    assert (row.ask, row.accept) == (1 << 3, 1 << 0 | 1 << 3 | 1 << 15)
    assert (row.members[0], row.members[3], row.members[15], row.members[1]) == (
        number(address("h0")),
        number(address("h1")),
        number(address("h2")),
        0,
    )
    assert row.slot == 0


def test_a_joining_bouncer_already_holds_its_rows() -> None:
    image = desired(world("h2", vpc(MEMBERS), subnet((1, 2)), A))
    assert len(image["endpoints"]) == 1
    assert len(image["serving"]) == 2
    assert SubnetRow.unpack(next(iter(image["subnets"].values()))).bouncers == 0b110


def test_what_is_for_an_endpoint_with_a_queue_passes_it() -> None:
    links = {A.name: Port(42, queued=True)}
    image = desired(world("h5", vpc(MEMBERS), subnet((0, 1)), A, links=links, slots={7: 9}))
    assert [LocalRow.unpack(row).queued for row in image["locals"].values()] == [1]


def test_a_host_with_an_endpoint_knows_whom_to_ask() -> None:
    image = desired(world("h5", vpc(MEMBERS), subnet((0, 1)), A, links={A.name: Port(42)}, slots={7: 9}))
    assert set(image) == {"vpcs", "subnets", "locals", "ports"}
    local = LocalRow.unpack(image["locals"][EndpointKey(vni=7, addr=mapped("10.0.1.2")).pack()])
    port = PortRow.unpack(image["ports"][PortKey(ifindex=42).pack()])
    assert (local.ifindex, local.slot, local.tag, local.mac) == (42, 9, A.tag, port.mac)
    assert (local.gateway, local.queued) == (port.gateway, 0)
    assert (port.vni, port.slot, port.gateway, port.tag) == (7, 9, number("10.0.1.1"), A.tag)


def test_a_host_without_role_holds_nothing() -> None:
    assert desired(world("h9", vpc(MEMBERS), subnet((0, 1)), A)) == {}
    assert desired(world("h0", vpc(MEMBERS, vni=0), subnet((0, 1)), A, links={A.name: Port(4)}, slots={})) == {}


def test_serving_waits_for_the_list_and_tells_of_a_stale_one() -> None:
    full = world("h0", vpc(MEMBERS), subnet((0,)), A)
    assert "serving" not in desired(dataclasses.replace(full, listed=frozenset()))
    old = desired(dataclasses.replace(full, stale=frozenset({"s1"})))["serving"]
    assert ServingRow.unpack(old[SubnetKey(vni=7, subnet=number("10.0.1.0")).pack()]).stale == 1
    assert ServingRow.unpack(old[SubnetKey(vni=7, subnet=0).pack()]).stale == 0


def test_a_member_waits_for_the_services_too() -> None:
    full = world("h0", vpc(MEMBERS), subnet((0,)), service("10.0.1.2"))
    whole = SubnetKey(vni=7, subnet=0).pack()
    for missing in (("Vpc", "blue"), ("NetworkService", "blue")):
        assert whole not in desired(dataclasses.replace(full, listed=full.listed - {missing}))["serving"]
        model = Desired(dataclasses.replace(full, listed=full.listed - {missing}))
        assert [str(change) for change in model.know(full.listed)] == ["put 1 of serving"]


def test_an_endpoint_that_is_being_removed_is_no_longer_bounced() -> None:
    going = dataclasses.replace(A, meta=Meta(uid="x", deleting=True))
    assert "endpoints" not in desired(world("h0", vpc(MEMBERS), subnet((0,)), going))


@pytest.mark.parametrize("count", [7, 9])
def test_endpoint_rows_do_not_depend_on_the_number_of_hosts(count: int) -> None:
    endpoints = [endpoint(f"10.0.1.{2 + i}", f"h{i % 7}") for i in range(14)]
    assert count >= 7  # the two new hosts appear in none of the objects a kept bouncer reads
    image = desired(world("h0", vpc(MEMBERS), subnet((0, 1)), *endpoints))
    assert len(image["endpoints"]) == 14


def random_event(rng: random.Random, model: Desired) -> list[diff.Change]:
    hosts = [f"h{i}" for i in range(5)]
    pick = rng.randrange(13)
    which = rng.choice(["blue", "red"])
    vni = {"blue": 7, "red": 8}[which]
    if pick == 0:
        chosen = rng.sample(hosts, rng.randrange(4))
        states: list[MemberState] = ["active", "joining", "leaving"]
        places = rng.sample(range(16), len(chosen))
        return model.put(
            vpc(
                {p: (h, rng.choice(states)) for p, h in zip(places, chosen, strict=True)},
                vni=rng.choice([0, vni, vni]),
                name=which,
            )
        )
    if pick == 1:
        return model.gone("Vpc", which)
    number_ = rng.randrange(3)
    name = f"{which}-{number_}"
    if pick in (2, 3):
        members = model.world.vpcs[which].status.members if which in model.world.vpcs else ()
        return model.put(
            subnet(tuple(m.place for m in members if rng.random() < 0.6), name, f"10.{vni}.{number_}.0/24", which)
        )
    if pick == 4:
        return model.gone("Subnet", name)
    at = f"10.{vni}.{number_}.{rng.randrange(2, 6)}"
    if pick in (5, 6):
        return model.put(
            endpoint(
                at, rng.choice(hosts), of=name, held=rng.random() < 0.7, vni=vni, in_vpc=which, uid=rng.choice("ab")
            )
        )
    if pick == 7:
        return model.gone("NetworkEndpoint", f"{vni}-{at}")
    if pick == 8:
        # An interface's number belongs to one endpoint at a time.
        port = Port(vni << 16 | number_ << 8 | int(at.rpartition(".")[2]), rng.choice([False, True]))
        return model.link(f"{vni}-{at}", rng.choice([None, port]))
    if pick in (9, 10):
        chosen = [f"10.{vni}.{number_}.{i}" for i in rng.sample(range(2, 6), rng.randrange(4))]
        backends = [ServiceBackend(address=a, state=rng.choice(["ready", "ready", "terminating"])) for a in chosen]
        # Few names, VIPs and backends: services often share them, and move from one VPC to the other.
        vip, ports = f"10.0.0.{rng.randrange(2)}", rng.randrange(1, 3)
        return model.put(service(*backends, name=f"svc-{rng.randrange(4)}", vip=vip, of=which, ports=ports))
    if pick == 11:
        return model.gone("NetworkService", f"svc-{rng.randrange(4)}")
    subnets = [("Subnet", f"{v}-{i}") for v in ("blue", "red") for i in range(3)]
    keys = [(kind, v) for v in ("blue", "red") for kind in ("Vpc", "NetworkService")] + subnets
    return model.know([k for k in keys if rng.random() < 0.7], [k[1] for k in subnets if rng.random() < 0.2])


@pytest.mark.parametrize("seed", range(40))
def test_event_by_event_is_the_same_as_all_at_once(seed: int) -> None:
    rng = random.Random(seed)
    model = Desired(World("h0"))
    image = model.image()
    for _ in range(200):
        image = apply(image, random_event(rng, model))
        assert image == desired(model.world) == model.image()
    again = Desired(model.world)
    assert again.image() == image
    assert again.world.slots == model.world.slots


def test_an_endpoint_changes_only_its_own_rows() -> None:
    at_bouncer = Desired(
        world("h0", vpc(MEMBERS), subnet((0, 1)), *(endpoint(f"10.0.1.{i}", "h5") for i in range(2, 200)))
    )
    assert [str(c) for c in at_bouncer.put(endpoint("10.0.1.200", "h5"))] == ["put 1 of endpoints"]
    at_divider = Desired(world("h1", vpc(MEMBERS), subnet((0,))))
    assert at_divider.put(endpoint("10.0.1.200", "h5")) == []
    assert bounced(at_bouncer.world) == {"s1"}


def test_the_first_endpoint_brings_its_parents_rows_before_its_own() -> None:
    model = Desired(world("h5", vpc(MEMBERS), subnet((0, 1)), A))
    assert [str(c) for c in model.link(A.name, Port(3))] == [
        "put 1 of vpcs",
        "put 1 of subnets",
        "put 1 of locals",
        "put 1 of ports",
    ]
    assert model.world.slots == {7: 1}
    assert [str(c) for c in model.link(A.name, None)] == [
        "delete 1 of ports",
        "delete 1 of locals",
        "delete 1 of subnets",
        "delete 1 of vpcs",
    ]
    assert model.world.slots == {}
