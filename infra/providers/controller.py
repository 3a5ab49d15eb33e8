"""Dynamic resource: the controller of a stack, one process under a supervisor.

Made means at work: its loop goes round, as its own figures tell. That its supervisor lives says nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from infra.providers import daemons
from infra.providers.base import Made, Outputs, Provider, prefer, wait
from node_agent.emulation import processes
from node_agent.metrics import probe, server
from node_agent.model.errors import MizarError, Permanent, Temporary
from node_agent.model.places import StackPlaces

START_SECONDS = 30.0
LOOK_SECONDS = 3.0  # one that was killed is back within
FIGURE = "mizar_controller_turn_age_seconds"
YOUNG_SECONDS = 15.0  # as the controller's deployment on a cluster is asked


@dataclass(frozen=True, kw_only=True)
class ControllerProps:
    """`config`: text of a ControllerConfig. `code`: `daemons.sources`; another one is a restart."""

    stack: str
    config: str
    code: str = ""


class ControllerProvider(Provider[ControllerProps]):
    props = ControllerProps
    identity = ("stack",)

    def observe(self, props: ControllerProps) -> Outputs | None:
        folder = StackPlaces(props.stack).controller
        if daemons.controller(props.stack) is None:
            return None
        working = prefer(LOOK_SECONDS, lambda: not _complaint(props.stack) or None, False)
        return {"config": daemons.config(folder, "controller"), "working": working}

    def sound(self, observed: Outputs) -> bool:
        return bool(observed["working"])

    def ensure(self, props: ControllerProps, had: ControllerProps | None) -> Outputs:
        folder = StackPlaces(props.stack).controller
        started, complaint = _start(props)
        found = daemons.controller(props.stack)
        if complaint and found is not None and found.pid and found.pid == started.pid:
            # It lives and does nothing: its supervisor has no reason to start it anew.
            processes.stop(folder, "controller")
            started, complaint = _start(props)
        if complaint:
            raise Permanent(
                f"start controller: not at work after {START_SECONDS:g} s: {complaint}; "
                f"its log ends:\n{daemons.last_words(folder, 'controller')}"
            )
        return {"config": props.config, "working": True}

    def remove(self, props: ControllerProps) -> None:
        processes.remove(StackPlaces(props.stack).controller, "controller")


class Controller(Made, module="local", name="Controller"):
    def __init__(self, name: str, props: ControllerProps, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(ControllerProvider(), name, props, ("working",), opts)


def _start(props: ControllerProps) -> tuple[processes.Observed, str]:
    """The process as it was begun or found, and why it did not get to work in time, "" when it did."""
    folder = StackPlaces(props.stack).controller
    started = daemons.start(folder, "controller", props.config, code=props.code)
    complaint = [""]

    def works() -> bool | None:
        complaint[0] = _complaint(props.stack)
        return None if complaint[0] else True

    try:
        wait(START_SECONDS, works, lambda: complaint[0])
    except Temporary as error:
        return started, str(error)
    return started, ""


def _complaint(stack: str) -> str:
    """Why the controller is not at work; "" when it is."""
    try:
        age = probe.value(server.fetch(StackPlaces(stack).controller / server.SOCKET), FIGURE)
    except MizarError as error:
        return str(error)
    return "" if age is not None and age <= YOUNG_SECONDS else f"its loop began no turn for {age} s"
