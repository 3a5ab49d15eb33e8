"""Dynamic resource: the underlay of a stack, a bridge in a namespace of its own."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.providers.base import Made, Outputs, Provider
from node_agent.emulation import fabric
from node_agent.model.places import StackPlaces


@dataclass(frozen=True, kw_only=True)
class FabricProps:
    stack: str


class FabricProvider(Provider[FabricProps]):
    props = FabricProps
    identity = ("stack",)

    def observe(self, props: FabricProps) -> Outputs | None:
        found = fabric.inspect(StackPlaces(props.stack))
        return None if found is None else _outputs(found)

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["up"])

    def ensure(self, props: FabricProps, had: FabricProps | None) -> Outputs:
        return _outputs(fabric.make(StackPlaces(props.stack)))

    def remove(self, props: FabricProps) -> None:
        fabric.remove(StackPlaces(props.stack))


class Fabric(Made, module="local", name="Fabric"):
    netns: pulumi.Output[str]

    def __init__(self, name: str, props: FabricProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(FabricProvider(), name, props, ("netns", "up"), opts)


def _outputs(found: fabric.Observed) -> Outputs:
    # Ports belong to the hosts that plugged them in.
    return {"netns": found.netns, "up": found.up}
