"""Whether Kafka serves us, told once per change: log, gauge, and a value for ``/readyz`` and the console."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.kafka")

#: The clients that are open, by name.
_OPEN: defaultdict[str, set[Availability]] = defaultdict(set)

#: Words for what is the matter, of :attr:`State.word`.
AWAY: Final = "away"
UNREADABLE: Final = "unreadable"
MISSING: Final = "topic missing"

#: Subject of what concerns the connection and not one topic.
CONNECTION = ""


@dataclass(frozen=True, slots=True)
class State:
    """What is the matter, at one moment.

    Args:
        is_ready: nothing is the matter.
        problems: subject (a topic, or ``""`` for the connection) → sentence; empty when ready.
        since: Unix seconds of the last change of ``is_ready``.
        word: the worst of the problems: ``away`` (an outage), ``unreadable`` (a batch that cannot be decoded) or
            ``topic missing``; empty when ready.
    """

    is_ready: bool
    problems: dict[str, str]
    since: float
    word: str = ""

    @property
    def reason(self) -> str:
        """All problems in one line; empty when ready."""
        return "; ".join(f"{subject}: {text}" if subject else text for subject, text in self.problems.items())


def both(one: State, other: State) -> State:
    """Of two clients of one name: ready when both are, since the later of their changes; the first's word counts."""
    words = [word for word in (AWAY, UNREADABLE, MISSING) if word in {one.word, other.word}]
    return State(
        one.is_ready and other.is_ready,
        other.problems | one.problems,
        max(one.since, other.since),
        words[0] if words else "",
    )


class Availability:
    """Collects problems by subject. Starts with "not connected yet", said to nobody.

    Clients of one name share a gauge: those that browse for one stream, or one that comes before the other has gone.

    Args:
        client: label of the gauge and of log lines, such as ``publisher``.
    """

    def __init__(self, client: str) -> None:
        self._client = client
        self._problems: dict[str, str] = {CONNECTION: "not connected yet"}
        self._told: dict[str, float] = {}
        self._since = time.time()
        _OPEN[client].add(self)
        self._show()

    def close(self) -> None:
        """The client is gone: a gauge that stays at 0 would be an alarm about nothing. May be called twice."""
        _OPEN[self._client].discard(self)
        self._show()

    @property
    def state(self) -> State:
        """The present state."""
        return State(not self._problems, dict(self._problems), self._since, AWAY if self._problems else "")

    def problem(self, subject: str, reason: str) -> None:
        """Something does not work. The first word on a subject is logged, the latest reason is kept."""
        if not self._problems:
            self._since = time.time()
        self._problems[subject] = reason
        self._show()
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
            self._show()

    def _show(self) -> None:
        gauge, clients = METRICS.gauge("gateway_kafka_up"), _OPEN[self._client]
        if clients:
            gauge.labels(self._client).set(all(not client._problems for client in clients))
            return
        del _OPEN[self._client]
        with suppress(KeyError):
            gauge.remove(self._client)
