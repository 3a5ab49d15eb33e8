"""Registers the program against Pulumi's mock monitor and keeps what was registered. Used by the component tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.runtime import mocks, rpc, settings

# Outputs that are no inputs, as a machine would answer.
ANSWERS: dict[str, dict[str, Any]] = {
    "Agent": {"ready": True, "mode": "generic"},
    "Vpc": {"vni": 7, "set": ["host-1", "host-2", "host-3"], "departing": []},
    "Subnet": {"bouncers": ["host-1", "host-2"], "departing": []},
    "Authorities": {"files": {"ca.crt": "a certificate", "ca.key": "a key"}},
    "Credentials": {"files": {"kubeconfig": "a kubeconfig"}},
    "Door": {"port": 7443},
    "NodeImage": {"loaded": True, "image": "mizar.local/mizar@sha256:abc"},
    "NodeAgent": {"ready": True, "mode": "generic", "drained": False},
    "PodHealth": {"healthy": True, "pairs": 15, "probes": 57, "failures": []},
    "HealthGate": {"healthy": True, "pairs": 15, "probes": 57, "failures": []},
}


@dataclass(frozen=True)
class Registered:
    """One registration. `kind`: the last part of the type; `after`: URNs it depends on; `through`: by input, those that
    the input's value comes from."""

    urn: str
    type: str
    name: str
    parent: str
    inputs: dict[str, Any]
    after: tuple[str, ...]
    through: dict[str, tuple[str, ...]]

    @property
    def kind(self) -> str:
        return self.type.rpartition(":")[2]


@dataclass
class Graph(mocks.MockMonitor):
    """The monitor that the program talks to, and what it has heard."""

    heard: dict[str, Registered] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(_Answers())

    def RegisterResource(self, request: Any) -> Any:
        reply = super().RegisterResource(request)
        inputs = rpc.deserialize_properties(request.object)
        through = {name: tuple(found.urns) for name, found in request.propertyDependencies.items()}
        self.heard[reply.urn] = Registered(
            reply.urn, request.type, request.name, request.parent, inputs, tuple(request.dependencies), through
        )
        return reply

    def of(self, kind: str) -> list[Registered]:
        return [one for one in self.heard.values() if one.kind == kind]

    def before(self, urn: str) -> set[str]:
        """Everything that must exist before this resource, near and far."""
        found: set[str] = set()
        todo = [urn]
        while todo:
            for earlier in self.heard[todo.pop()].after:
                if earlier not in found:
                    found.add(earlier)
                    todo.append(earlier)
        return found


class _Answers(mocks.Mocks):
    def call(self, args: mocks.MockCallArgs) -> Any:
        raise AssertionError(f"the program calls {args.token}")

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        return args.name, {**args.inputs, **ANSWERS.get(args.typ.rpartition(":")[2], {})}


def register(build: Callable[[], dict[str, Any]]) -> tuple[Graph, dict[str, Any]]:
    """Run the part of a program that registers resources; returns the graph and its outputs, resolved."""
    graph = Graph()
    mocks.set_mocks(graph.mocks, project="mizar", stack="local", monitor=graph)
    outputs: dict[str, Any] = {}

    def program() -> None:
        pulumi.Output.all(**build()).apply(outputs.update)

    try:
        _run(program)
    finally:
        settings.reset_options()
    return graph, outputs


def _run(program: Callable[[], None]) -> None:
    @pulumi.runtime.test
    def body() -> None:
        program()

    body()
