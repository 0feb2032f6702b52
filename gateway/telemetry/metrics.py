"""Counting what :mod:`.metric_catalogue` lists.

A module that counts asks for its metric by name: ``METRICS.counter("gateway_callbacks")``. On hot paths bind the
child once and count per batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry.metric_catalogue import CATALOGUE, Metric

_PROCESSES: Final = {metric.name: metric.processes for metric in CATALOGUE}


class Metrics:
    """The catalogue as live metric objects, by name."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        self._by_name: dict[str, Counter | Gauge | Histogram] = {}
        for metric in CATALOGUE:
            self._by_name[metric.name] = _make(metric, registry)

    def counter(self, name: str) -> Counter:
        """The counter of this name.

        Raises:
            KeyError: the catalogue has no such metric.
        """
        found = self._by_name[name]
        assert isinstance(found, Counter)
        return found

    def gauge(self, name: str) -> Gauge:
        """The gauge of this name; errors as :meth:`counter`."""
        found = self._by_name[name]
        assert isinstance(found, Gauge)
        return found

    def histogram(self, name: str) -> Histogram:
        """The histogram of this name; errors as :meth:`counter`."""
        found = self._by_name[name]
        assert isinstance(found, Histogram)
        return found


def is_counted_in(name: str, process: str) -> bool:
    """Return whether a process reports a metric. What is not in the catalogue (``process_…``) is every process's own.

    Args:
        name: of the metric, without Prometheus' ``_total``.
        process: its name, such as ``ingest-0``.
    """
    processes = _PROCESSES.get(name)
    return processes is None or process.partition("-")[0] in processes


def bounds(name: str) -> tuple[float, ...]:
    """The upper bounds of a histogram's buckets, without the last, unbounded one."""
    return next(metric.buckets for metric in CATALOGUE if metric.name == name)


def observe_many(histogram: Histogram, counts: Sequence[int], total: float) -> None:
    """Add values that were sorted into buckets elsewhere: what ``observe`` does for one, for thousands at once.

    Args:
        histogram: the histogram, or its child.
        counts: values in each bucket by itself, not cumulated; one more than :func:`bounds`.
        total: their sum.
    """
    histogram._sum.inc(total)
    for bucket, count in zip(histogram._buckets, counts, strict=True):
        if count:
            bucket.inc(count)


def _make(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(metric.name, metric.meaning, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.meaning, metric.labels, registry=registry)
    return Histogram(metric.name, metric.meaning, metric.labels, registry=registry, buckets=metric.buckets)


METRICS: Final = Metrics()
