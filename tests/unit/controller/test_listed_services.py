"""Services of listed addresses of hosts: in every VPC, and nothing that is not listed."""

from __future__ import annotations

import pytest

from node_agent.controller.services import judge
from node_agent.model.objects import NetworkService, ServiceBackend
from node_agent.store.kubernetes_services import Port, Slice, Target
from tests.unit.controller.test_services import API, DNS, ONE, behind, lives, made, network, pod, service

KUBERNETES = service(Port(name="https", protocol="TCP", port=443, target=443))
OF_API = behind(Target(address=API), https=443)


def test_28_a_service_of_listed_addresses_is_in_every_vpc() -> None:
    found = judge(KUBERNETES, [OF_API], network())
    assert {name: spec.vpc for name, spec in found.specs.items()} == {"shop.web.blue": "blue", "shop.web.red": "red"}
    assert {spec.backends for spec in found.specs.values()} == {(ServiceBackend(address=API, egress=True),)}
    assert ("vpc", "") in found.depends
    assert len(judge(KUBERNETES, [OF_API], network(vpcs=("blue", "green", "red"))).specs) == 3


def test_ports_that_are_not_listed_have_no_backend() -> None:
    ports = (
        Port(name="udns", protocol="UDP", port=53, target=53),
        Port(name="dns-tcp", protocol="TCP", port=53, target=53),
        Port(name="metrics", protocol="TCP", port=9153, target=9153),
    )
    host = Target(address=DNS, pod="kube-system/coredns")
    found = judge(service(*ports), [behind(host, **{"udns": 53, "dns-tcp": 53, "metrics": 9153})], network())
    for spec in found.specs.values():
        assert [port.port for port in spec.ports] == [53, 9153, 53]
        [backend] = spec.backends
        assert backend.egress
        assert {(each.protocol, each.port) for each in backend.ports} == {("udp", 53), ("tcp", 53)}
    assert len(found.specs) == 2 and found.said == ()
    assert found.meant == (f"port 9153/TCP has no backend: 9153 of {DNS} of pod kube-system/coredns is not listed",)


@pytest.mark.parametrize(
    "slices",
    [
        [behind(Target(address=API), Target(address="198.18.0.99"), https=443)],
        [behind(Target(address=API), https=6443)],
        [behind(Target(address="198.18.0.99"), https=443)],
        [OF_API, behind(pod("10.0.1.2", "one"), https=443)],
    ],
)
def test_what_is_not_listed_is_never_reached(slices: list[Slice]) -> None:
    found = judge(KUBERNETES, slices, network(ONE))
    assert [spec.vpc for spec in found.specs.values()] == ["blue"]
    assert not [backend for spec in found.specs.values() for backend in spec.backends if backend.egress]


def test_a_pod_with_the_address_of_a_listed_host_is_a_pod() -> None:
    tenant = lives("blue", API, "tenant")
    found = judge(KUBERNETES, [behind(pod(API, "tenant"), https=443)], network(tenant))
    assert dict(found.specs).keys() == {"shop.web.blue"}
    assert made(found).backends == (ServiceBackend(address=API),)


def test_a_listed_service_stays_everywhere_while_its_pod_is_replaced() -> None:
    first = judge(KUBERNETES, [OF_API], network())
    had = [NetworkService(name=name, spec=spec) for name, spec in first.specs.items()]
    between = judge(KUBERNETES, [], network(), had)
    assert between.specs.keys() == first.specs.keys()
    assert not any(spec.backends for spec in between.specs.values())
    assert judge(KUBERNETES, [], network()).specs.keys() == {"shop.web.blue"}
    unready = [behind(Target(address=API, ready=False, serving=False), https=443)]
    assert judge(KUBERNETES, unready, network()).specs.keys() == first.specs.keys()
