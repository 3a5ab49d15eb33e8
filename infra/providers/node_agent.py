"""Dynamic resource: the agent of a cluster's node, as its host's status tells of it. Nothing is made here: agents are
the daemonset's. Made means that this one is ready, so that whatever comes after finds a host that serves.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import pulumi

from infra.providers import objects
from infra.providers.base import Made, Outputs, Provider, wait
from node_agent.model.errors import NotFound, Permanent, Temporary
from node_agent.model.objects import NetworkHost
from node_agent.store.base import Store

READY_SECONDS = 60.0
SILENT_SECONDS = 30.0  # without a heartbeat, after which what the agent said last counts no more


@dataclass(frozen=True, kw_only=True)
class NodeAgentProps:
    """`kubeconfig`: leads to the cluster."""

    stack: str
    host: str
    kubeconfig: Any


class NodeAgentProvider(Provider[NodeAgentProps]):
    props = NodeAgentProps
    identity = ("stack", "host")

    def observe(self, props: NodeAgentProps) -> Outputs | None:
        found = objects.find(props.stack, NetworkHost, props.host, props.kubeconfig)
        return None if found is None else _outputs(found)

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["ready"] and observed["mode"]) and not observed["drained"]

    def ensure(self, props: NodeAgentProps, had: NodeAgentProps | None) -> Outputs:
        with objects.opened(props.stack, props.kubeconfig) as store:
            complaint = ["no controller has made its host"]

            def ready() -> NetworkHost | None:
                try:
                    found = store.get(NetworkHost, props.host)
                except NotFound:
                    return None
                complaint[0] = _complaint(found)
                return None if complaint[0] else _welcomed(store, found)

            try:
                return _outputs(wait(READY_SECONDS, ready, lambda: complaint[0]))
            except Temporary as error:
                raise Permanent(
                    f"wait for the agent of {props.host}: not ready after {READY_SECONDS:g} s: {error}"
                ) from None

    def remove(self, props: NodeAgentProps) -> None:
        """It goes with its node."""


class NodeAgent(Made, module="local", name="NodeAgent"):
    """`mode`: how the uplink's program runs."""

    mode: pulumi.Output[str]

    def __init__(self, name: str, props: NodeAgentProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(NodeAgentProvider(), name, props, ("ready", "mode", "drained"), opts)


def _complaint(host: NetworkHost) -> str:
    """Why it is not ready; "" when it is."""
    if host.status.problems:
        return "; ".join(host.status.problems)
    silence = time.time() - host.status.heartbeat
    if host.status.ready and silence > SILENT_SECONDS:
        return f"its agent has been silent for {silence:.0f} s"
    return "" if host.status.ready and host.status.mode else "its agent has not said that it is ready"


def _welcomed(store: Store, host: NetworkHost) -> NetworkHost:
    """One that was asked to hand over its places, and is in the plan again."""
    return store.put_spec(NetworkHost, host.name, replace(host.spec, drain=False)) if host.spec.drain else host


def _outputs(found: NetworkHost) -> Outputs:
    return {
        "ready": not _complaint(found),
        "mode": found.status.mode,
        "drained": found.spec.drain,
    }
