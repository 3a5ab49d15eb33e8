"""Dynamic resource: a stack's folder with its own BPF filesystem. The first thing made and the last removed.

Its removal sweeps whatever else carries the stack's id, so that a destroy after a killed `up` leaves nothing either.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.providers.base import Made, Outputs, Provider
from node_agent.emulation import cleanup, stack
from node_agent.model.places import StackPlaces


@dataclass(frozen=True, kw_only=True)
class StackRootProps:
    stack: str


class StackRootProvider(Provider[StackRootProps]):
    props = StackRootProps
    identity = ("stack",)

    def observe(self, props: StackRootProps) -> Outputs | None:
        found = stack.inspect(StackPlaces(props.stack))
        return None if found is None else {"folder": found.root, "whole": found.whole}

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["whole"])

    def ensure(self, props: StackRootProps, had: StackRootProps | None) -> Outputs:
        made = stack.make(StackPlaces(props.stack))
        return {"folder": made.root, "whole": made.whole}

    def remove(self, props: StackRootProps) -> None:
        cleanup.remove(props.stack)


class StackRoot(Made, module="local", name="StackRoot"):
    folder: pulumi.Output[str]

    def __init__(self, name: str, props: StackRootProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(StackRootProvider(), name, props, ("folder", "whole"), opts)
