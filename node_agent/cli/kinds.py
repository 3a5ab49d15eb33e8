"""The kinds of stacks: one where everything is a process of this computer, one on a cluster. What differs for `mizar`
is in the class of each, and only there. Called by the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from node_agent.cli.running import Process, Running
from node_agent.model.config import AgentConfig
from node_agent.model.objects import NetworkEndpoint
from node_agent.model.places import StackPlaces

Log = Callable[[bool], Iterator[str]]
"""Lines without their ends; given True, it goes on with what is written."""


class Kind(Protocol):
    """Every method raises MizarError."""

    def store(self) -> str:
        """URL of the stack's objects, as `open_store` takes it."""
        ...

    def processes(self) -> Sequence[Process]:
        """What lives, from files alone."""
        ...

    def running(self) -> Mapping[str, Running]:
        """The controller, as "controller", and agents by their hosts."""
        ...

    def objects(self, agent: AgentConfig) -> Path:
        """Folder, on this computer, of the compiled programs that this agent's host should run."""
        ...

    def controller_config(self) -> str:
        """Text of the ControllerConfig."""
        ...

    def controller_figures(self) -> str:
        """In Prometheus' text format."""
        ...

    def logs(self) -> Mapping[str, Log]:
        """Of the controller and of agents, named as in `running`."""
        ...

    def workload_log(self, endpoint: NetworkEndpoint) -> Log:
        """Of the program behind that endpoint."""
        ...

    def execute(self, endpoint: NetworkEndpoint, argv: Sequence[str]) -> int:
        """Run a command there with our output, to its exit code; it may end this process with that code itself."""
        ...

    def captured(self, endpoint: NetworkEndpoint, argv: Sequence[str]) -> dict[str, Any]:
        """The same, with what it said: {"code", "stdout", "stderr"}."""
        ...


def of(places: StackPlaces) -> Kind:
    """Of the stack with these places, whether it runs or not."""
    if not places.store.exists() and places.kubeconfig.exists():
        from node_agent.cli.on_cluster import OnCluster  # its libraries are of no use to others

        return OnCluster(places)
    from node_agent.cli.on_computer import OnComputer

    return OnComputer(places)
