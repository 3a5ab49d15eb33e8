"""Rows of services: what a member knows of them, and what an update touches."""

import dataclasses
from collections import Counter
from typing import Any

import pytest

from node_agent.datapath.layout import (
    BackendFlag,
    BackendKey,
    BackendRow,
    Limit,
    MaglevKey,
    MaglevRow,
    ServiceFlag,
    ServiceKey,
    ServiceRow,
)
from node_agent.model.objects import BackendPort, NetworkService, NetworkServiceSpec, ServiceBackend, ServicePort
from node_agent.rows import host as host_rows
from node_agent.rows.endpoints import Port
from node_agent.rows.host import Desired
from node_agent.rows.image import MapImage, number
from node_agent.rows.services import service_rows
from tests.unit.rows.test_host import MEMBERS, A, service, subnet, vpc, world
from tests.whole import desired

SIZE = int(Limit.MAGLEV_SIZE)
VIP = number("10.0.0.10")
DNS = NetworkService(
    name="dns",
    spec=NetworkServiceSpec(
        vpc="blue",
        vip="10.0.0.10",
        affinity="client",
        ports=(
            ServicePort(protocol="tcp", port=80, target_port=8080),
            ServicePort(protocol="udp", port=53, target_port=5353),
        ),
        backends=(
            ServiceBackend(address="10.0.1.2"),
            ServiceBackend(address="10.0.1.3"),
            ServiceBackend(address="10.0.1.4", state="serving"),
            ServiceBackend(address="10.0.1.5", state="terminating"),
        ),
    ),
)


def at(host: str, *services: NetworkService) -> MapImage:
    return desired(world(host, vpc(MEMBERS), subnet((0, 1)), *services))


def slots(image: MapImage, port: int = 80, proto: int = 6, vip: int = VIP) -> list[MaglevRow]:
    keys = [MaglevKey(vni=7, vip=vip, port=port, proto=proto, slot=slot).pack() for slot in range(SIZE)]
    return [MaglevRow.unpack(image["maglev"][key]) for key in keys]


def steps(model: Desired, new: NetworkService) -> list[str]:
    return [str(change) for change in model.put(new)]


def test_every_port_has_a_row_and_the_vip_answers_ping() -> None:
    rows = {ServiceKey.unpack(k): ServiceRow.unpack(v) for k, v in at("h0", DNS)["services"].items()}
    assert rows == {
        ServiceKey(vni=7, vip=VIP, port=80, proto=6): ServiceRow(size=SIZE, flags=ServiceFlag.AFFINITY),
        ServiceKey(vni=7, vip=VIP, port=53, proto=17): ServiceRow(size=SIZE, flags=ServiceFlag.AFFINITY),
        ServiceKey(vni=7, vip=VIP, port=0, proto=1): ServiceRow(),
    }


