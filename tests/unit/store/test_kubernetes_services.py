"""Services and slices as the API shows them."""

from __future__ import annotations

from typing import Any

from node_agent.store.kubernetes_services import Slice, Target, read_slice


def test_conditions_that_are_not_given_are_as_the_api_describes_them() -> None:
    def read(**conditions: bool) -> Target:
        labels = {"kubernetes.io/service-name": "web"}
        found = read_slice(
            {
                "metadata": {"name": "web-1", "namespace": "shop", "labels": labels},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.1.2"], "conditions": conditions}],
            }
        )
        assert found is not None
        return found.targets[0]

    assert read() == Target(address="10.0.1.2", ready=True, serving=True, terminating=False)
    assert read(ready=False) == Target(address="10.0.1.2", ready=False, serving=False)
    assert read(ready=False, serving=True, terminating=True).serving


def test_slices_of_no_service_or_of_another_family_are_left_out() -> None:
    metadata: dict[str, Any] = {"name": "web-1", "namespace": "shop"}
    assert read_slice({"metadata": metadata, "addressType": "IPv4"}) is None
    labels = {"kubernetes.io/service-name": "web"}
    assert read_slice({"metadata": {**metadata, "labels": labels}, "addressType": "IPv6"}) is None
    assert read_slice({"metadata": {**metadata, "labels": labels}, "addressType": "IPv4"}) == Slice(service="shop/web")
