"""Metrics, log lines and the record of attempts of one subscriber.

Labels are bound once; the hot path pays only for counters and for lines that are shown. Lines have ids, states and
numbers: no payload, no phone number, no secret, and no part of a response.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from gateway.fanout.attempt import AttemptResult
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS, BatchedMetrics, Metrics

if TYPE_CHECKING:
    from gateway.fanout.job import Job

_OUTCOMES: Final = (
    "delivered",
    "retried",
    "parked",
    "dead_lettered",
    "skipped",
    "stopped",
    "abandoned",
    "cancelled",
    "withdrawn",
    "lost",
)

#: Outcomes after which the event is tried again; the lines of the others are all shown.
_TRIED_AGAIN: Final = frozenset({"retried", "parked"})
#: At ``info`` a subscriber has so many lines of attempts that will be repeated in so many seconds: enough to see what
#: it answers. One that is down has hundreds, which would hide the line that reports it; ``debug`` has them all.
_SHOWN_LINES: Final = 3
_SHOWN_EACH_S: Final = 10.0

#: Called for every attempt: the job, its result, the outcome in a word.
OnAttempt = Callable[["Job", AttemptResult, str], None]


def forget(subscriber: str, metrics: Metrics) -> None:
    """End what is measured of a subscriber that is no more; what was counted stays."""
    metrics.gauge("gateway_subscriber_lag_records").remove(subscriber)
    metrics.gauge("gateway_delivery_in_flight").remove(subscriber)


class Telling:
    """Bound to one subscriber.

    Args:
        on_attempt: records attempts for ``explain``; None records nothing.
        monotonic: returns seconds.
    """

    def __init__(
        self,
        subscriber: str,
        *,
        metrics: Metrics = METRICS,
        on_attempt: OnAttempt | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._subscriber = subscriber
        self._log = structlog.get_logger("gateway.fanout").bind(subscriber=subscriber)
        self._shows_debug = self._log.is_enabled_for(logging.DEBUG)
        deliveries = metrics.counter("gateway_deliveries")
        self._outcomes = {outcome: deliveries.labels(subscriber, outcome) for outcome in _OUTCOMES}
        metrics.histogram("gateway_delivery_attempt_seconds").labels(subscriber)  # shown before the first attempt
        self._tally = BatchedMetrics("gateway_deliveries", "gateway_delivery_attempt_seconds", metrics)
        self._on_attempt = on_attempt
        self._monotonic = monotonic
        self._shown_until = float("-inf")
        self._shown = self._not_shown = 0

    def delivered(self, job: Job, result: AttemptResult) -> None:
        """Report the attempt that completed a delivery."""
        self._tally.count(self._subscriber, "delivered")
        self._tally.took(self._subscriber, result.duration_s)
        if self._on_attempt is not None:
            self._on_attempt(job, result, "delivered")
        if self._shows_debug:
            self._line(self._log.debug, job, result, "delivered", None)

    def failed(self, job: Job, result: AttemptResult, outcome: str, *, delay_s: float | None = None) -> None:
        """Report a failed attempt; ``outcome`` is what happens to the event."""
        self._tally.count(self._subscriber, outcome)
        self._tally.took(self._subscriber, result.duration_s)
        if self._on_attempt is not None:
            self._on_attempt(job, result, outcome)
        if outcome not in _TRIED_AGAIN or self._may_show():
            self._line(self._log.info, job, result, outcome, delay_s)
        elif self._shows_debug:
            self._line(self._log.debug, job, result, outcome, delay_s)

    def cancelled(self, job: Job) -> None:
        """Report an attempt that was interrupted, so that its outcome is not known."""
        self._outcomes["cancelled"].inc()
        result = AttemptResult(error="cancelled", detail="its partition went to another process meanwhile")
        if self._on_attempt is not None:
            self._on_attempt(job, result, "cancelled")
        self._line(self._log.info, job, result, "cancelled", None)

    def withdrawn(self, job: Job) -> None:
        """Report that the copy of a cancelled replay was not attempted."""
        self._outcomes["withdrawn"].inc()
        if self._on_attempt is not None:
            self._on_attempt(job, AttemptResult(error="withdrawn", detail="its replay was cancelled"), "withdrawn")

    def not_closed(self, job: Job, error: str) -> None:
        """Report that the log refuses the record that closes a delivered dead letter."""
        self._log.warning(
            "dead_letter.not_closed",
            id=redaction.event_id(job.record.id),
            error=error,
            advice="it was delivered; gateway dlq resolve closes it",
        )

    def dead_lettered(self, job: Job, reason: str) -> None:
        """Report that an event was given up."""
        self._log.warning(
            "delivery.dead_lettered",
            id=redaction.event_id(job.record.id),
            topic=job.record.topic,
            reason=reason,
            attempts=job.attempts,
            last=job.trail.last.summary,
            why=job.trail.last.sentence,
        )

    def lost(self, job: Job, error: str) -> None:
        """Report that an event was given up, and that the log does not accept it as a dead letter."""
        self._outcomes["lost"].inc()
        if self._on_attempt is not None:
            self._on_attempt(job, AttemptResult(error="poison", detail=error), "lost")
        self._log.error(
            "delivery.lost",
            id=redaction.event_id(job.record.id),
            topic=job.record.topic,
            partition=job.record.partition,
            offset=job.record.offset,
            error=error,
            advice="let dead letters be as large as events, then replay it by its id while its topic keeps it",
        )

    def skipped(self, count: int) -> None:
        """Count records that the filter passed over."""
        self._outcomes["skipped"].inc(count)

    def breaker(self, state: str, before: str, *, probe_in_s: float) -> None:
        """Report a change of the breaker."""
        if state == "closed":
            self._log.warning("subscriber.recovered")
        elif before == "closed":
            self._log.warning("subscriber.down", probe_in_s=round(probe_in_s, 1))
        else:
            self._log.info("subscriber.still_down", probe_in_s=round(probe_in_s, 1))

    def stopped(self, reason: str) -> None:
        """Report that the subscriber answered that it wants no more events."""
        self._log.error("subscriber.stopped", reason=reason, advice="its events wait in the log; resume it when ready")

    def _may_show(self) -> bool:
        """Return whether one more line of an attempt that will be repeated is shown; if not, count it."""
        now = self._monotonic()
        if now >= self._shown_until:
            self._shown_until, self._shown = now + _SHOWN_EACH_S, 0
        if self._shown >= _SHOWN_LINES:
            self._not_shown += 1
            return False
        self._shown += 1
        return True

    def _line(
        self, tell: Callable[..., object], job: Job, result: AttemptResult, outcome: str, delay_s: float | None
    ) -> None:
        tell(
            "delivery.attempted",
            id=redaction.event_id(job.record.id),
            topic=job.record.topic,
            outcome=outcome,
            result=result.summary,
            why=result.sentence or None,
            attempts=job.attempts,
            duration_ms=round(result.duration_s * 1000, 1),
            retry_in_s=None if delay_s is None else round(delay_s, 1),
            is_replay=job.is_replay,
            **({"lines_not_shown": self._not_shown} if self._not_shown and not self._shows_debug else {}),
        )
        self._not_shown = 0
