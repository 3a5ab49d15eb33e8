"""Figures as the text that Prometheus reads, by Prometheus' own library. Called by `server`, at the first question.

A registry of its own for every question: nothing here is global to the process.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from node_agent.metrics.figures import Figure, Histogram, Metric

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class _Given(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._families = [family(metric) for metric in metrics]

    def collect(self) -> Iterable[Family]:
        return self._families


def text(metrics: Iterable[Metric]) -> bytes:
    """These metrics, and what the process itself uses: memory, CPU time, files."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(metrics))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def family(metric: Metric) -> Family:
    """One metric as the library has it."""
    if isinstance(metric, Histogram):
        made = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for values, buckets, total in metric.samples:
            made.add_metric(values, buckets=list(buckets), sum_value=total)
        return made
    return _plain(metric)


def _plain(metric: Figure) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    made = kind(metric.name, metric.help, labels=metric.labels)
    for values, number in metric.samples:
        made.add_metric(values, number)
    return made
