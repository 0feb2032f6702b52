"""Rates and quantiles over time, from counters, for the charts of the console.

Every :data:`STEP_S` seconds the counts are read once; the difference to the reading before is one point of each series.
A step keeps only what changed and a point only what is not zero, so that an idle gateway costs nothing, here or on the
way to a browser. Ten minutes are kept: Prometheus keeps more.

The counts are those of all processes of this machine's gateway. Each process counts from 0 when it starts, so what is
added up is what each has counted since the reading before: a process that is started again takes nothing away, and one
that is seen for the first time adds what it has counted so far to the totals only.

Series are called ``<kind>:<name>:<what>``, such as ``callback:sms-dr:rate`` or ``subscriber:billing:p99``; rates are
per second, quantiles in seconds.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.telemetry.metrics import METRICS, Counts, Key, Metrics, counts, quantile
from gateway.telemetry.reports import Report

#: Finer, and a callback a second is a saw; coarser, and an operator waits to see what a change did.
STEP_S: Final = 2.0
#: Points kept: ten minutes.
KEPT: Final = 300
#: Steps kept for averages: a minute of them.
_MINUTE: Final = 30
#: Now, for people: steady enough to read.
_NOW: Final = 5

#: Outcomes of attempts that failed.
FAILED: Final = ("retried", "parked", "dead_lettered", "stopped", "abandoned")

_Labels = tuple[str, ...]


@dataclass(slots=True)
class Step:
    """Increase of the counters between two readings; by name, by the first label (empty: there is none).

    Args:
        took_s: between them.
        counts: by all labels.
        durations: by bucket.
    """

    took_s: float
    counts: dict[str, dict[str, dict[_Labels, float]]] = field(default_factory=lambda: defaultdict(dict))
    durations: dict[str, dict[str, Counter[int]]] = field(default_factory=lambda: defaultdict(dict))

    def count(self, key: Key, increase: float) -> None:
        """Add to a counter."""
        name, labels = key
        of_first = self.counts[name].setdefault(labels[0], {})
        of_first[labels] = of_first.get(labels, 0.0) + increase

    def took(self, key: Key, increase: Mapping[int, int]) -> None:
        """Add durations."""
        name, labels = key
        self.durations[name].setdefault(labels[0] if labels else "", Counter()).update(increase)

    def add(self, other: Step) -> None:
        """Add what was counted in another step; the lengths add up, too."""
        self.took_s += other.took_s
        for name, by_first in other.counts.items():
            for of_first in by_first.values():
                for labels, increase in of_first.items():
                    self.count((name, labels), increase)
        for name, by_label in other.durations.items():
            for label, found in by_label.items():
                self.durations[name].setdefault(label, Counter()).update(found)


@dataclass(frozen=True, slots=True)
class Point:
    """Rates of one step."""

    at: float
    values: dict[str, float] = field(default_factory=dict)


class Rates:
    """Keeps steps and points. The owner of the timer calls :meth:`take`."""

    def __init__(self, metrics: Metrics = METRICS) -> None:
        self._metrics = metrics
        self._lives: dict[str, tuple[float, Counts]] = {}
        self._totals: dict[str, dict[str, dict[_Labels, float]]] = defaultdict(dict)
        self._steps: deque[Step] = deque(maxlen=_MINUTE)
        self._last: float | None = None
        #: What was counted between the last two readings; None before the second one.
        self.last_step: Step | None = None
        self.points: deque[Point] = deque(maxlen=KEPT)

    def take(self, now: float, levels: dict[str, float], others: Mapping[str, Report | None] | None = None) -> Point:
        """Read the counts.

        Args:
            now: Unix seconds.
            levels: values that are not counted but measured, and go in as they are; not a number: not known.
            others: the reports of the other processes; one that did not answer adds nothing this time.
        """
        step = Step(now - self._last if self._last is not None else 0.0)
        self._add(step, "", 0.0, counts(self._metrics), before=None)
        for name, one in (others or {}).items():
            if one is not None:
                self._add(step, name, one.started_at, one.counts, before=self._last)
        values = {name: value for name, value in levels.items() if value}
        if self._last is not None:
            self._steps.append(step)
            self.last_step = step
            values |= series_of(step)
        self._last = now
        point = Point(now, values)
        self.points.append(point)
        return point

    def rate(self, name: str, *labels: str, steps: int = _NOW) -> float:
        """Increase per second of the counters whose first labels are these, over the last steps."""
        recent = self._recent(steps)
        increase = sum(_sum(step.counts.get(name, {}), labels) for step in recent)
        return increase / max(sum(step.took_s for step in recent), 1e-9)

    def by_labels(self, name: str, *, steps: int) -> Mapping[str, Mapping[str, float]]:
        """Return the increase of counters over the last steps, by the first label, then by the second one."""
        found: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for step in self._recent(steps):
            for first, of_first in step.counts.get(name, {}).items():
                for labels, increase in of_first.items():
                    found[first][labels[1]] = found[first].get(labels[1], 0.0) + increase
        return found

    def total(self, name: str, *labels: str) -> float:
        """Count since the start of each process, over all their lives that were seen."""
        return _sum(self._totals.get(name, {}), labels)

    def quantile(self, name: str, share: float, first: str | None = None) -> float | None:
        """Return a quantile over the last minute, of one first label or of all; None when there was nothing."""
        return quantile(_together(self._steps, name, first), share)

    def names(self, name: str) -> list[str]:
        """Return the first labels seen."""
        return sorted(self._totals.get(name, {}))

    def _recent(self, steps: int) -> list[Step]:
        return list(self._steps)[-steps:]

    def _add(self, step: Step, process: str, started_at: float, found: Counts, *, before: float | None) -> None:
        """Add what a process has counted since it was seen.

        Args:
            started_at: of its present life.
            before: when the reading before this one was taken; None: this is the first.
        """
        known = self._lives.get(process)
        self._lives[process] = started_at, found
        is_new = known is None and (before is None or started_at <= before)
        seen = known[1] if known is not None and known[0] == started_at else Counts()
        for key, count in found.counters.items():
            if count == (last := seen.counters.get(key)):
                continue
            increase = count - (last or 0.0)
            name, labels = key
            totals = self._totals[name].setdefault(labels[0], {})
            totals[labels] = totals.get(labels, 0.0) + increase
            if increase > 0 and not is_new:
                step.count(key, increase)
        if not is_new:
            for key, durations in found.durations.items():
                if (old := seen.durations.get(key, {})) != durations:
                    step.took(key, {at: more for at, n in durations.items() if (more := n - old.get(at, 0)) > 0})


def _sum(by_first: Mapping[str, Mapping[_Labels, float]], labels: _Labels) -> float:
    """Return the sum of those whose first labels are these."""
    parts: Iterable[Mapping[_Labels, float]] = [by_first.get(labels[0], {})] if labels else by_first.values()
    return sum(count for part in parts for key, count in part.items() if key[: len(labels)] == labels)


def _together(steps: Iterable[Step], name: str, first: str | None) -> Counter[int]:
    """Return the durations of several steps."""
    found: Counter[int] = Counter()
    for step in steps:
        by_first = step.durations.get(name, {})
        parts: Iterable[Mapping[int, int]] = by_first.values() if first is None else [by_first.get(first, {})]
        for part in parts:
            found.update(part)
    return found


def series_of(step: Step) -> dict[str, float]:
    """Return what was counted in a step as series: those that are not zero."""
    took_s = max(step.took_s, 1e-9)
    values: dict[str, float] = {}

    def add(series: str, value: float | None) -> None:
        if value:
            values[series] = round(values.get(series, 0.0) + value, 6)

    for name, labels, increase in _increases(step):
        match name:
            case "gateway_callbacks":
                add("intake:all:rate", increase / took_s)
                add(f"callback:{labels[0]}:rate", increase / took_s)
                if labels[1] not in ("accepted", "repeated"):
                    add(f"callback:{labels[0]}:refused", increase / took_s)
            case "gateway_topic_events":
                add(f"topic:{labels[0]}:rate", increase / took_s)
            case "gateway_kafka_written_events":
                add(f"published:{labels[0]}:rate", increase / took_s)
            case "gateway_deliveries" if labels[1] == "delivered":
                add(f"subscriber:{labels[0]}:delivered", increase / took_s)
            case "gateway_deliveries" if labels[1] in FAILED:
                add(f"subscriber:{labels[0]}:failed", increase / took_s)
    for name, prefix in (
        ("gateway_callback_answer_seconds", "callback"),
        ("gateway_delivery_attempt_seconds", "subscriber"),
    ):
        for first, found in step.durations.get(name, {}).items():
            add(f"{prefix}:{first}:p50", quantile(found, 0.5))
            add(f"{prefix}:{first}:p99", quantile(found, 0.99))
    answers = _together([step], "gateway_callback_answer_seconds", None)
    add("intake:all:p50", quantile(answers, 0.5))
    add("intake:all:p99", quantile(answers, 0.99))
    add("journal:commit:p99", quantile(_together([step], "gateway_journal_commit_seconds", None), 0.99))
    return values


def _increases(step: Step) -> Sequence[tuple[str, _Labels, float]]:
    return [
        (name, labels, increase)
        for name, by_first in step.counts.items()
        for of_first in by_first.values()
        for labels, increase in of_first.items()
    ]
