"""Dynamic resource: the embedded store of a stack, one SQLite file."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.providers import objects
from infra.providers.base import Made, Outputs, Provider
from node_agent.model.places import StackPlaces
from node_agent.store.open import open_store
from node_agent.store.sqlite_file import store_files


@dataclass(frozen=True, kw_only=True)
class StoreProps:
    stack: str


class StoreProvider(Provider[StoreProps]):
    props = StoreProps
    identity = ("stack",)

    def observe(self, props: StoreProps) -> Outputs | None:
        return _outputs(props) if objects.present(props.stack) else None

    def ensure(self, props: StoreProps, had: StoreProps | None) -> Outputs:
        open_store(objects.url(props.stack), create=True).close()
        return _outputs(props)

    def remove(self, props: StoreProps) -> None:
        for file in store_files(StackPlaces(props.stack).store):
            file.unlink(missing_ok=True)


class Store(Made, module="local", name="Store"):
    file: pulumi.Output[str]

    def __init__(self, name: str, props: StoreProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(StoreProvider(), name, props, ("file",), opts)


def _outputs(props: StoreProps) -> Outputs:
    return {"file": str(StackPlaces(props.stack).store)}
