"""The providers of VPCs and subnets over a store in memory and a controller: what they tell when hosts come and go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from infra.providers import base, objects
from infra.providers.subnet import SubnetProvider
from infra.providers.vpc import VpcProvider
from node_agent.model.objects import NetworkHost
from tests.transition.controller_world import World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Time passes whenever a provider waits."""
    made = World(hosts=3)

    @contextlib.contextmanager
    def opened(stack: str, kubeconfig: str = "") -> Iterator[Any]:
        yield made.store

    def wait(seconds: float, look: Any, what: Any) -> Any:
        until = made.clock() + seconds
        while (found := look()) is None:
            if made.clock() > until:
                raise base.Temporary(what())
            made.step()
        return found

    monkeypatch.setattr(objects, "opened", opened)
    monkeypatch.setattr(objects, "present", lambda stack, kubeconfig="": True)
    for module in ("base", "vpc", "subnet"):
        monkeypatch.setattr(f"infra.providers.{module}.wait", wait)
    return made


def names(count: int) -> list[str]:
    return [f"host-{number}" for number in range(1, count + 1)]


def vpc(hosts: int, **changes: Any) -> dict[str, Any]:
    sizes = {"set_size": 3, "bouncers": 2, **changes}
    return {"stack": "s", "name": "blue", "cidr": "10.0.0.0/16", "hosts": names(hosts), **sizes}


def subnet(hosts: int) -> dict[str, Any]:
    return {"stack": "s", "name": "blue-a", "vpc": "blue", "cidr": "10.0.1.0/24", "hosts": names(hosts)}


def deploy(hosts: int, before: tuple[Any, Any] | None, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outputs of VPC and subnet, made by create or by the update that a diff asks for."""
    told = []
    for index, (provider, inputs) in enumerate(
        [(VpcProvider(), vpc(hosts, **changes)), (SubnetProvider(), subnet(hosts))]
    ):
        if before is None:
            told.append(provider.create(inputs).outs)
        elif provider.diff("id", before[index], inputs).changes:
            told.append(provider.update("id", before[index], inputs).outs)
        else:
            told.append(before[index])
    return told[0], told[1]


@pytest.mark.parametrize("size", [2, 3])
def test_outputs_stay_true_when_hosts_go_and_come(world: World, size: int) -> None:
    made = deploy(3, None, set_size=size)
    assert len(made[0]["set"]) == size
    less = deploy(2, made, set_size=size)
    assert (sorted(less[0]["set"]), sorted(less[1]["bouncers"])) == (names(2), names(2))
    assert not world.store.get(NetworkHost, "host-3").meta.deleting, "the gate comes before"
    world.store.delete(NetworkHost, "host-3")
    world.step(120)
    assert deploy(2, less, set_size=size) == less
    assert not any(provider.diff("id", less[at], inputs).changes for at, (provider, inputs) in enumerate(
        [(VpcProvider(), vpc(2, set_size=size)), (SubnetProvider(), subnet(2))]
    ))  # fmt: skip
    world.add_host()
    more = deploy(3, less, set_size=size)
    assert len(more[0]["set"]) == len(more[1]["bouncers"]) == size
    world.step(120)
    again = deploy(3, more, set_size=size)
    assert again == more


def test_a_member_that_cannot_go_is_named(world: World) -> None:
    made = deploy(3, None)
    world.silent.update(names(3))
    world.step(600)  # more than a third are silent: nothing is placed
    with pytest.raises(RuntimeError, match=r"make VPC blue: its set still has host-3 after 90 s"):
        deploy(2, made)
