"""VPCs and subnets: what a change of them is, and who may lose what when one is removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from infra.providers import daemons, objects
from infra.providers.base import Provider
from infra.providers.subnet import SubnetProvider
from infra.providers.vpc import VpcProvider
from node_agent.model.errors import Permanent, Temporary
from node_agent.model.objects import NetworkEndpoint, NetworkEndpointSpec, Subnet, SubnetSpec, Vpc, VpcSpec
from node_agent.testing.store import FakeStore

VPC = {"stack": "s", "name": "blue", "cidr": "10.0.0.0/16", "set_size": 3.0, "bouncers": 2.0, "hosts": ["host-1"]}
SUBNET = {"stack": "s", "name": "front", "vpc": "blue", "cidr": "10.0.1.0/24", "hosts": ["host-1"]}
CHANGES = [(VpcProvider(), VPC, "cidr"), (SubnetProvider(), SUBNET, "cidr"), (SubnetProvider(), SUBNET, "vpc")]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    """With a VPC and its subnet, the same behind any kubeconfig and none."""
    made = FakeStore()
    made.create(Vpc(name="blue", spec=VpcSpec(cidr="10.0.0.0/16")))
    made.create(Subnet(name="front", spec=SubnetSpec(vpc="blue", cidr="10.0.1.0/24")))

    @contextlib.contextmanager
    def opened(stack: str, kubeconfig: str = "") -> Iterator[FakeStore]:
        yield made

    monkeypatch.setattr(objects, "opened", opened)
    monkeypatch.setattr(objects, "present", lambda stack, kubeconfig="": True)
    monkeypatch.setattr(daemons, "controller", lambda stack: None)
    return made


@pytest.mark.parametrize(("provider", "props", "key"), CHANGES)
@pytest.mark.parametrize("kubeconfig", ["", "of a cluster"])
def test_what_a_cluster_does_not_change_is_made_anew_there(
    provider: Provider[Any], props: dict[str, Any], key: str, kubeconfig: str
) -> None:
    olds = {**props, "kubeconfig": kubeconfig}
    told = provider.diff("s/it", olds, {**olds, key: "another"})
    assert told.changes and told.delete_before_replace
    assert told.replaces == ([key] if kubeconfig else [])


def test_a_vpc_in_use_on_a_cluster_is_refused_with_its_users(store: FakeStore) -> None:
    with pytest.raises(RuntimeError, match=r"delete Vpc blue: in use by .*front"):
        VpcProvider().delete("s/blue", {**VPC, "kubeconfig": "of a cluster"})
    assert store.get(Vpc, "blue") and store.get(Subnet, "front")


def test_a_subnet_in_use_on_a_cluster_is_refused_with_its_users(store: FakeStore) -> None:
    spec = NetworkEndpointSpec(
        vpc="blue", subnet="front", address="10.0.1.2", host="host-1", container_id="pod", interface="eth0"
    )
    store.create(NetworkEndpoint(name="pod-eth0", spec=spec))
    with pytest.raises(RuntimeError, match=r"delete Subnet front: in use by .*pod-eth0"):
        SubnetProvider().delete("s/front", {**SUBNET, "kubeconfig": "of a cluster"})


def test_what_a_killed_run_left_in_a_stacks_own_store_goes_with_its_vpc(store: FakeStore) -> None:
    VpcProvider().delete("s/blue", VPC)
    assert not store.list(Vpc) and not store.list(Subnet)


def test_a_cluster_that_does_not_answer_is_waited_for_once(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_silent", {})
    vpc, subnet = ({**each, "kubeconfig": "of a cluster"} for each in (VPC, SUBNET))
    store.fail = [Temporary("the server does not answer")]
    assert VpcProvider().diff("s/blue", vpc, vpc).changes
    store.fail = [Permanent("asked again")]
    assert SubnetProvider().diff("s/front", subnet, subnet).changes
    with pytest.raises(RuntimeError, match="asked again"):  # of another: it may well answer
        SubnetProvider().diff("s/front", {**subnet, "kubeconfig": "other"}, {**subnet, "kubeconfig": "other"})
    monkeypatch.setattr(objects, "SILENT_SECONDS", 0.0)
    store.fail = [Temporary("the server does not answer")]
    subnet["kubeconfig"] = vpc["kubeconfig"] = "a third"
    assert VpcProvider().diff("s/blue", vpc, vpc).changes
    store.fail = [Permanent("asked again")]
    with pytest.raises(RuntimeError, match="asked again"):
        SubnetProvider().diff("s/front", subnet, subnet)
