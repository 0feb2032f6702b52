"""Counters and durations of a process for the console, read without making samples of them.

Collecting the whole catalogue makes an object and a dictionary of labels of every value; with hundreds of subscribers
that was most of what an idle gateway did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.telemetry.metrics import METRICS, Metrics

COUNTERS: Final = (
    "gateway_callbacks",
    "gateway_deliveries",
    "gateway_topic_events",
    "gateway_kafka_written_events",
    "gateway_http_refused",
)

#: Name of the metric, values of its labels.
Key = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one process, at one moment.

    Args:
        counters: since its start.
        durations: since its start, by bucket (:mod:`gateway.telemetry.sketch`).
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
        {(name, labels): one for name in COUNTERS for labels, one in metrics.values(name)},
        {key: dict(found) for key, found in metrics.sketches.items()},
    )
