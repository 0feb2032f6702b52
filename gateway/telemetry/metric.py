"""A row of the catalogue of metrics, :mod:`.metric_catalogue`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Kinds of process, as their names begin.
Kind = Literal["log", "ingest", "deliver"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the catalogue.

    Args:
        name: without Prometheus' ``_total``.
        processes: kinds of process that count it. No other reports it: its 0 would say what it does not know.
        kind: counter, gauge or histogram.
        labels: label names; each has few values (names of callbacks, topics, subscribers; never ids).
        meaning: one sentence.
        advice: what to do when it is high, or moves at all.
        buckets: of a histogram, in its unit.
    """

    name: str
    processes: tuple[Kind, ...]
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    advice: str
    buckets: tuple[float, ...] = ()
