"""Metrics, log lines and the notes of attempts for ``explain`` (:mod:`.attempts`) of one subscriber.

Labels are bound once; the hot path pays only for counters and for lines that are shown. Lines have ids, states and
numbers: no payload, no phone number, no secret, and no part of a response.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import structlog

from gateway.clock import Clock
from gateway.fanout import exchanges
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.attempts import MAX_NOTED, AttemptWriter
from gateway.fanout.exchanges import RequestShape
from gateway.fanout.job import Job
from gateway.fanout.retry_records import replay_name
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS, BatchedMetrics, Metrics
from gateway.telemetry.tracing import Spans

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
#: Between two successes of a subscriber whose answers are kept though nothing had failed.
_SUCCESS_EACH_S: Final = 60.0
#: Replaces the name of a replay that has none: its copies were stored by a version without names.
UNNAMED: Final = "r-?"
_NO_SHAPE: Final = RequestShape()


def forget(subscriber: str, metrics: Metrics) -> None:
    """End what is measured of a subscriber that is no more; what was counted stays."""
    metrics.gauge("gateway_subscriber_lag_records").remove(subscriber)
    metrics.gauge("gateway_delivery_in_flight").remove(subscriber)


class AttemptLog:
    """Bound to one subscriber.

    Args:
        writer: keeps attempts for ``explain``; None keeps none.
        shape: what the requests of the subscriber have in common.
        on_replay: called with each attempt on the copy of a replay, and the outcome in a word.
        spans: creates spans of attempts, if an exporter is configured.
    """

    def __init__(
        self,
        subscriber: str,
        *,
        clock: Clock,
        metrics: Metrics = METRICS,
        writer: AttemptWriter | None = None,
        shape: RequestShape = _NO_SHAPE,
        on_replay: Callable[[Job, str], None] | None = None,
        spans: Spans | None = None,
    ) -> None:
        self._subscriber = subscriber
        self._clock = clock
        self._log = structlog.get_logger("gateway.fanout").bind(subscriber=subscriber)
        self._shows_debug = self._log.is_enabled_for(logging.DEBUG)
        deliveries = metrics.counter("gateway_deliveries")
        self._outcomes = {outcome: deliveries.labels(subscriber, outcome) for outcome in _OUTCOMES}
        metrics.histogram("gateway_delivery_attempt_seconds").labels(subscriber)  # shown before the first attempt
        self._tally = BatchedMetrics("gateway_deliveries", "gateway_delivery_attempt_seconds", metrics)
        self._writer = writer
        self._noted = [] if writer is None else writer.noted(subscriber, shape)
        self._secrets = shape.secrets
        self._success_due = 0.0  # when the next answer of a success is kept, Unix seconds
        self._on_replay = on_replay
        self._spans = spans
        self._shown_until = float("-inf")
        self._shown = self._not_shown = 0

    def delivered(self, job: Job, result: AttemptResult) -> None:
        """Report the attempt that completed a delivery."""
        self._tally.count(self._subscriber, "delivered")
        self._tally.took(self._subscriber, result.duration_s)
        self._note(job, result, "delivered")
        if self._shows_debug:
            self._line(self._log.debug, job, result, "delivered", None)

    def failed(self, job: Job, result: AttemptResult, outcome: str, *, delay_s: float | None = None) -> None:
        """Report a failed attempt; ``outcome`` is what happens to the event."""
        self._tally.count(self._subscriber, outcome)
        self._tally.took(self._subscriber, result.duration_s)
        self._note(job, result, outcome)
        if outcome not in _TRIED_AGAIN or self._may_show():
            self._line(self._log.info, job, result, outcome, delay_s)
        elif self._shows_debug:
            self._line(self._log.debug, job, result, outcome, delay_s)

    def cancelled(self, job: Job) -> None:
        """Report an attempt that was interrupted, so that its outcome is not known."""
        self._outcomes["cancelled"].inc()
        result = AttemptResult(error="cancelled", detail="its partition went to another process meanwhile")
        self._note(job, result, "cancelled")
        self._line(self._log.info, job, result, "cancelled", None)

    def withdrawn(self, job: Job) -> None:
        """Report that the copy of a cancelled replay was not attempted."""
        self._outcomes["withdrawn"].inc()
        self._note(job, AttemptResult(error="withdrawn", detail="its replay was cancelled"), "withdrawn")

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
        self._note(job, AttemptResult(error="poison", detail=error), "lost")
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

    def _note(self, job: Job, result: AttemptResult, outcome: str) -> None:
        """Note an attempt for ``explain``, for its replay and for traces."""
        at, noted, writer = self._clock.now(), self._noted, self._writer
        if writer is not None and len(noted) >= MAX_NOTED:
            writer.unkept.inc()
        elif writer is not None:
            is_plain = outcome == "delivered" and job.attempts + job.probes <= 1 and not job.is_replay
            answer = None if is_plain and at < self._success_due else self._answer(writer, result, outcome, at)
            sent = (result.timestamp, result.span, result.signature[: exchanges.SIGNATURE_SHOWN])
            at_ms, ms = int(at * 1000) / 1000, round(result.duration_s * 1000)  # round(at, 3) takes twice as long
            row = (job.record.id, at_ms, outcome, result.summary, job.attempts, ms)
            if is_plain and result.timestamp:  # the hot path
                noted.append(((*row, sent), answer))
            else:
                replay = (replay_name(job.record) or UNNAMED) if job.is_replay else ""
                ends = [sent if result.timestamp else None, result.sentence, replay]
                while ends and not ends[-1]:
                    ends.pop()
                noted.append(((*row, *ends), answer))
        if job.is_replay and self._on_replay is not None:
            self._on_replay(job, outcome)
        if self._spans is not None and result.span:
            headers, summary = job.record.headers, result.summary
            self._spans.attempted(
                self._subscriber, job.record.id, headers, result.span, at, result.duration_s, outcome, summary
            )

    def _answer(self, writer: AttemptWriter, result: AttemptResult, outcome: str, at: float) -> dict[str, Any] | None:
        """Return the answer as it is kept, if there is room for it."""
        if outcome == "delivered":
            self._success_due = at + _SUCCESS_EACH_S
        if not writer.budget.takes(exchanges.size_of(result), at):
            return None
        return exchanges.answer_of(result, self._secrets)

    def _may_show(self) -> bool:
        """Return whether one more line of an attempt that will be repeated is shown; if not, count it."""
        now = self._clock.monotonic()
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
