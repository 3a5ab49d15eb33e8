"""Dynamic resource: a port of this computer that leads to a server inside the emulated network (for kubectl)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi.dynamic import UpdateResult

from infra.providers.base import Made, Outputs, Provider
from node_agent.emulation.cluster import doors
from node_agent.model.places import StackPlaces


@dataclass(frozen=True, kw_only=True)
class DoorProps:
    """`host`: from where `address`:`to` is reached."""

    stack: str
    host: str
    address: str
    to: int


class DoorProvider(Provider[DoorProps]):
    """The port is chosen once, by what is free then, and kept: kubeconfigs name it."""

    props = DoorProps
    identity = ("stack", "host")

    def observe(self, props: DoorProps) -> Outputs | None:
        port = doors.inspect(StackPlaces(props.stack), props.host)
        return {"port": port} if port else None

    def ensure(self, props: DoorProps, had: DoorProps | None) -> Outputs:
        return self._open(props, 0)

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        had = int(_olds.get("port") or 0)
        return UpdateResult({**_news, **self._open(self._props(_news), had)})

    def remove(self, props: DoorProps) -> None:
        doors.remove(StackPlaces(props.stack), props.host)

    def _open(self, props: DoorProps, port: int) -> Mapping[str, Any]:
        places = StackPlaces(props.stack)
        port = doors.inspect(places, props.host) or port or doors.free_port()
        doors.make(places, props.host, port=port, address=props.address, to=props.to)
        return {"port": port}


class Door(Made, module="local", name="Door"):
    port: pulumi.Output[int]

    def __init__(self, name: str, props: DoorProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(DoorProvider(), name, props, ("port",), opts)
