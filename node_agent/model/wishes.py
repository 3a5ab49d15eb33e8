"""Where somebody of a cluster belongs: the VPC and subnet that it, or its namespace, is annotated with. Pure.

The agent asks it for pods (`agent.pods`), the controller for services (`controller.services`). The nearest that names
a VPC or a subnet decides both: the pod or service itself, else its namespace, else the configuration. A subnet alone
means its VPC. What is named and does not exist is an error, never a reason to look further.

A namespace may be bound: of the VPCs that it lists, and of no others, its pods and services can be. Who may write pods
mostly may not write namespaces, so this is what keeps tenants of one cluster apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from node_agent.model.errors import Invalid

VPC, SUBNET = "mizar.com/vpc", "mizar.com/subnet"
ALLOWED = "mizar.com/vpcs"  # of a namespace: names, with commas between them


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Who asks for a VPC and a subnet, either of which may be "". `whose`: for messages. `allowed`: the VPCs to which
    this one binds whoever is below it, None for all."""

    whose: str
    vpc: str = ""
    subnet: str = ""
    allowed: tuple[str, ...] | None = None


def wish(whose: str, annotations: Mapping[str, str]) -> Wish:
    """What these annotations say."""
    return Wish(whose=whose, vpc=annotations.get(VPC, ""), subnet=annotations.get(SUBNET, ""))


def of_namespace(name: str, annotations: Mapping[str, str]) -> Wish:
    """What these annotations of a namespace say for all that is in it. An empty list allows nothing."""
    listed = annotations.get(ALLOWED)
    allowed = None if listed is None else tuple(filter(None, (each.strip() for each in listed.split(","))))
    return replace(wish(f"namespace {name}", annotations), allowed=allowed)


def nearest(wishes: Sequence[Wish], vpc_of: Callable[[str], str | None]) -> Wish:
    """The first that names anything, with its VPC. `vpc_of`: the VPC of a subnet by its name, None for no such subnet.

    Raises Invalid when nobody names anything, or a subnet that does not exist, or a VPC that one of them does not
    allow. That the VPC exists, and that the subnet is one of its, is not looked at.
    """
    found = next((each for each in wishes if each.vpc or each.subnet), None)
    if found is None:
        whose = wishes[0].whose if wishes else "container"
        raise Invalid(
            [f"{whose}: no VPC: annotate it or its namespace with {VPC} or {SUBNET}, or give the network a default"]
        )
    vpc = found.vpc or vpc_of(found.subnet)
    if vpc is None:
        raise Invalid([f"{found.whose}: there is no subnet {found.subnet!r}"])
    for each in wishes:
        if each.allowed is not None and vpc not in each.allowed:
            names = ", ".join(each.allowed) or "none"
            raise Invalid([f"{found.whose}: VPC {vpc!r} is none that {each.whose} may use ({ALLOWED}: {names})"])
    return replace(found, vpc=vpc)
