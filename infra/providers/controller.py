"""Dynamic resource: the controller of a stack, one process under a supervisor."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.providers import daemons
from infra.providers.base import Made, Outputs, Provider
from node_agent.emulation import processes
from node_agent.model.errors import Permanent
from node_agent.model.places import StackPlaces


@dataclass(frozen=True, kw_only=True)
class ControllerProps:
    """`config`: text of a ControllerConfig."""

    stack: str
    config: str


class ControllerProvider(Provider[ControllerProps]):
    props = ControllerProps
    identity = ("stack",)

    def observe(self, props: ControllerProps) -> Outputs | None:
        folder = StackPlaces(props.stack).controller
        if daemons.controller(props.stack) is None:
            return None
        return {"config": daemons.config(folder, "controller")}

    def ensure(self, props: ControllerProps, had: ControllerProps | None) -> Outputs:
        folder = StackPlaces(props.stack).controller
        daemons.start(folder, "controller", props.config)
        if daemons.controller(props.stack) is None:
            raise Permanent(f"start controller: it ended at once:\n{daemons.last_words(folder, 'controller')}")
        return {"config": props.config}

    def remove(self, props: ControllerProps) -> None:
        processes.remove(StackPlaces(props.stack).controller, "controller")


class Controller(Made, module="local", name="Controller"):
    def __init__(self, name: str, props: ControllerProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(ControllerProvider(), name, props, (), opts)
