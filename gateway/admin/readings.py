"""The catalogue's counters as rates and quantiles over time: what the console draws.

Every :data:`STEP_S` seconds the metrics are read once; the difference to the reading before is one point of each
series. A point holds only what is not zero, so that an idle gateway costs nothing on the way to a browser. Ten
minutes are kept: Prometheus keeps the rest.

The counters are those of all processes of this gateway. Each process counts from 0 when it starts, so what is summed is
what each has counted since the reading before: a process that is started again takes nothing away, and one that is seen
for the first time adds what it has counted so far to the totals only.

Series are called ``<kind>:<name>:<what>``, such as ``callback:sms-dr:rate`` or ``subscriber:billing:p99``; rates are
per second, quantiles in seconds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.telemetry.metrics import METRICS, Metrics
from gateway.telemetry.reports import Family, Report, family

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
#: Name, labels, and of a bucket its upper bound.
_Key = tuple[str, _Labels, float | None]


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment, since the first reading; histograms as counts by upper bound, cumulated."""

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
        self._sum = _Sum()
        self._readings: deque[Reading] = deque(maxlen=_MINUTE)
        self.points: deque[Point] = deque(maxlen=KEPT)

    def take(self, now: float, levels: dict[str, float], others: Mapping[str, Report | None] | None = None) -> Point:
        """Read the metrics.

        Args:
            now: Unix seconds.
            levels: values that are not counted but measured, and go in as they are.
            others: the reports of the other processes; one that did not answer adds nothing this time.
        """
        self._sum.add("", 0.0, _flat(self._own()), before=None)
        last = self._readings[-1].at if self._readings else None
        for name, one in (others or {}).items():
            if one is not None:
                self._sum.add(name, one.started_at, _flat(one.families), before=last)
        reading = self._sum.reading(now)
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
        """Count since the start of each process, over all their lives that were seen."""
        return sum(
            count
            for counts in (self._sum.base, self._sum.counts)
            for (of, key, bound), count in counts.items()
            if of == name and bound is None and key[: len(labels)] == labels
        )

    def quantile(self, name: str, share: float, *labels: str) -> float | None:
        """Quantile over the last minute; None when there was nothing."""
        if len(self._readings) < 2:
            return None
        return quantile(_summed(self._readings[0], self._readings[-1], name, labels), share)

    def names(self, name: str) -> list[str]:
        """First labels seen."""
        return sorted({key[0] for key in self._readings[-1].counts[name]}) if self._readings else []

    def _own(self) -> Iterable[Family]:
        for metric in (
            *(self._metrics.counter(name) for name in _COUNTERS),
            *(self._metrics.histogram(name) for name in _HISTOGRAMS),
        ):
            yield from map(family, metric.collect())


class _Sum:
    """Counts of several processes that each begin at 0 with each life."""

    def __init__(self) -> None:
        #: Counted before the first reading of a process, and since.
        self.base: dict[_Key, float] = {}
        self.counts: dict[_Key, float] = {}
        self._lives: dict[str, tuple[float, Mapping[_Key, float]]] = {}

    def add(self, process: str, started_at: float, found: Mapping[_Key, float], *, before: float | None) -> None:
        """Add what a process has counted since it was seen.

        Args:
            started_at: of its present life.
            before: when the reading before this one was taken; None: this is the first.
        """
        known = self._lives.get(process)
        self._lives[process] = started_at, found
        if known is not None:
            seen = known[1] if known[0] == started_at else {}
        elif before is not None and started_at > before:
            seen = {}
        else:
            seen = found
            for key, count in found.items():
                self.base[key] = self.base.get(key, 0.0) + count
        for key, count in found.items():
            self.counts[key] = self.counts.get(key, 0.0) + count - seen.get(key, 0.0)

    def reading(self, now: float) -> Reading:
        """Return the counts as they are now."""
        reading = Reading(now, {name: {} for name in _COUNTERS}, {name: {} for name in _HISTOGRAMS})
        for (name, labels, bound), count in self.counts.items():
            if bound is None:
                reading.counts[name][labels] = count
            else:
                reading.buckets[name].setdefault(labels, []).append((bound, count))
        return reading


def _flat(families: Iterable[Family]) -> dict[_Key, float]:
    """Counters and buckets of those families that are drawn."""
    found: dict[_Key, float] = {}
    for one in families:
        if one.name in _COUNTERS:
            for name, labels, value in one.samples:
                if name.endswith("_total"):
                    found[one.name, tuple(labels.values()), None] = value
        elif one.name in _HISTOGRAMS:
            for name, labels, value in one.samples:
                if name.endswith("_bucket"):
                    key = tuple(text for label, text in labels.items() if label != "le")
                    found[one.name, key, float(labels["le"])] = value
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
