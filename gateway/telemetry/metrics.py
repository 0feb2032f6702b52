"""Counting what :mod:`.metric_catalogue` lists, and reading the counts for the console.

A module that counts asks for its metric by name: ``METRICS.counter("gateway_callbacks")``. On hot paths bind the
child once and count per batch, or use :class:`BatchedMetrics`.

Durations are counted a second time, in buckets that are 2 % wide: quantiles that are right to 1 %, whatever the
durations are. This is DDSketch (Masson, Rim, Lee, VLDB 2019) for values between a microsecond and eleven days, so that
the number of buckets has a bound by itself. A sketch is a ``dict`` from bucket to count: adding two of them up is the
sketch of both, and the difference of two readings of one is the sketch of what happened in between. The package
``ddsketch`` has the first and not the second.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, log
from typing import Any, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry.metric_catalogue import CATALOGUE, Metric

#: What the console shows. Collecting the whole catalogue makes an object and a dictionary of labels of every value;
#: with hundreds of subscribers that was most of what an idle gateway did.
_COUNTERS: Final = (
    "gateway_callbacks",
    "gateway_deliveries",
    "gateway_topic_events",
    "gateway_kafka_written_events",
    "gateway_http_refused",
)

#: Name of the metric, values of its labels.
Key = tuple[str, tuple[str, ...]]
#: Upper bound of a bucket by that of the one before it. With 1.2 a 3 s time-out would be shown as 2.7 to 3.3 s.
_GAMMA: Final = 1.02
_PER_LOG: Final = 1 / log(_GAMMA)
_LEAST_S: Final = 1e-6
_MOST_S: Final = 1e6
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


def bucket(seconds: float) -> int:
    """Return the bucket of a duration."""
    return ceil(log(min(max(seconds, _LEAST_S), _MOST_S)) * _PER_LOG)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the duration in seconds that this share of all is not longer than; None when nothing was counted.

    Args:
        counts: by bucket.
        share: above 0, up to 1.
    """
    wanted = share * sum(counts.values())
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= wanted and seen:
            # The value that is nearest to both ends of the bucket in proportion.
            return 2 * _GAMMA**number / (_GAMMA + 1)
    return None


@dataclass(frozen=True, slots=True)
class Counts:
    """The figures of one process that the console draws, at one moment.

    Args:
        counters: since its start.
        durations: since its start, by bucket.
    """

    counters: Mapping[Key, float] = field(default_factory=dict)
    durations: Mapping[Key, Mapping[int, int]] = field(default_factory=dict)

    def document(self) -> list[list[list[Any]]]:
        """Return it as something that JSON has words for."""
        return [
            [[name, labels, value] for (name, labels), value in self.counters.items()],
            [[name, labels, list(found.items())] for (name, labels), found in self.durations.items()],
        ]

    @classmethod
    def parse(cls, document: list[list[list[Any]]]) -> Counts:
        """Return what :meth:`document` made.

        Raises:
            ValueError, TypeError: it was not made by it.
        """
        counters, durations = document
        return cls(
            {(name, tuple(labels)): value for name, labels, value in counters},
            {(name, tuple(labels)): dict(found) for name, labels, found in durations},
        )


def counts(metrics: Metrics = METRICS) -> Counts:
    """Read them now."""
    return Counts(
        {(name, labels): one for name in _COUNTERS for labels, one in metrics.values(name)},
        {key: dict(found) for key, found in metrics.sketches.items()},
    )


class BatchedMetrics:
    """One counter and one histogram of durations, added to the metrics once per turn of the event loop.

    A counter and a histogram of the metrics library take labels apart and lock on every call: 4 µs for each callback or
    delivery, which is a tenth of what a callback costs in all. Used on the event loop only.

    Args:
        counter: name in the catalogue.
        histogram: name in the catalogue; it has one label.
        metrics: where they are.
    """

    def __init__(self, counter: str, histogram: str, metrics: Metrics = METRICS) -> None:
        self._metrics = metrics
        self._name = histogram
        self._counter = metrics.counter(counter)
        self._histogram = metrics.histogram(histogram)
        self._bounds = bounds(histogram)
        self._counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._seconds: dict[str, tuple[list[int], list[float], dict[int, int]]] = {}
        self._is_due = False

    def count(self, *labels: str) -> None:
        """Count one more with these labels of the counter."""
        self._counts[labels] += 1
        if not self._is_due:
            self._soon()

    def took(self, label: str, seconds: float) -> None:
        """Count one more duration under this label of the histogram."""
        found = self._seconds.get(label)
        if found is None:
            sketch = self._metrics.sketch(self._name, label)
            found = self._seconds[label] = ([0] * (len(self._bounds) + 1), [0.0], sketch)
        counts, total, sketch = found
        counts[bisect_left(self._bounds, seconds)] += 1
        total[0] += seconds
        number = bucket(seconds)
        sketch[number] = sketch.get(number, 0) + 1
        if not self._is_due:
            self._soon()

    def _soon(self) -> None:
        self._is_due = True
        asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._is_due = False
        for labels, count in self._counts.items():
            self._counter.labels(*labels).inc(count)
        self._counts.clear()
        for label, (counts, total, _) in self._seconds.items():
            observe_many(self._histogram.labels(label), counts, total[0])
        self._seconds.clear()
