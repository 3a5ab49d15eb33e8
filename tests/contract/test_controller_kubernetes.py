"""The controller over a real API server."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest

from node_agent.controller.log import Log
from node_agent.controller.loop import Controller
from node_agent.model.config import ControllerConfig
from node_agent.model.objects import (
    READY,
    NetworkHost,
    NetworkHostSpec,
    NetworkHostStatus,
    Subnet,
    SubnetSpec,
    Vpc,
    VpcSpec,
)
from node_agent.model.users import guarded
from node_agent.store.base import Store
from node_agent.store.kubernetes import KubernetesStore
from node_agent.store.kubernetes_access import from_kubeconfig
from tests.contract.apiserver import ApiServer
from tests.waiting import until

pytestmark = pytest.mark.root

SPEC = VpcSpec(cidr="10.0.0.0/16")
PATIENCE = 60.0


def test_the_controller_places_numbers_and_judges_over_it(kubernetes: Store, api_server: ApiServer) -> None:
    for number in (1, 2, 3):
        host = kubernetes.create(
            NetworkHost(name=f"host-{number}", spec=NetworkHostSpec(address=f"198.18.0.{10 + number}"))
        )
        kubernetes.put_status(NetworkHost, host.name, NetworkHostStatus(heartbeat=time.time(), ready=True))
    kubernetes.create(guarded(Vpc(name="blue", spec=SPEC)))
    for name, vpc, cidr in (
        ("web", "blue", "10.0.1.0/24"),
        ("lost", "blue", "10.1.0.0/24"),
        ("stray", "red", "10.2.0.0/24"),
    ):
        kubernetes.create(guarded(Subnet(name=name, spec=SubnetSpec(vpc=vpc, cidr=cidr))))
    said = io.StringIO()
    own = KubernetesStore(from_kubeconfig(api_server.kubeconfig))
    config = ControllerConfig(stack_id="test", store="")
    controller = Controller(config, own, time.time, Log(said))

    def judged() -> dict[str, str]:
        found = [*kubernetes.list(Vpc), *kubernetes.list(Subnet)]
        conditions = [(obj.name, each) for obj in found for each in obj.status.conditions]
        return {name: each.reason for name, each in conditions if each.type == READY}

    def turn_until(true: Callable[[], bool]) -> None:
        def look() -> bool:
            if not (found := true()):
                controller.turn(0.02)
            return found

        until(look, PATIENCE, lambda: (judged(), said.getvalue()), pause=0.0)

    try:
        turn_until(lambda: judged() == {"blue": "Served", "web": "Bounced", "lost": "OutsideVpc", "stray": "NoVpc"})
        assert kubernetes.get(Vpc, "blue").status.vni == 1000
        assert kubernetes.get(Subnet, "web").status.bouncers == (0, 1, 2)
        for _ in range(20):
            controller.turn(0.02)
        assert "refused" not in said.getvalue(), "it saw what it wrote, and planned nothing twice"
        kubernetes.delete(Vpc, "blue")
        for _ in range(5):
            controller.turn(0.02)
        assert kubernetes.get(Vpc, "blue").meta.deleting, "its subnets use it"
        for name in ("web", "lost", "stray"):
            kubernetes.delete(Subnet, name)
        turn_until(lambda: not kubernetes.list(Vpc) and not kubernetes.list(Subnet))
    finally:
        controller.close()
        own.close()
