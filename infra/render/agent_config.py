"""The configuration files of a stack's processes, from the plan. Pure; called by the targets; golden tests compare."""

from __future__ import annotations

from infra.plan import HostPlan, Plan
from node_agent.model import config
from node_agent.model.config import AgentConfig, ControllerConfig

UPLINK = "uplink0"


def agent(plan: Plan, host: HostPlan, bpf_objects: str) -> str:
    """Text of the host's AgentConfig. `bpf_objects`: absolute path of the folder with the compiled programs."""
    places = plan.places.host(host.name)
    return config.dump(
        AgentConfig(
            host=host.name,
            stack_id=plan.stack_id,
            address=host.address,
            uplink=UPLINK,
            underlay_prefixes=(plan.underlay,),
            store=store_url(plan),
            pins=str(places.pins),
            socket=str(places.socket),
            bpf_objects=bpf_objects,
            mode=plan.mode,
            flow_entries=plan.flow_entries,
        )
    )


def controller(plan: Plan) -> str:
    """Text of the stack's ControllerConfig."""
    return config.dump(ControllerConfig(stack_id=plan.stack_id, store=store_url(plan)))


def store_url(plan: Plan) -> str:
    return f"sqlite:{plan.places.store}"
