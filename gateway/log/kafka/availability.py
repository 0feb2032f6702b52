"""Whether Kafka serves us, told once per change: log, gauge, and a value for ``/readyz`` and the console."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import structlog

from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.kafka")

#: How many clients of one name are open: one that comes before the other has gone shares its series.
_OPEN: Counter[str] = Counter()

#: Subject of what concerns the connection and not one topic.
CONNECTION = ""


@dataclass(frozen=True, slots=True)
class State:
    """What is the matter, at one moment.

    Args:
        is_ready: nothing is the matter.
        problems: subject (a topic, or ``""`` for the connection) → sentence; empty when ready.
        since: Unix seconds of the last change of ``is_ready``.
    """

    is_ready: bool
    problems: dict[str, str]
    since: float

    @property
    def reason(self) -> str:
        """All problems in one line; empty when ready."""
        return "; ".join(f"{subject}: {text}" if subject else text for subject, text in self.problems.items())


class Availability:
    """Collects problems by subject. Starts with "not connected yet", said to nobody.

    Args:
        client: label of the gauge and of log lines, such as ``publisher``.
    """

    def __init__(self, client: str) -> None:
        self._client = client
        self._problems: dict[str, str] = {CONNECTION: "not connected yet"}
        self._told: dict[str, float] = {}
        self._since = time.time()
        self._gauge = METRICS.gauge("gateway_kafka_up").labels(client)
        self._gauge.set(0)
        self._is_closed = False
        _OPEN[client] += 1

    def close(self) -> None:
        """The client is gone: a gauge that stays at 0 would be an alarm about nothing. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        _OPEN[self._client] -= 1
        if not _OPEN[self._client]:
            del _OPEN[self._client]
            with suppress(KeyError):
                METRICS.gauge("gateway_kafka_up").remove(self._client)

    @property
    def state(self) -> State:
        """The present state."""
        return State(not self._problems, dict(self._problems), self._since)

    def problem(self, subject: str, reason: str) -> None:
        """Something does not work. The first word on a subject is logged, the latest reason is kept."""
        if not self._problems:
            self._since = time.time()
        self._problems[subject] = reason
        self._gauge.set(0)
        if subject not in self._told:
            self._told[subject] = time.monotonic()
            _log.warning("kafka.unavailable", client=self._client, topic=subject or None, reason=reason)

    def solved(self, subject: str) -> None:
        """A subject works (again)."""
        if subject not in self._problems:
            return
        del self._problems[subject]
        if subject in self._told:
            lasted_s = round(time.monotonic() - self._told.pop(subject), 3)
            _log.info("kafka.available", client=self._client, topic=subject or None, lasted_s=lasted_s)
        if not self._problems:
            self._since = time.time()
            self._gauge.set(1)
