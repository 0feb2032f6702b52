"""Counting what :mod:`.metric_catalogue` lists.

A module that counts asks for its metric by name: ``METRICS.counter("gateway_callbacks")``. On hot paths bind the
child once and count per batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry.metric import Metric
from gateway.telemetry.metric_catalogue import CATALOGUE
from gateway.telemetry.sketch import bucket

_PROCESSES: Final = {metric.name: metric.processes for metric in CATALOGUE}


class Metrics:
    """The catalogue as live metric objects, by name."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        #: Durations by name and labels of their histogram, each by bucket: what the console takes its quantiles from.
        self.sketches: dict[tuple[str, tuple[str, ...]], dict[int, int]] = {}
        self._by_name: dict[str, Counter | Gauge | Histogram] = {}
        for metric in CATALOGUE:
            self._by_name[metric.name] = _make(metric, registry)

    def counter(self, name: str) -> Counter:
        """Return the counter of this name.

        Raises:
            KeyError: the catalogue has no such metric.
        """
        found = self._by_name[name]
        assert isinstance(found, Counter)
        return found

    def gauge(self, name: str) -> Gauge:
        """Return the gauge of this name; errors as :meth:`counter`."""
        found = self._by_name[name]
        assert isinstance(found, Gauge)
        return found

    def histogram(self, name: str) -> Histogram:
        """Return the histogram of this name; errors as :meth:`counter`."""
        found = self._by_name[name]
        assert isinstance(found, Histogram)
        return found

    def sketch(self, name: str, *labels: str) -> dict[int, int]:
        """Return the counts by bucket that belong to a histogram of durations; each observer updates both."""
        return self.sketches.setdefault((name, labels), {})

    def observe(self, name: str, seconds: float) -> None:
        """Add a duration to a histogram without labels."""
        self.histogram(name).observe(seconds)
        found, number = self.sketch(name), bucket(seconds)
        found[number] = found.get(number, 0) + 1

    def values(self, name: str) -> Iterator[tuple[tuple[str, ...], float]]:
        """Yield the label values and the value of each child of a counter or gauge that has labels."""
        children: dict[tuple[str, ...], Any] = dict(self._by_name[name]._metrics)  # type: ignore[arg-type]
        for labels, child in children.items():
            yield labels, child._value.get()


def is_counted_in(name: str, process: str) -> bool:
    """Return whether a process reports a metric. What is not in the catalogue (``process_…``) is every process's own.

    Args:
        name: of the metric, without Prometheus' ``_total``.
        process: its name, such as ``ingest-0``.
    """
    processes = _PROCESSES.get(name)
    return processes is None or process.partition("-")[0] in processes


def bounds(name: str) -> tuple[float, ...]:
    """Return the upper bounds of a histogram's buckets, without the last, unbounded one."""
    return next(metric.buckets for metric in CATALOGUE if metric.name == name)


def observe_many(histogram: Histogram, counts: Sequence[int], total: float) -> None:
    """Add values that were sorted into buckets elsewhere: what ``observe`` does for one, for thousands at once.

    Args:
        histogram: the histogram, or its child.
        counts: values in each bucket by itself, not cumulated; one more than :func:`bounds`.
        total: their sum.
    """
    histogram._sum.inc(total)
    for one, count in zip(histogram._buckets, counts, strict=True):
        if count:
            one.inc(count)


def _make(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(metric.name, metric.meaning, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.meaning, metric.labels, registry=registry)
    return Histogram(metric.name, metric.meaning, metric.labels, registry=registry, buckets=metric.buckets)


METRICS: Final = Metrics()
