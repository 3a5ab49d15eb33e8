"""Component: what the hosts of stack `local` stand on, the stack's folder and the fabric between them."""

from __future__ import annotations

from dataclasses import dataclass

from pulumi import ComponentResource, ResourceOptions

from infra.providers.fabric import Fabric, FabricProps
from infra.providers.root import StackRoot, StackRootProps


@dataclass(frozen=True, kw_only=True)
class UnderlayArgs:
    stack: str


class Underlay(ComponentResource):
    """`root` is under everything else; `fabric` is what hosts plug into."""

    root: StackRoot
    fabric: Fabric

    def __init__(self, name: str, args: UnderlayArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:local:Underlay", name, None, opts)
        self.root = StackRoot(f"{name}-root", StackRootProps(stack=args.stack), ResourceOptions(parent=self))
        self.fabric = Fabric(
            f"{name}-fabric", FabricProps(stack=args.stack), ResourceOptions(parent=self, depends_on=[self.root])
        )
        self.register_outputs({"folder": self.root.folder})
