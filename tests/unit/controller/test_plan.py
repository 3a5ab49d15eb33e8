from __future__ import annotations

from dataclasses import replace

from node_agent.controller.plan import Memory, State, plan
from node_agent.model.config import ControllerConfig
from node_agent.model.objects import (
    Meta,
    NetworkHost,
    NetworkHostSpec,
    NetworkHostStatus,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
)

CONFIG = ControllerConfig(stack_id="s", store="x")
HOSTS = {
    f"host-{n}": NetworkHost(
        name=f"host-{n}",
        spec=NetworkHostSpec(address=f"198.18.0.{10 + n}"),
        status=NetworkHostStatus(heartbeat=1000, ready=True),
    )
    for n in range(1, 8)
}
BLUE = Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16"), meta=Meta(uid="u", resource_version=1, generation=3))
WEB = Subnet(name="web", spec=SubnetSpec(vpc="blue", cidr="10.0.0.0/24"), meta=Meta(generation=2))
STATE = State(vpcs={"blue": BLUE}, subnets={"web": WEB}, hosts=HOSTS)


def test_what_was_done_needs_no_doing() -> None:
    first = plan(STATE, Memory(), 1000, CONFIG)
    [change] = first.changes
    [(subnet, subnet_status)] = change.subnets
    assert (change.vpc, subnet, first.mark) == (BLUE, WEB, 1000)
    assert (change.status.observed_generation, subnet_status.observed_generation) == (3, 2)
    done = replace(
        STATE, vpcs={"blue": replace(BLUE, status=change.status)}, subnets={"web": replace(WEB, status=subnet_status)}
    )
    second = plan(done, first.memory, 1001, CONFIG)
    assert (second.changes, second.lifts, second.mark, second.notes) == ((), (), None, ())
    assert second.memory == first.memory


def test_what_is_on_its_way_out_gets_nothing() -> None:
    gone = Meta(uid="u", deleting=True, finalizers=("other",))
    made = plan(replace(STATE, vpcs={"blue": replace(BLUE, meta=gone)}), Memory(), 1000, CONFIG)
    assert (made.changes, made.mark, made.notes) == ((), None, ())
    made = plan(replace(STATE, subnets={"web": replace(WEB, meta=gone)}), Memory(), 1000, CONFIG)
    assert [change.subnets for change in made.changes] == [()]


def test_older_vpcs_get_lower_numbers() -> None:
    vpcs = {
        name: replace(BLUE, name=name, meta=Meta(uid=name, resource_version=version))
        for name, version in (("a", 9), ("b", 3), ("c", 5))
    }
    made = plan(replace(STATE, vpcs=vpcs), Memory(), 1000, CONFIG)
    assert {change.vpc.name: change.status.vni for change in made.changes} == {"b": 1000, "c": 1001, "a": 1002}


def test_a_subnet_without_its_vpc_waits_and_is_told_why() -> None:
    made = plan(replace(STATE, vpcs={}), Memory(), 1000, CONFIG)
    assert made.changes == ()
    [lost] = made.lost
    [said] = lost.status.conditions
    assert (lost.subnet, said.status, said.reason, said.observed_generation) == (WEB, "False", "NoVpc", 2)
    told = replace(STATE, vpcs={}, subnets={"web": replace(WEB, status=lost.status)})
    assert plan(told, made.memory, 2000, CONFIG).lost == ()
    gone = replace(WEB, meta=replace(WEB.meta, deleting=True))
    assert plan(replace(STATE, vpcs={}, subnets={"web": gone}), Memory(), 1000, CONFIG).lost == ()
