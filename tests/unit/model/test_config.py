from __future__ import annotations

from node_agent.model.config import AgentConfig, ControllerConfig, Listed, dump, load_agent, load_controller

LISTED = (
    Listed(address="198.18.0.10", port=443, protocol="tcp"),
    Listed(address="198.18.0.12", port=53, protocol="udp"),
)


def test_there_and_back_with_what_is_listed() -> None:
    agent = AgentConfig(
        host="h",
        stack_id="s",
        address="198.18.0.11",
        uplink="uplink0",
        underlay_prefixes=("198.18.0.0/24",),
        store="sqlite:/x",
        pins="/p",
        socket="/s",
        bpf_objects="/b",
        listed=LISTED,
    )
    assert load_agent(dump(agent)) == agent
    controller = ControllerConfig(stack_id="s", store="sqlite:/x", listed=LISTED)
    assert load_controller(dump(controller)) == controller
