"""`mizar metrics HOST|controller`: the figures of an agent or of the controller, as they give them to Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from node_agent.cli import kinds, names
from node_agent.cli.running import CONTROLLER
from node_agent.metrics import server
from node_agent.model.places import StackPlaces


def fetch(places: StackPlaces, whose: str) -> str:
    """The text of that host's agent, or of "controller". Raises MizarError."""
    if whose == CONTROLLER:
        return kinds.of(places).controller_figures()
    with names.opened(places) as store:
        names.read(store).host_address(whose)  # raises for a host that is not there
    return server.fetch(places.host(whose).root / server.SOCKET)


def samples(text: str) -> list[dict[str, Any]]:
    """[{"name", "labels", "value"}] of the text. Pure; what --json prints."""
    return [
        {"name": sample.name, "labels": sample.labels, "value": sample.value}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
