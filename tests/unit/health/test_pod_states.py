from __future__ import annotations

from typing import Any

import pytest

from node_agent.health.pod_states import agent_problems, ready, runs, trouble

IMAGE = "mizar.local/mizar@sha256:aaaa"


def pod(node: str = "n1", *, serves: bool = True, image: str = IMAGE, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"agent-{node}"},
        "spec": {"nodeName": node},
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if serves else "False"}],
            "containerStatuses": [{"imageID": image}],
            **status,
        },
    }


def event(reason: str, message: str, when: str, kind: str = "Warning") -> dict[str, Any]:
    return {"type": kind, "reason": reason, "message": message, "lastTimestamp": when, "metadata": {}}


def test_a_pod_runs_when_its_container_does() -> None:
    assert not runs({**pod(), "status": {}})
    assert not runs(pod(containerStatuses=[{"state": {"waiting": {}}}]))
    living = pod(serves=False, containerStatuses=[{"state": {"running": {}}}])
    assert runs(living)
    living["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not runs(living)


def test_a_pod_that_is_about_to_end_is_not_ready() -> None:
    ending = pod()
    assert ready(ending)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not ready(ending)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]},
            "cannot be scheduled: 0/3 nodes are available",
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImageNeverPull", "message": "no image"}}}]},
            "its container does not run: ErrImageNeverPull: no image",
        ),
        (
            {"containerStatuses": [{"state": {"terminated": {"reason": "Error"}}}], "phase": "Failed"},
            "its container does not run: Error",
        ),
        ({"containerStatuses": [], "phase": "Failed", "reason": "Evicted"}, "it failed: Evicted"),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]},
            "does not start: the kubelet of n1 has not said why",
        ),
    ],
)
def test_the_best_word_on_a_pod_that_does_not_run(status: dict[str, Any], reason: str) -> None:
    assert trouble(pod(serves=False, **status)) == reason


def test_the_newest_warning_tells_why_a_pod_does_not_start() -> None:
    late = pod(serves=False, containerStatuses=[{"state": {"waiting": {"reason": "ContainerCreating"}}}])
    events = [
        event("FailedCreatePodSandBox", "no agent", "2026-01-01T00:00:02Z"),
        event("FailedMount", "older", "2026-01-01T00:00:01Z"),
        event("Scheduled", "fine", "2026-01-01T00:00:03Z", kind="Normal"),
    ]
    assert trouble(late, events) == "does not start: FailedCreatePodSandBox: no agent"


def test_a_pod_that_nobody_looked_at_says_so() -> None:
    assert trouble({"metadata": {"name": "p"}, "spec": {}, "status": {}}) == "has not been scheduled"


def test_one_ready_agent_of_the_image_on_each_node_is_right() -> None:
    assert agent_problems([pod("n1"), pod("n2"), pod("n3", serves=False)], ["n1", "n2"], IMAGE) == []


def test_a_node_without_its_agent_or_with_two_is_named() -> None:
    pods = [pod("n1", serves=False), pod("n3"), pod("n3")]
    found = dict(agent_problems(pods, ["n1", "n2", "n3"], IMAGE))
    assert found["n1"].startswith("0 agents are ready there instead of 1: agent-n1 does not start")
    assert found["n2"] == "0 agents are ready there instead of 1"
    assert found["n3"] == "2 agents are ready there instead of 1"


@pytest.mark.parametrize("image", ["mizar.local/mizar@sha256:bbbb", "sha256:aaaa-config", ""])
def test_a_node_that_runs_another_image_is_named(image: str) -> None:
    [(node, reason)] = agent_problems([pod("n1", image=image)], ["n1"], IMAGE)
    assert node == "n1" and reason.endswith(f"instead of {IMAGE}")