def test_only_ready_backends_have_slots_and_the_same_on_every_port_and_member() -> None:
    image = at("h0", DNS)
    assert len(image["maglev"]) == 2 * SIZE
    tcp, udp = slots(image), slots(image, 53, 17)
    assert [row.addr for row in tcp] == [row.addr for row in udp]
    assert ({row.port for row in tcp}, {row.port for row in udp}) == ({8080}, {5353})
    assert sorted(Counter(row.addr for row in tcp).items()) == [
        (number("10.0.1.2"), SIZE // 2 + 1),
        (number("10.0.1.3"), SIZE // 2),
    ]
    mixed = dataclasses.replace(DNS, spec=dataclasses.replace(DNS.spec, backends=DNS.spec.backends[::-1]))
    for host in ("h0", "h1", "h2"):  # h2 is joining
        assert at(host, mixed) | {"serving": {}} == at(host, DNS) | {"serving": {}}
        assert at(host, DNS)["maglev"] == image["maglev"]


def test_who_leaves_keeps_what_it_has() -> None:
    rows = {BackendKey.unpack(k) for k in at("h0", DNS)["backends"]}
    ports = ((8080, 80, 6), (5353, 53, 17))
    assert rows == {
        BackendKey(vni=7, addr=number(f"10.0.1.{last}"), vip=vip, port=port, vip_port=vip and vip_port, proto=proto)
        for last in (2, 3, 4, 5)
        for port, vip_port, proto in ports
        for vip in (VIP, 0)
    }


def test_a_service_without_ready_backends_is_known_and_empty() -> None:
    image = at("h0", service(ServiceBackend(address="10.0.1.2", state="terminating")))
    assert {ServiceRow.unpack(value).size for value in image["services"].values()} == {0}
    assert "maglev" not in image
    assert len(image["backends"]) == 2
    assert "backends" not in at("h0", service())


def test_members_alone_know_services() -> None:
    assert not {"services", "maglev", "backends"} & set(at("h5", DNS))
    holder = desired(world("h5", vpc(MEMBERS), subnet((0, 1)), A, DNS, links={A.name: Port(42)}, slots={7: 9}))
    assert not {"services", "maglev", "backends"} & set(holder)
    assert {"services", "maglev", "backends"} <= set(at("h1", DNS))
    assert "services" not in desired(world("h0", vpc(MEMBERS, vni=0), DNS))


def test_an_update_of_backends_touches_what_it_changes() -> None:
    model = Desired(world("h0", vpc(MEMBERS), subnet((0,)), service("10.0.1.2", "10.0.1.3")))
    before = slots(model.image())
    more = steps(model, service("10.0.1.2", "10.0.1.3", "10.0.1.4"))
    after = slots(model.image())
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert SIZE // 3 <= moved < SIZE // 2
    assert more == ["put 2 of backends", f"put {moved} of maglev"]
    assert steps(model, service("10.0.1.2", "10.0.1.3")) == [f"put {moved} of maglev", "delete 2 of backends"]
    assert slots(model.image()) == before
    leaving = service("10.0.1.2", ServiceBackend(address="10.0.1.3", state="terminating"))
    assert steps(model, leaving) == [f"put {SIZE // 2} of maglev"]  # it keeps what it has
    assert steps(model, service()) == ["put 1 of services", f"delete {SIZE} of maglev", "delete 4 of backends"]


def test_a_backend_that_two_services_share_stays_known_until_both_let_go() -> None:
    model = Desired(
        world("h0", vpc(MEMBERS), service("10.0.1.2", name="one"), service("10.0.1.2", name="two", vip="10.0.0.11"))
    )
    shared = BackendKey(vni=7, addr=number("10.0.1.2"), port=8080, proto=6).pack()
    model.gone("NetworkService", "one")
    assert shared in model.image()["backends"]
    assert slots(model.image(), vip=number("10.0.0.11"))
    model.put(service(name="two", vip="10.0.0.11"))
    assert "backends" not in model.image()


def test_services_of_one_backend_are_not_made_anew_when_another_joins_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[str]()

    def counted(service: NetworkService, *rest: Any) -> MapImage:
        made.append(service.name)
        return service_rows(service, *rest)

    model = Desired(world("h0", vpc(MEMBERS)))
    monkeypatch.setattr(host_rows, "service_rows", counted)
    names = [f"s{number}" for number in range(20)]
    for at, name in enumerate(names):
        model.put(service("10.0.1.2", name=name, vip=f"10.0.0.{at + 11}"))
    assert made == names
    model.gone("NetworkService", "s7")
    assert made == names
    assert model.image() == desired(model.world)


def test_a_service_is_renamed_without_a_moment_of_silence() -> None:
    for old, new in (("one", "two"), ("two", "one")):
        model = Desired(world("h0", vpc(MEMBERS), service("10.0.1.2", name=old)))
        before = model.image()
        assert steps(model, service("10.0.1.2", name=new)) == []
        assert model.gone("NetworkService", old) == []
        assert model.image() == before


def test_a_vip_that_two_claim_belongs_to_the_first_by_name() -> None:
    first, second = service("10.0.1.2", name="one"), service("10.0.1.3", name="two", ports=2)
    for order in ((first, second), (second, first)):
        assert at("h0", *order) == at("h0", first)


def test_who_loses_a_vip_takes_no_backend_from_a_third() -> None:
    model = Desired(
        world("h0", vpc(MEMBERS), service("10.0.1.3", name="two"), service("10.0.1.3", name="x", vip="10.0.0.11"))
    )
    model.put(service("10.0.1.2", name="one"))
    shared = BackendKey(vni=7, addr=number("10.0.1.3"), port=8080, proto=6).pack()
    assert shared in model.image()["backends"]
    assert model.image() == desired(model.world)


def test_a_backend_is_offered_for_the_ports_it_has_where_they_arrive_there() -> None:
    own = (BackendPort(protocol="tcp", port=80, target_port=9090),)
    backends = (ServiceBackend(address="10.0.1.2"), ServiceBackend(address="10.0.1.3", ports=own))
    image = at("h0", dataclasses.replace(DNS, spec=dataclasses.replace(DNS.spec, backends=backends)))
    one, two = number("10.0.1.2"), number("10.0.1.3")
    assert {(row.addr, row.port) for row in slots(image)} == {(one, 8080), (two, 9090)}
    assert {(row.addr, row.port) for row in slots(image, 53, 17)} == {(one, 5353)}
    known = {BackendKey.unpack(key) for key in image["backends"]}
    assert {(key.port, key.proto) for key in known if key.addr == two} == {(9090, 6)}


def test_a_vip_outside_of_the_vpcs_prefix_has_rows_like_any_other() -> None:
    outside = dataclasses.replace(DNS, spec=dataclasses.replace(DNS.spec, vip="10.96.0.10"))
    image = at("h0", outside)
    assert {ServiceKey.unpack(key).vip for key in image["services"]} == {number("10.96.0.10")}
    assert len(slots(image, vip=number("10.96.0.10"))) == SIZE


def test_a_backend_outside_of_every_vpc_is_marked_and_is_nobodys_backend_in_here() -> None:
    spec = dataclasses.replace(
        DNS.spec,
        ports=(ServicePort(protocol="tcp", port=443, target_port=6443),),
        backends=(ServiceBackend(address="198.18.0.10", egress=True), ServiceBackend(address="10.0.1.3")),
    )
    image = at("h0", dataclasses.replace(DNS, spec=spec))
    told = {row.addr: row.flags for row in slots(image, port=443)}
    assert told == {number("198.18.0.10"): BackendFlag.EGRESS, number("10.0.1.3"): 0}
    rows = {BackendKey.unpack(k): BackendRow.unpack(v).flags for k, v in image["backends"].items()}
    assert {(key.addr, key.vip): flags for key, flags in rows.items()} == {
        (number("198.18.0.10"), VIP): BackendFlag.EGRESS,
        (number("10.0.1.3"), VIP): 0,
        (number("10.0.1.3"), 0): 0,
    }
