"""Dynamic resource: the agent of a host, one process under a supervisor in the host's namespace.

Made means ready: its socket answers STATUS with no complaint. To look repairs nothing; an update says REPAIR. A changed
configuration or code is a restart, which no packet notices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pulumi

from infra.providers import daemons, objects
from infra.providers.base import Made, Outputs, Provider, wait
from node_agent.cni import client
from node_agent.cni.protocol import Request
from node_agent.emulation import processes
from node_agent.model.errors import MizarError, Permanent, Temporary
from node_agent.model.objects import NetworkHost
from node_agent.model.places import StackPlaces

READY_SECONDS = 30.0
ASK_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class AgentProps:
    """`config`: text of an AgentConfig. `code`: `daemons.sources`; another one is a restart."""

    stack: str
    host: str
    config: str
    code: str = ""


class AgentProvider(Provider[AgentProps]):
    props = AgentProps
    identity = ("stack", "host")

    def observe(self, props: AgentProps) -> Outputs | None:
        places = StackPlaces(props.stack).host(props.host)
        if daemons.agent(props.stack, props.host) is None:
            return None
        return {"config": daemons.config(places.root, "agent"), "ready": not _complaint(props), "mode": _mode(props)}

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["ready"] and observed["mode"])

    def ensure(self, props: AgentProps, had: AgentProps | None) -> Outputs:
        stack = StackPlaces(props.stack)
        places = stack.host(props.host)
        daemons.start(places.root, "agent", props.config, code=props.code, netns=stack.netns_path(props.host))
        complaint = ["it did not answer"]

        def ready() -> bool | None:
            complaint[0] = _complaint(props, "REPAIR")
            return True if not complaint[0] and _mode(props) else None

        try:
            wait(READY_SECONDS, ready, lambda: complaint[0] or "it has not written its status")
        except Temporary as error:
            raise Permanent(
                f"start agent of {props.host}: not ready after {READY_SECONDS:g} s: {error}; "
                f"its log ends:\n{daemons.last_words(places.root, 'agent')}"
            ) from None
        return {"ready": True, "mode": _mode(props)}

    def remove(self, props: AgentProps) -> None:
        processes.remove(StackPlaces(props.stack).host(props.host).root, "agent")


class Agent(Made, module="local", name="Agent"):
    mode: pulumi.Output[str]

    def __init__(self, name: str, props: AgentProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(AgentProvider(), name, props, ("ready", "mode"), opts)


def _complaint(props: AgentProps, verb: Literal["STATUS", "REPAIR"] = "STATUS") -> str:
    """Why the agent is not ready; "" when it is."""
    try:
        client.call(StackPlaces(props.stack).host(props.host).socket, Request(verb=verb), ASK_SECONDS)
    except MizarError as error:
        return str(error)
    return ""


def _mode(props: AgentProps) -> str:
    """How the uplink's program runs, from the host's status; "" while the agent has not said."""
    host = objects.find(props.stack, NetworkHost, props.host)
    return host.status.mode if host else ""
