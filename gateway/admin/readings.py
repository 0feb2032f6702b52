"""The catalogue's counters as rates and quantiles over time: what the console draws.

Every :data:`STEP_S` seconds the metrics are read once; the difference to the reading before is one point of each
series. A point holds only what is not zero, so that an idle gateway costs nothing on the way to a browser. Ten
minutes are kept: Prometheus keeps the rest.

Series are called ``<kind>:<name>:<what>``, such as ``callback:sms-dr:rate`` or ``subscriber:billing:p99``; rates are
per second, quantiles in seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.telemetry.metrics import METRICS, Metrics

#: Finer, and a callback a second is a saw; coarser, and an operator waits to see what a change did.
STEP_S: Final = 2.0
#: Points kept: ten minutes.
KEPT: Final = 300
#: Readings kept for averages: a minute of them, and one to begin with.
_MINUTE: Final = 31
#: Now, for people: steady enough to read.
_NOW: Final = 5

_COUNTERS: Final = (
    "gateway_callbacks",
    "gateway_deliveries",
    "gateway_topic_events",
    "gateway_kafka_written_events",
    "gateway_http_refused",
)
_HISTOGRAMS: Final = (
    "gateway_callback_answer_seconds",
    "gateway_delivery_attempt_seconds",
    "gateway_journal_commit_seconds",
)
#: Outcomes of attempts that failed.
FAILED: Final = ("retried", "parked", "dead_lettered", "stopped", "abandoned")

_Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment; histograms as counts by upper bound, cumulated."""

    at: float
    counts: dict[str, dict[_Labels, float]]
    buckets: dict[str, dict[_Labels, list[tuple[float, float]]]]


@dataclass(frozen=True, slots=True)
class Point:
    """What happened in one step."""

    at: float
    values: dict[str, float] = field(default_factory=dict)


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """A quantile out of cumulated counts by upper bound, linear within a bucket; None when nothing was counted.

    What lies in the last, unbounded bucket counts as its lower bound, as in Prometheus' ``histogram_quantile``.
    """
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    wanted = share * total
    position = min(bisect_left([count for _, count in buckets], wanted), len(buckets) - 1)
    upper, count = buckets[position]
    lower, before = buckets[position - 1] if position else (0.0, 0.0)
    if upper == float("inf"):
        return lower
    return lower + (upper - lower) * ((wanted - before) / (count - before) if count > before else 1.0)


class Readings:
    """Keeps readings and points. Fed by :meth:`take`, by whoever owns the timer."""

    def __init__(self, metrics: Metrics = METRICS) -> None:
        self._metrics = metrics
        self._readings: deque[Reading] = deque(maxlen=_MINUTE)
        self.points: deque[Point] = deque(maxlen=KEPT)

    def take(self, now: float, levels: dict[str, float]) -> Point:
        """Read the metrics; ``levels`` are values that are not counted but measured, and go in as they are."""
        reading = Reading(
            now,
            {name: self._counts(name) for name in _COUNTERS},
            {name: self._buckets(name) for name in _HISTOGRAMS},
        )
        values = {name: value for name, value in levels.items() if value}
        if self._readings:
            values |= _series(self._readings[-1], reading)
        self._readings.append(reading)
        point = Point(now, values)
        self.points.append(point)
        return point

    def rate(self, name: str, *labels: str, readings: int = _NOW) -> float:
        """Increase per second of the counters whose first labels are these, over the last readings."""
        if len(self._readings) < 2:
            return 0.0
        before, last = self._readings[-min(readings + 1, len(self._readings))], self._readings[-1]
        increase = sum(
            count - before.counts[name].get(key, 0.0)
            for key, count in last.counts[name].items()
            if key[: len(labels)] == labels
        )
        return max(0.0, increase) / max(last.at - before.at, 1e-9)

    def total(self, name: str, *labels: str) -> float:
        """Count since the start of the process."""
        if not self._readings:
            return 0.0
        return sum(count for key, count in self._readings[-1].counts[name].items() if key[: len(labels)] == labels)

    def quantile(self, name: str, share: float, *labels: str) -> float | None:
        """Quantile over the last minute; None when there was nothing."""
        if len(self._readings) < 2:
            return None
        return quantile(_summed(self._readings[0], self._readings[-1], name, labels), share)

    def names(self, name: str) -> list[str]:
        """First labels seen."""
        return sorted({key[0] for key in self._readings[-1].counts[name]}) if self._readings else []

    def _counts(self, name: str) -> dict[_Labels, float]:
        found: dict[_Labels, float] = {}
        for family in self._metrics.counter(name).collect():
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    found[tuple(sample.labels.values())] = sample.value
        return found

    def _buckets(self, name: str) -> dict[_Labels, list[tuple[float, float]]]:
        found: dict[_Labels, list[tuple[float, float]]] = {}
        for family in self._metrics.histogram(name).collect():
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    labels = tuple(value for label, value in sample.labels.items() if label != "le")
                    found.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        return found


def _summed(before: Reading, last: Reading, name: str, labels: _Labels) -> list[tuple[float, float]]:
    """Increase of the buckets of all children whose first labels are these."""
    total: dict[float, float] = {}
    for key, buckets in last.buckets[name].items():
        if key[: len(labels)] == labels:
            known = dict(before.buckets[name].get(key, ()))
            for bound, count in buckets:
                total[bound] = total.get(bound, 0.0) + count - known.get(bound, 0.0)
    return sorted(total.items())


def _series(before: Reading, last: Reading) -> dict[str, float]:
    took = max(last.at - before.at, 1e-9)
    values: dict[str, float] = {}

    def add(series: str, value: float | None) -> None:
        if value:
            values[series] = round(values.get(series, 0.0) + value, 6)

    for name, labels, increase in _increases(before, last):
        match name:
            case "gateway_callbacks":
                add("intake:all:rate", increase / took)
                add(f"callback:{labels[0]}:rate", increase / took)
                if labels[1] not in ("accepted", "repeated"):
                    add(f"callback:{labels[0]}:refused", increase / took)
            case "gateway_topic_events":
                add(f"topic:{labels[0]}:rate", increase / took)
            case "gateway_kafka_written_events":
                add(f"published:{labels[0]}:rate", increase / took)
            case "gateway_deliveries" if labels[1] == "delivered":
                add(f"subscriber:{labels[0]}:delivered", increase / took)
            case "gateway_deliveries" if labels[1] in FAILED:
                add(f"subscriber:{labels[0]}:failed", increase / took)
    for name, prefix in (
        ("gateway_callback_answer_seconds", "callback"),
        ("gateway_delivery_attempt_seconds", "subscriber"),
    ):
        for labels in last.buckets[name]:
            buckets = _summed(before, last, name, labels)
            add(f"{prefix}:{labels[0]}:p50", quantile(buckets, 0.5))
            add(f"{prefix}:{labels[0]}:p99", quantile(buckets, 0.99))
    answers = _summed(before, last, "gateway_callback_answer_seconds", ())
    add("intake:all:p50", quantile(answers, 0.5))
    add("intake:all:p99", quantile(answers, 0.99))
    add("journal:commit:p99", quantile(_summed(before, last, "gateway_journal_commit_seconds", ()), 0.99))
    return values


def _increases(before: Reading, last: Reading) -> list[tuple[str, _Labels, float]]:
    return [
        (name, labels, count - before.counts[name].get(labels, 0.0))
        for name, counts in last.counts.items()
        for labels, count in counts.items()
        if count > before.counts[name].get(labels, 0.0)
    ]
