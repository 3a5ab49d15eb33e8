"""The health gate of a cluster as Pulumi calls it, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from infra.providers import pod_health
from infra.providers.pod_health import PodHealthProps, PodHealthProvider
from node_agent.health import assess
from node_agent.health.assess import Health
from node_agent.model.errors import Temporary

PROPS = PodHealthProps(
    stack="s",
    kubeconfig="none",
    image="i@sha256:1",
    nodes=("n1", "n2"),
    networks=({"vpc": "a", "subnet": "a1"},),
    seconds=3,
)


class Told(PodHealthProvider):
    """Finds what it is told."""

    def __init__(self, *problems: str) -> None:
        self.problems, self.patience = problems, list[float]()

    def examine(self, props: PodHealthProps, patience: float) -> Health:
        self.patience.append(patience)
        return assess.assess((), props.nodes, [("n1", problem) for problem in self.problems])


def raw(**more: Any) -> dict[str, Any]:
    fields = {field: getattr(PROPS, field) for field in PROPS.__dataclass_fields__ if field != "preview"}
    return {**fields, "nodes": list(PROPS.nodes), "networks": list(PROPS.networks), "healthy": True, **more}


def test_a_preview_sends_nothing() -> None:
    provider = Told("broken")
    assert not provider.diff("s", raw(), raw(__preview=True)).changes
    assert not provider.patience


def test_an_up_probes_again_and_shows_no_change_when_all_is_well() -> None:
    provider = Told()
    assert not provider.diff("s", raw(), raw(__preview=False)).changes
    assert provider.patience == [PodHealthProvider.look]
    assert Told("broken").diff("s", raw(), raw(__preview=False)).changes


def test_a_failure_is_told_line_by_line() -> None:
    with pytest.raises(RuntimeError, match="n1: no agent"):
        Told("no agent").update("s", raw(), raw())


def test_a_refresh_records_failures_and_no_other_count() -> None:
    kept = raw(pairs=9, probes=50, failures=[])
    assert Told().read("s", kept).outs == kept
    healed = Told().read("s", raw(healthy=False, failures=["n1: broken"])).outs
    assert healed is not None and healed["healthy"] and not healed["failures"]
    broken = Told("broken").read("s", kept).outs
    assert broken is not None and not broken["healthy"] and broken["failures"] == ["n1: broken"]


def test_a_cluster_that_cannot_be_used_is_a_failure_and_destroyed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(kubeconfig: str) -> None:
        raise Temporary("list pods: cannot reach it")

    monkeypatch.setattr(pod_health, "Cluster", refused)
    health = PodHealthProvider().examine(PROPS, 0.0)
    assert health.problems == ("cluster: list pods: cannot reach it",)
    PodHealthProvider().remove(PROPS)
