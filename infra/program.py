"""The program from end to end: settings -> plan -> target -> outputs. Called by __main__ alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi

from infra import outputs, plan, settings
from infra.plan import Plan
from infra.targets.base import Target
from infra.targets.local import Local
from infra.targets.local_k8s import LocalKubernetes
from infra.wanted import Settings
from node_agent.model.places import stack_id

TARGETS: dict[str, Callable[[Path, Settings], Target]] = {"local": Local, "local-k8s": LocalKubernetes}


def deploy() -> None:
    """Register everything. Wrong settings end the run with all their mistakes before anything is registered."""
    root = Path(pulumi.get_root_directory())
    wanted, mistakes = settings.read()
    target = _target(root, wanted)
    mistakes.extend(target.problems(wanted))
    if mistakes.found:
        raise pulumi.RunError(_told(mistakes.found))
    intent = plan.make(wanted, stack_id(pulumi.get_stack(), root))
    preview = pulumi.runtime.is_dry_run()
    values = build(target, intent, preview=preview)
    outputs.export(values)
    if not preview:
        pulumi.Output.from_input(values["health"]).apply(lambda health: pulumi.log.info(_summary(intent, health)))


def _target(root: Path, wanted: Settings) -> Target:
    return TARGETS[wanted.target](root, wanted)


def build(target: Target, intent: Plan, *, preview: bool) -> dict[str, Any]:
    """Register the planned stack on this target and return its outputs by name."""
    machines = target.machines(intent)
    networks = target.networks(intent, machines)
    attached = target.endpoints(intent, machines, networks)
    served = target.services(intent, machines, networks, attached)
    verdict = target.health(intent, machines, networks, attached, served, preview=preview)
    return {**outputs.collect(intent, machines, networks, verdict), **machines.access}


def _summary(intent: Plan, health: Mapping[str, Any]) -> str:
    state = "healthy" if health["healthy"] else "NOT healthy"
    return (
        f"stack {intent.stack_id} is {state}: {health['probes']:g} probes over {health['pairs']:g} pairs of endpoints "
        f"on {len(intent.hosts)} hosts"
    )


def _told(mistakes: Sequence[str]) -> str:
    count = len(mistakes)
    head = f"{count} mistake{'s' if count > 1 else ''} in the settings of stack {pulumi.get_stack()}; nothing was made:"
    return "\n".join([head, *(f"  {mistake}" for mistake in mistakes)])
