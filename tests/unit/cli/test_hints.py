"""What a person who traces a packet is told besides its way."""

from __future__ import annotations

from node_agent.cli.hints import hints
from node_agent.model.objects import (
    NetworkEndpoint,
    NetworkEndpointSpec,
    NetworkEndpointStatus,
    NetworkService,
    NetworkServiceSpec,
    ServiceBackend,
    ServicePort,
    Vpc,
    VpcSpec,
)


def endpoint(name: str, vpc: str, address: str, host: str = "host-1") -> NetworkEndpoint:
    return NetworkEndpoint(
        name=f"{vpc}-{address}",
        spec=NetworkEndpointSpec(
            vpc=vpc, subnet=f"{vpc}-a", address=address, host="host-1", container_id=name, workload=name
        ),
        status=NetworkEndpointStatus(host=host),
    )


def service(name: str, vpc: str, vip: str, *backends: str) -> NetworkService:
    ports = (
        ServicePort(protocol="tcp", port=80, target_port=8080),
        ServicePort(protocol="udp", port=53, target_port=53),
    )
    spec = NetworkServiceSpec(
        vpc=vpc, vip=vip, ports=ports, backends=tuple(ServiceBackend(address=a) for a in backends)
    )
    return NetworkService(name=name, spec=spec)


ANNA = endpoint("anna", "blue", "10.10.1.10")
ENDPOINTS = (ANNA, endpoint("late", "blue", "10.10.1.11", host=""), endpoint("eve", "green", "10.10.1.99"))
SERVICES = (service("web", "blue", "10.10.0.10", "10.10.1.10"), service("idle", "blue", "10.10.0.11"),
            service("far", "green", "10.10.0.99", "10.10.1.99"))  # fmt: skip
VPCS = (Vpc(name="blue", spec=VpcSpec(cidr="10.10.0.0/16")), Vpc(name="green", spec=VpcSpec(cidr="10.10.0.0/16")))


def told(target: str, protocol: str = "icmp", port: int = 0) -> list[str]:
    return hints(ANNA, target, protocol, port, vpcs=VPCS, endpoints=ENDPOINTS, services=SERVICES)


def test_nothing_is_said_where_nothing_was_overlooked() -> None:
    assert told("10.10.0.10", "tcp", 80) == told("10.10.0.10") == told("10.10.7.7") == []


def test_services() -> None:
    assert told("10.10.0.10", "udp", 80) == ["service web has no udp port 80; it has tcp 80, udp 53"]
    assert told("10.10.0.11", "tcp", 80) == ["service idle has no backend"]


def test_addresses_of_others_of_nobody_and_of_oneself() -> None:
    assert told("10.10.1.99") == ["VPC green has it (eve), which VPC blue cannot reach"]
    assert told("10.10.0.99") == ["VPC green has it (service far), which VPC blue cannot reach"]
    assert told("8.8.8.8") == ["8.8.8.8 is outside of VPC blue, which is 10.10.0.0/16"]
    assert told("10.10.1.11") == ["no host holds late yet"]
    assert "never leaves" in told("10.10.1.10")[0]
