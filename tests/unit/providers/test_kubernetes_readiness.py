from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.providers.kubernetes.readiness import (
    READY,
    crd,
    daemon_set,
    deployment,
    job,
    namespace,
    pod,
    service,
    troubles,
)

Object = dict[str, Any]


class Nothing:
    """A cluster that has nothing beside the object."""

    endpoints: tuple[Object, ...] = ()
    serves = False

    def owned(self, kind: str, owner: Object, selector: Mapping[str, str] | None = None) -> list[Object]:
        return []

    def slices(self, service: Object) -> list[Object]:
        return [{"endpoints": list(self.endpoints)}]

    def served(self, crd: Object) -> bool:
        return self.serves


LOOK = Nothing()


def rollout(generation: int = 2, wanted: int | None = 2, **status: Any) -> Object:
    spec = {} if wanted is None else {"replicas": wanted}
    return {
        "kind": "Deployment", "metadata": {"generation": generation, "name": "web", "uid": "u"}, "spec": spec,
        "status": status,
    }  # fmt: skip


def test_a_rollout_is_ready_when_every_pod_is_new_and_available() -> None:
    whole = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    assert deployment(rollout(**whole), LOOK) == READY
    assert deployment(rollout(**whole | {"observedGeneration": 1}), LOOK).waiting
    assert deployment(rollout(**whole | {"replicas": 3}), LOOK).waiting.endswith("1 old ones still there")
    assert deployment(rollout(**whole | {"availableReplicas": 1}), LOOK).waiting.startswith("1 of 2")
    assert deployment(rollout(wanted=0, observedGeneration=2), LOOK) == READY
    assert deployment(rollout(wanted=None, observedGeneration=2), LOOK).waiting.startswith("0 of 1")


def test_a_rollout_that_its_controller_gave_up_has_failed() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    assert deployment(rollout(observedGeneration=2, conditions=[late]), LOOK).failed
    quota = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    assert "exceeded quota" in deployment(rollout(observedGeneration=2, conditions=[quota]), LOOK).waiting


def test_a_daemon_set_waits_for_its_controller_and_its_pods() -> None:
    counts = {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}
    assert daemon_set(rollout(observedGeneration=2, **counts), LOOK) == READY
    assert daemon_set(rollout(), LOOK).waiting == "no controller has looked at it yet"
    assert daemon_set(rollout(observedGeneration=2, **counts | {"updatedNumberScheduled": 1}), LOOK).waiting
    assert daemon_set(rollout(observedGeneration=2, **counts | {"numberAvailable": 1}), LOOK).waiting


def test_pods_and_jobs_end_well_or_not() -> None:
    assert pod({"status": {"phase": "Succeeded"}}, LOOK) == READY
    assert pod({"status": {"phase": "Running"}}, LOOK).waiting == "it is Running"
    assert pod({"status": {"phase": "Failed"}}, LOOK).failed
    done = {"type": "Complete", "status": "True"}
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    base = {"metadata": {"uid": "u"}, "spec": {}}
    assert job(base | {"status": {"conditions": [done]}}, LOOK) == READY
    assert job(base | {"status": {"conditions": [failed]}}, LOOK).failed
    assert job(base, LOOK).waiting


def test_a_kind_is_ready_when_it_is_served() -> None:
    served = Nothing()
    served.serves = True
    established = {"status": {"conditions": [{"type": "Established", "status": "True"}]}}
    assert crd({}, served).waiting
    assert crd(established, LOOK).waiting
    assert crd(established, served) == READY
    assert crd({"status": {"conditions": [{"type": "NamesAccepted", "status": "False"}]}}, served).failed


def test_a_service_waits_for_a_ready_pod_where_it_has_a_selector() -> None:
    behind = Nothing()
    behind.endpoints = ({"conditions": {"ready": True}},)
    chosen = {"spec": {"selector": {"app": "web"}}}
    assert service(chosen, LOOK).waiting
    assert service(chosen, behind) == READY
    behind.endpoints = ({"conditions": {"ready": False}},)
    assert service(chosen, behind).waiting
    assert service({"spec": {}}, LOOK) == READY
    assert service({"spec": {"type": "LoadBalancer"}}, LOOK).waiting
    assert namespace({"status": {"phase": "Active"}}, LOOK) == READY


def test_the_trouble_of_a_pod_is_told_with_its_last_words() -> None:
    def last_line(space: str, name: str, container: str, previous: bool) -> str:
        return f"{space}/{name}/{container}/{previous}"

    def of(**status: Any) -> list[str]:
        return troubles({"metadata": {"name": "p", "namespace": "n"}, "status": status}, last_line)

    pulling = {"name": "c", "image": "i", "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    assert of(containerStatuses=[pulling]) == ["pod p, container c: ErrImagePull: not found"]
    ended = {"terminated": {"exitCode": 3, "reason": "Error"}}
    crashing = {"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended}
    assert of(containerStatuses=[crashing]) == [
        "pod p, container c: ended with code 3 (Error); last line of its log: n/p/c/True"
    ]
    assert of(initContainerStatuses=[{"name": "i", "state": ended}])[0].endswith("n/p/i/False")
    assert of(containerStatuses=[{"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}]) == []
    well = {"name": "c", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    assert of(containerStatuses=[well]) == []
    stays = {"metadata": {"name": "p"}, "spec": {"restartPolicy": "Always"}, "status": {"containerStatuses": [well]}}
    assert "ended with code 0" in troubles(stays, last_line)[0]
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
    assert of(conditions=[unscheduled]) == ["pod p: Unschedulable: no node"]
