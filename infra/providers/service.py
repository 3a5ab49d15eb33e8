"""Dynamic resource: a service in the store. The members of its VPC's set take it from there; other backends, ports or
another VIP are an update in place, which they see as one. That it answers is the health gate's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import pulumi

from infra.providers import objects
from infra.providers.base import Made, Outputs, Provider
from node_agent.model import codec
from node_agent.model.objects import NetworkService, NetworkServiceSpec


@dataclass(frozen=True, kw_only=True)
class ServiceProps:
    """As in NetworkServiceSpec; ports and backends as mappings with the keys of ServicePort and ServiceBackend."""

    stack: str
    name: str
    vpc: str
    vip: str
    affinity: str
    ports: tuple[Mapping[str, Any], ...]
    backends: tuple[Mapping[str, str], ...]


class ServiceProvider(Provider[ServiceProps]):
    props = ServiceProps

    def observe(self, props: ServiceProps) -> Outputs | None:
        found = objects.find(props.stack, NetworkService, props.name)
        return None if found is None or found.meta.deleting else _outputs(found.spec)

    def ensure(self, props: ServiceProps, had: ServiceProps | None) -> Outputs:
        with objects.opened(props.stack) as store:
            return _outputs(objects.put(store, NetworkService, props.name, _spec(props)).spec)

    def remove(self, props: ServiceProps) -> None:
        found = objects.find(props.stack, NetworkService, props.name)
        # One that was taken to another VPC under its old name is that resource's business now.
        if found is not None and found.spec.vpc == props.vpc:
            objects.drop(props.stack, NetworkService, props.name)


class Service(Made, module="local", name="Service"):
    def __init__(self, name: str, props: ServiceProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(ServiceProvider(), name, props, (), opts)


def _outputs(spec: NetworkServiceSpec) -> Outputs:
    """As inputs say it: a field that they do not have shows only when it is used."""
    plain = codec.encode_part(spec)
    stated = {field.name for field in fields(ServiceProps)}
    backends = [{key: value for key, value in each.items() if value} for each in plain["backends"]]
    return {key: value for key, value in plain.items() if value or key in stated} | {"backends": backends}


def _spec(props: ServiceProps) -> NetworkServiceSpec:
    """Raises Invalid."""
    raw = {key: value for key, value in asdict(props).items() if key not in ("stack", "name")}
    spec: NetworkServiceSpec = codec.decode_part(NetworkService, "spec", raw)
    return spec
