"""Component: the hosts with their agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pulumi import ComponentResource, Resource, ResourceOptions

from infra.plan import HostPlan
from infra.providers import daemons
from infra.providers.agent import Agent, AgentProps
from infra.providers.bare_host import HostProps
from infra.providers.host import Host
from infra.providers.programs import Programs, ProgramsProps


@dataclass(frozen=True, kw_only=True)
class HostPoolArgs:
    """`mtu`: of the uplinks, bytes. `native`: XDP runs natively there. `programs`: what the agents load.
    `configs`: host name -> AgentConfig as text. `after`: what must exist first."""

    stack: str
    hosts: tuple[HostPlan, ...]
    mtu: int
    native: bool
    programs: ProgramsProps
    configs: Mapping[str, str]
    after: Sequence[Resource] = ()


class HostPool(ComponentResource):
    """`agents`: host name -> agent; an agent that is made is ready."""

    hosts: dict[str, Host]
    agents: dict[str, Agent]

    def __init__(self, name: str, args: HostPoolArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("mizar:local:HostPool", name, None, opts)
        self.hosts, self.agents = {}, {}
        programs = Programs(
            f"{name}-programs", args.programs, ResourceOptions(parent=self, depends_on=list(args.after))
        )
        for plan in args.hosts:
            host = Host(
                f"{name}-{plan.name}",
                HostProps(
                    stack=args.stack,
                    name=plan.name,
                    address=plan.address,
                    prefix=plan.prefix,
                    mtu=args.mtu,
                    native=args.native,
                ),
                ResourceOptions(parent=self, depends_on=list(args.after)),
            )
            self.hosts[plan.name] = host
            self.agents[plan.name] = Agent(
                f"{name}-{plan.name}-agent",
                AgentProps(stack=args.stack, host=plan.name, config=args.configs[plan.name], code=daemons.sources()),
                ResourceOptions(parent=self, depends_on=[*args.after, host, programs]),
            )
        self.register_outputs({"modes": {plan.name: self.agents[plan.name].mode for plan in args.hosts}})
