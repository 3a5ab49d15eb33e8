"""Component: where intent is kept and decided, the store and the controller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Resource, ResourceOptions

from infra.providers import daemons
from infra.providers.controller import Controller, ControllerProps
from infra.providers.store import Store, StoreProps


@dataclass(frozen=True, kw_only=True)
class ControlPlaneArgs:
    """`config`: text of the ControllerConfig; `after`: what must exist first."""

    stack: str
    config: str
    after: Sequence[Resource] = ()


class ControlPlane(ComponentResource):
    store: Store
    controller: Controller

    def __init__(self, name: str, args: ControlPlaneArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:local:ControlPlane", name, None, opts)
        self.store = Store(
            f"{name}-store", StoreProps(stack=args.stack), ResourceOptions(parent=self, depends_on=list(args.after))
        )
        self.controller = Controller(
            f"{name}-controller",
            ControllerProps(stack=args.stack, config=args.config, code=daemons.sources()),
            ResourceOptions(parent=self, depends_on=[*args.after, self.store]),
        )
        self.register_outputs({"store": self.store.file})
