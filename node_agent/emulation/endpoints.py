"""The namespace of an endpoint (what a pod is on Kubernetes) and the workload in it.

The interface in it is not made here: the agent does that on ADD, as for a real pod. Called by the Pulumi provider.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from node_agent.emulation import processes
from node_agent.health import workload
from node_agent.kernel import links, netns
from node_agent.model.places import StackPlaces

INTERFACE = "eth0"


@dataclass(frozen=True, kw_only=True)
class Observed:
    """`identity`: inode of the namespace; `addresses`: of eth0, "address/length", `mtu`: bytes. Before the agent's
    ADD none and 0."""

    netns: str
    identity: int
    addresses: tuple[str, ...]
    mtu: int


def make(places: StackPlaces, name: str) -> Observed:
    """The namespace, loopback up. Raises Permanent."""
    netns.create(places.netns_path(name))
    observed = inspect(places, name)
    assert observed is not None
    return observed


def inspect(places: StackPlaces, name: str) -> Observed | None:
    """The namespace as it is; None: there is none."""
    path = places.netns_path(name)
    identity = netns.identity(path)
    if identity is None:
        return None
    with links.opened(path) as net:
        link = net.get(INTERFACE)
        addresses = net.addresses(INTERFACE) if link else ()
    return Observed(netns=places.netns(name), identity=identity, addresses=addresses, mtu=link.mtu if link else 0)


def remove(places: StackPlaces, name: str) -> None:
    """Stop the workload, remove its folder and the namespace; absent is success. The agent's DEL comes before."""
    stop_workload(places, name)
    netns.delete(places.netns_path(name))


def workload_spec(places: StackPlaces, name: str, *, vpc: str, address: str) -> processes.Spec:
    """The process that answers for the endpoint on ports 8080 and 8081."""
    program = str(Path(workload.__file__).resolve())
    # -I -S halves the memory of a process that may exist a thousand times.
    argv = (sys.executable, "-I", "-S", program, "--vpc", vpc, "--name", name, "--address", address)
    return processes.Spec(
        folder=places.workload(name),
        name="workload",
        argv=argv,
        netns=places.netns_path(name),
        env={"PATH": processes.PATH},
    )


def start_workload(places: StackPlaces, name: str, *, vpc: str, address: str) -> processes.Observed:
    """Keep a workload running in the endpoint's namespace. Raises Permanent."""
    return processes.start(workload_spec(places, name, vpc=vpc, address=address))


def inspect_workload(places: StackPlaces, name: str) -> processes.Observed | None:
    return processes.inspect(places.workload(name), "workload")


def stop_workload(places: StackPlaces, name: str) -> None:
    """Stop it and remove its folder; absent is success."""
    processes.remove(places.workload(name), "workload")
