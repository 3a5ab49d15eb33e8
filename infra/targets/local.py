"""Target `local`: hosts are network namespaces of this machine, the store is a file. Nothing leaves the machine."""

from __future__ import annotations

import os
from pathlib import Path

from infra.components.control_plane import ControlPlane, ControlPlaneArgs
from infra.components.endpoints import Endpoints, EndpointsArgs
from infra.components.health import Health, HealthArgs
from infra.components.host_pool import HostPool, HostPoolArgs
from infra.components.services import Services, ServicesArgs
from infra.components.underlay import Underlay, UnderlayArgs
from infra.plan import Plan
from infra.providers.programs import ProgramsProps, digest_of, folder_of
from infra.render import agent_config
from infra.targets import networks
from infra.targets.base import Attached, Machines, Networks, Served, Verdict
from infra.wanted import Settings
from node_agent.model.addresses import pod_mtu


class Local:
    """`root`: folder of the project; `settings`: of this run."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self._objects = (root / settings.bpf_objects).resolve()

    def problems(self, settings: Settings) -> list[str]:
        found = []
        if os.geteuid() != 0:
            found.append("stack local: it makes network namespaces and loads BPF programs: run it as root")
        if not digest_of(self._objects):
            found.append(f"bpfObjects: {self._objects}: no compiled programs (*.bpf.o) there: run `make bpf`")
        return found

    def machines(self, plan: Plan) -> Machines:
        stack = plan.stack_id
        underlay = Underlay("underlay", UnderlayArgs(stack=stack))
        control = ControlPlane(
            "control",
            ControlPlaneArgs(stack=stack, config=agent_config.controller(plan), after=[underlay.root]),
        )
        digest = digest_of(self._objects)
        loaded = str(folder_of(stack, digest))
        ground = (underlay.root, control.store)
        pool = HostPool(
            "hosts",
            HostPoolArgs(
                stack=stack,
                hosts=plan.hosts,
                mtu=plan.mtu,
                native=plan.mode == "native",
                programs=ProgramsProps(stack=stack, source=str(self._objects), digest=digest),
                configs={host.name: agent_config.agent(plan, host, loaded) for host in plan.hosts},
                after=[*ground, underlay.fabric],
            ),
        )
        modes = {name: agent.mode for name, agent in pool.agents.items()}
        return Machines(modes=modes, ready=dict(pool.agents), control=control.controller, ground=ground)

    def networks(self, plan: Plan, machines: Machines) -> Networks:
        return networks.make(
            plan,
            tuple(host.name for host in plan.hosts),
            [*machines.ground, machines.control, *machines.ready.values()],
        )

    def endpoints(self, plan: Plan, machines: Machines, networks: Networks) -> Attached:
        # All agents, not only the host's own: a move detaches from one and attaches to another.
        first = [*machines.ground, *machines.ready.values()]
        made = Endpoints(
            "endpoints",
            EndpointsArgs(
                stack=plan.stack_id,
                endpoints=plan.endpoints,
                mtu=pod_mtu(plan.mtu),
                after={one.name: [*first, networks.subnets[one.subnet]] for one in plan.endpoints},
            ),
        )
        return Attached(endpoints=dict(made.endpoints))

    def services(self, plan: Plan, machines: Machines, networks: Networks, attached: Attached) -> Served:
        if not plan.services:
            return Served(services={})
        first = [*machines.ground, *machines.ready.values()]
        made = Services(
            "services",
            ServicesArgs(
                stack=plan.stack_id,
                services=plan.services,
                after={
                    one.name: [
                        *first,
                        networks.vpcs[one.vpc],
                        *(attached.endpoints[backend.name] for backend in one.backends),
                    ]
                    for one in plan.services
                },
            ),
        )
        return Served(services=dict(made.services))

    def health(
        self,
        plan: Plan,
        machines: Machines,
        networks: Networks,
        attached: Attached,
        served: Served,
        *,
        preview: bool,
    ) -> Verdict:
        gate = Health(
            "health",
            HealthArgs(
                stack=plan.stack_id,
                hosts=tuple(host.name for host in plan.hosts),
                endpoints=plan.endpoints,
                services=plan.services,
                mtu=pod_mtu(plan.mtu),
                seconds=plan.health_seconds,
                preview=preview,
                after=[
                    *machines.ground,
                    *machines.ready.values(),
                    *attached.endpoints.values(),
                    *served.services.values(),
                ],
            ),
        ).gate
        return Verdict(healthy=gate.healthy, pairs=gate.pairs, probes=gate.probes, failures=gate.failures)
