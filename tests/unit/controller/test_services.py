"""What services of VPCs are made of a cluster's Services. Numbers in names: docs/upstream-cases.md."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest

from node_agent.controller.services import Network, Verdict, judge, object_name, steps
from node_agent.model.addresses import MAX_BACKENDS
from node_agent.model.config import Listed
from node_agent.model.objects import (
    BackendPort,
    Meta,
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkService,
    NetworkServiceSpec,
    ServiceBackend,
    ServicePort,
    Vpc,
    VpcSpec,
)
from node_agent.model.wishes import Wish
from node_agent.store.kubernetes_services import Port, Service, Slice, Target, read_service, read_slice

VIP = "10.96.0.20"
API, DNS = "198.18.0.10", "198.18.0.11"
LISTED = frozenset(
    {
        Listed(address=API, port=443, protocol="tcp"),
        Listed(address=DNS, port=53, protocol="udp"),
        Listed(address=DNS, port=53, protocol="tcp"),
    }
)
HTTP = Port(name="http", protocol="TCP", port=80, target=8080)


def service(*ports: Port, vpc: str = "", subnet: str = "", **more: Any) -> Service:
    given = {"namespace": "shop", "name": "web", "addresses": (VIP,), **more}
    asked = Wish(whose=f"service {given['namespace']}/{given['name']}", vpc=vpc, subnet=subnet)
    return Service(wish=asked, ports=ports or (HTTP,), **given)


def behind(*targets: Target, **ports: int) -> Slice:
    """Ports by name; they are TCP, those that begin with `u` are UDP."""
    numbers = ports or {"http": 8080}
    return Slice(
        service="shop/web",
        ports=tuple(Port(name=n, protocol="UDP" if n[0] == "u" else "TCP", port=p) for n, p in numbers.items()),
        targets=targets,
    )


def pod(address: str, name: str, **state: bool) -> Target:
    return Target(address=address, pod=f"shop/{name}", **state)


def starting(address: str, name: str) -> Target:
    return pod(address, name, ready=False, serving=False)


def ending(address: str, name: str, *, serving: bool = True) -> Target:
    return pod(address, name, ready=False, serving=serving, terminating=True)


def lives(vpc: str, address: str, name: str, *, deleting: bool = False) -> NetworkEndpoint:
    spec = NetworkEndpointSpec(
        vpc=vpc, subnet=f"{vpc}-a", address=address, host="h", container_id=name, workload=f"shop/{name}"
    )
    return NetworkEndpoint(name=f"{vpc}-{address}", spec=spec, meta=Meta(deleting=deleting))


def network(
    *endpoints: NetworkEndpoint, vpcs: Collection[str] = ("blue", "red"), namespaces: Mapping[str, Wish] | None = None
) -> Network:
    workloads: dict[str, dict[str, NetworkEndpoint]] = {}
    for each in endpoints:
        workloads.setdefault(each.spec.workload, {})[each.name] = each
    return Network(
        namespaces={"shop": Wish(whose="namespace shop")} if namespaces is None else namespaces,
        vpcs={name: Vpc(name=name, spec=VpcSpec(cidr="10.0.0.0/8")) for name in vpcs},
        subnets={f"{name}-a": name for name in vpcs},
        workloads=workloads,
        addresses={(each.spec.vpc, each.spec.address): each.name for each in endpoints},
        default=Wish(whose="default of the controller", vpc="blue"),
        listed=LISTED,
    )


ONE, TWO = lives("blue", "10.0.1.2", "one"), lives("blue", "10.0.1.3", "two")


def made(found: Verdict) -> NetworkServiceSpec:
    [spec] = found.specs.values()
    return spec


def states(found: Verdict) -> dict[str, str]:
    return {backend.address: backend.state for backend in made(found).backends}


def test_a_service_of_pods_is_one_of_their_vpc() -> None:
    found = judge(service(), [behind(pod("10.0.1.3", "two"), pod("10.0.1.2", "one"))], network(ONE, TWO))
    assert dict(found.specs) == {
        "shop.web.blue": NetworkServiceSpec(
            vpc="blue",
            vip=VIP,
            ports=(ServicePort(protocol="tcp", port=80, target_port=8080, name="http"),),
            backends=(ServiceBackend(address="10.0.1.2"), ServiceBackend(address="10.0.1.3")),
            source="shop/web",
        )
    }
    assert not found.said


def test_the_order_of_slices_and_addresses_makes_no_difference() -> None:
    slices = [behind(pod("10.0.1.3", "two")), behind(pod("10.0.1.2", "one"))]
    assert judge(service(), slices, network(ONE, TWO)) == judge(service(), slices[::-1], network(ONE, TWO))


@pytest.mark.parametrize(
    ("own", "namespace", "expected"),
    [
        ({}, {}, "blue"),
        ({}, {"vpc": "red"}, "red"),
        ({}, {"subnet": "red-a"}, "red"),
        ({"vpc": "blue"}, {"vpc": "red"}, "blue"),
        ({"subnet": "red-a"}, {"vpc": "blue"}, "red"),
    ],
)
def test_11_the_nearest_annotation_decides_the_vpc(
    own: dict[str, str], namespace: dict[str, str], expected: str
) -> None:
    known = network(namespaces={"shop": Wish(whose="namespace shop", **namespace)})
    assert made(judge(service(**own), [], known)).vpc == expected


def test_a_service_belongs_to_no_vpc_that_its_namespace_may_not_use_nor_to_any_before_that_is_known() -> None:
    bound = Wish(whose="namespace shop", allowed=("red",))
    found = judge(service(HTTP), [behind(pod("10.0.1.2", "one"), http=8080)], network(ONE, namespaces={"shop": bound}))
    assert not found.specs and "VPC 'blue' is none that namespace shop may use" in found.said[0]
    found = judge(service(HTTP), [behind(pod("10.0.1.2", "one"), http=8080)], network(ONE, namespaces={}))
    assert not found.specs and not found.said


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"vpc": "nowhere"}, "service shop/web: vpc: there is no VPC 'nowhere'"),
        ({"subnet": "nowhere"}, "service shop/web: there is no subnet 'nowhere'"),
    ],
)
def test_03_what_is_named_and_not_there_is_no_reason_to_take_the_default(wish: dict[str, str], said: str) -> None:
    found = judge(service(**wish), [], network())
    assert (dict(found.specs), found.said) == ({}, (said,))
    assert set(wish.items()) <= {(kind, name) for kind, name in found.depends}


def test_a_deleting_vpc_gets_no_service_and_without_any_default_it_says_which_annotation() -> None:
    known = network()
    deleting = replace(known.vpcs["blue"], meta=Meta(deleting=True))
    assert not judge(service(), [], replace(known, vpcs={"blue": deleting})).specs
    found = judge(service(), [], replace(known, default=Wish(whose="default")))
    assert not found.specs and "mizar.com/vpc" in found.said[0]


def test_22_an_equal_address_in_another_vpc_is_no_backend() -> None:
    theirs = lives("red", "10.0.1.2", "theirs")
    slices = [behind(pod("10.0.1.2", "one"), pod("10.0.1.2", "theirs"), pod("10.0.1.9", "theirs"))]
    known = network(ONE, theirs)
    assert states(judge(service(), slices, known)) == {"10.0.1.2": "ready"}
    only_theirs = [behind(pod("10.0.1.2", "theirs"))]
    found = judge(service(), only_theirs, known)
    assert not states(found), "the address is ours, the pod is not"
    assert found.said == ("no endpoint of VPC blue, so no backend: 10.0.1.2 of pod shop/theirs",)
    assert states(judge(service(vpc="red"), slices, known)) == {"10.0.1.2": "ready"}


def test_an_endpoint_that_is_being_removed_is_no_backend() -> None:
    gone = lives("blue", "10.0.1.2", "one", deleting=True)
    assert not states(judge(service(), [behind(pod("10.0.1.2", "one"))], network(gone)))


def test_pods_that_are_not_ready_get_nothing_new() -> None:
    slices = [behind(pod("10.0.1.2", "one"), starting("10.0.1.3", "two"))]
    assert states(judge(service(), slices, network(ONE, TWO))) == {"10.0.1.2": "ready", "10.0.1.3": "serving"}


def test_a_pod_that_fails_its_probe_keeps_connections_but_not_datagrams() -> None:
    both = service(HTTP, Port(name="udp", protocol="UDP", port=53, target=53))
    slices = [behind(pod("10.0.1.2", "one"), starting("10.0.1.3", "two"), http=8080, udp=53)]
    backends = made(judge(both, slices, network(ONE, TWO))).backends
    assert [backend.ports for backend in backends] == [(), (BackendPort(protocol="tcp", port=80, target_port=8080),)]
    only = service(Port(name="udp", protocol="UDP", port=53, target=53))
    assert not made(judge(only, [behind(starting("10.0.1.3", "two"), udp=53)], network(TWO))).backends


def test_a_terminating_pod_keeps_what_it_has_and_is_the_last_resort() -> None:
    known = network(ONE, TWO)
    slices = [behind(pod("10.0.1.2", "one"), ending("10.0.1.3", "two"))]
    assert states(judge(service(), slices, known)) == {"10.0.1.2": "ready", "10.0.1.3": "terminating"}
    alone = [behind(starting("10.0.1.2", "one"), ending("10.0.1.3", "two"))]
    assert states(judge(service(), alone, known)) == {"10.0.1.2": "serving", "10.0.1.3": "ready"}
    mute = [behind(ending("10.0.1.3", "two", serving=False))]
    assert states(judge(service(), mute, known)) == {"10.0.1.3": "terminating"}


def test_addresses_published_before_they_are_ready_are_ready() -> None:
    raw = {
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": ["10.0.1.2"],
                "conditions": {"ready": True, "serving": False, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "one"},
            }
        ],
    }
    found = read_slice(raw)
    assert found is not None
    assert states(judge(service(), [found], network(ONE))) == {"10.0.1.2": "ready"}


def test_a_backend_that_lacks_a_port_is_not_offered_for_it() -> None:
    two = service(HTTP, Port(name="admin", protocol="TCP", port=81, target=0))
    slices = [behind(pod("10.0.1.2", "one"), http=100), behind(pod("10.0.1.3", "two"), admin=101)]
    spec = made(judge(two, slices, network(ONE, TWO)))
    assert [(port.port, port.target_port) for port in spec.ports] == [(80, 100), (81, 101)]
    assert [backend.ports for backend in spec.backends] == [
        (BackendPort(protocol="tcp", port=80, target_port=100),),
        (BackendPort(protocol="tcp", port=81, target_port=101),),
    ]


def test_a_named_target_port_may_be_another_number_in_each_slice() -> None:
    third = lives("blue", "10.0.1.4", "three")
    slices = [
        behind(pod("10.0.1.2", "one"), pod("10.0.1.3", "two"), http=8080),
        behind(pod("10.0.1.4", "three"), http=9090),
    ]
    spec = made(judge(service(replace(HTTP, target=0)), slices, network(ONE, TWO, third)))
    assert [port.target_port for port in spec.ports] == [8080]
    assert [backend.ports for backend in spec.backends] == [
        (),
        (),
        (BackendPort(protocol="tcp", port=80, target_port=9090),),
    ]


def test_one_address_in_two_slices_is_one_backend_with_the_ports_of_both() -> None:
    both = service(HTTP, Port(name="udp", protocol="UDP", port=53, target=53))
    slices = [behind(pod("10.0.1.2", "one"), http=8080), behind(pod("10.0.1.2", "one"), udp=53)]
    [backend] = made(judge(both, slices, network(ONE))).backends
    assert backend == ServiceBackend(address="10.0.1.2")


def test_clients_stick_when_the_service_says_so() -> None:
    assert made(judge(service(sticky=True), [], network())).affinity == "client"
    assert made(judge(service(), [], network())).affinity == "none"


def test_sctp_is_said_and_not_made() -> None:
    found = judge(service(HTTP, Port(name="s", protocol="SCTP", port=9)), [], network())
    assert [port.port for port in made(found).ports] == [80]
    assert found.said == ("port 9/SCTP is left out: services of VPCs have TCP and UDP",)
    assert not judge(service(Port(name="s", protocol="SCTP", port=9)), [], network()).specs


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]},
        {"type": "ExternalName", "externalName": "example.test"},
        {"type": "ExternalName", "clusterIP": VIP, "ports": [{"port": 80}]},
        {"clusterIP": "", "ports": [{"port": 80}]},
    ],
)
def test_headless_services_and_aliases_are_names_only(spec: dict[str, Any]) -> None:
    found = read_service({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec})
    assert judge(found, [behind(pod("10.0.1.2", "one"))], network(ONE)) == Verdict()


def test_of_two_families_the_ipv4_address_is_taken_and_ipv6_alone_is_said() -> None:
    assert made(judge(service(addresses=("fd00::1", VIP)), [], network())).vip == VIP
    found = judge(service(addresses=("fd00::1",)), [], network())
    assert not found.specs and "IPv6" in found.said[0]


def test_the_cluster_ip_of_a_node_port_or_load_balancer_works() -> None:
    for kind in ("NodePort", "LoadBalancer"):
        ports = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30000}]
        spec = {"type": kind, "clusterIP": VIP, "clusterIPs": [VIP], "ports": ports}
        found = read_service({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec})
        assert states(judge(found, [behind(pod("10.0.1.2", "one"))], network(ONE))) == {"10.0.1.2": "ready"}


def test_addresses_by_hand_are_backends_where_they_are_endpoints_of_the_vpc() -> None:
    slices = [behind(Target(address="10.0.1.2"), Target(address="192.0.2.7"))]
    found = judge(service(), slices, network(ONE))
    assert states(found) == {"10.0.1.2": "ready"}
    assert found.said == ("no endpoint of VPC blue, so no backend: 192.0.2.7",)
    assert {("address", "blue/10.0.1.2"), ("address", "blue/192.0.2.7")} <= found.depends


def test_more_than_a_table_holds_leaves_out_those_that_are_not_ready_first() -> None:
    pods = [lives("blue", f"10.0.{n // 200 + 1}.{n % 200 + 2}", f"p{n}") for n in range(MAX_BACKENDS + 1)]
    targets = [pod(each.spec.address, each.spec.workload.partition("/")[2], ready=n > 0) for n, each in enumerate(pods)]
    found = judge(service(), [behind(*targets)], network(*pods))
    assert len(made(found).backends) == MAX_BACKENDS and set(states(found).values()) == {"ready"}
    assert f"only {MAX_BACKENDS} are used" in found.said[0]


def test_the_endpoint_that_has_the_address_wins_over_the_service() -> None:
    holder = lives("blue", VIP, "holder")
    found = judge(service(), [behind(pod("10.0.1.2", "one"))], network(ONE, holder))
    assert not found.specs
    assert found.said == (f"in VPC blue its address {VIP} is that of endpoint blue-{VIP}, which has it",)
    assert ("address", f"blue/{VIP}") in found.depends


def test_a_local_traffic_policy_is_said_to_be_none() -> None:
    assert "internalTrafficPolicy" in judge(service(local=True), [], network()).said[0]


def test_a_verdict_names_what_it_is_made_of() -> None:
    found = judge(service(), [behind(pod("10.0.1.2", "one"))], network(ONE))
    assert found.depends == {
        ("namespace", "shop"),
        ("vpc", "blue"),
        ("workload", "shop/one"),
        ("address", f"blue/{VIP}"),
    }


def kept(name: str, source: str, **more: str) -> NetworkService:
    return NetworkService(name=name, spec=NetworkServiceSpec(vpc="blue", vip=VIP, source=source, **more))


def test_steps_touch_what_the_controller_made_and_nothing_else() -> None:
    name = object_name("shop/web", "blue")
    spec = kept(name, "shop/web").spec
    assert [each.name for each in steps({name: spec}, "shop/web", {}).creates] == [name]
    same = kept(name, "shop/web")
    assert steps({name: spec}, "shop/web", {name: same}) == steps({}, "shop/web", {})
    other = replace(spec, vip="10.96.0.21")
    assert steps({name: other}, "shop/web", {name: same}).updates == ((same, other),)
    assert steps({}, "shop/web", {name: same}).removals == (same,)
    theirs = kept(name, "")
    found = steps({name: other}, "shop/web", {name: theirs})
    assert found.foreign == (name,) and not (found.creates or found.updates or found.removals)
    assert not steps({}, "shop/web", {name: theirs}).removals
