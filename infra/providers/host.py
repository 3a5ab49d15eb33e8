"""Dynamic resource: an emulated host, that is its namespace, its uplink and its object in the store."""

from __future__ import annotations

import pulumi

from infra.providers import objects
from infra.providers.bare_host import BareHostProvider, HostProps
from infra.providers.base import Made, Outputs
from node_agent.model.objects import NetworkHost, NetworkHostSpec


class HostProvider(BareHostProvider):
    def observe(self, props: HostProps) -> Outputs | None:
        found = super().observe(props)
        if found is None:
            return None
        listed = objects.find(props.stack, NetworkHost, props.name)
        problems = list(found["problems"])
        if listed is None or listed.meta.deleting:
            problems.append("its object is not in the store")
        elif listed.spec != _spec(props):
            problems.append(f"the store has {listed.spec}")
        return {**found, "problems": problems}

    def ensure(self, props: HostProps, had: HostProps | None) -> Outputs:
        made = super().ensure(props, had)
        with objects.opened(props.stack) as store:
            objects.put(store, NetworkHost, props.name, _spec(props))
        return made

    def remove(self, props: HostProps) -> None:
        # Its agent is gone by now, so nobody else can lift what holds the object.
        super().remove(props)
        objects.drop(props.stack, NetworkHost, props.name, force=True)


class Host(Made, module="local", name="Host"):
    netns: pulumi.Output[str]

    def __init__(self, name: str, props: HostProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(HostProvider(), name, props, ("netns", "problems"), opts)


def _spec(props: HostProps) -> NetworkHostSpec:
    return NetworkHostSpec(address=props.address, mtu=props.mtu)
