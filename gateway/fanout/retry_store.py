"""Appending parked events and dead letters, of which a log may refuse one for its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from gateway.clock import Clock
from gateway.errors import Poison
from gateway.fanout import retry_records
from gateway.fanout.retry_moves import Move
from gateway.log import Entry, EventLog
from gateway.telemetry import redaction
from gateway.telemetry.metrics import Metrics

_log = structlog.get_logger("gateway.fanout")


async def store(log: EventLog, forms: Sequence[Sequence[Entry]]) -> dict[int, str]:
    """Append one form of each event; return the events that the log accepts in no form, with its reason.

    All are appended at once in the first form; if the log refuses that, each separately in the first accepted form.

    Args:
        forms: of each event, the largest first.

    Raises:
        NotNow: some may be stored; ask again, which stores them twice.
    """
    try:
        await log.append([each[0] for each in forms])
    except Poison:
        return {
            number: error for number, each in enumerate(forms) if (error := await _first_taken(log, each)) is not None
        }
    return {}


async def _first_taken(log: EventLog, forms: Sequence[Entry]) -> str | None:
    error = ""
    for form in forms:
        try:
            await log.append([form])
        except Poison as exc:
            error = str(exc)
        else:
            return None
    return error


class Appender:
    """Appends events of one shared topic again, with a later due time, or as dead letters.

    Args:
        topic: where they are now.
        again: returns the retry topic for a wait, in seconds.
    """

    def __init__(
        self, log: EventLog, topic: str, again: Callable[[float], str], clock: Clock, metrics: Metrics
    ) -> None:
        self._log = log
        self._topic = topic
        self._again = again
        self._clock = clock
        self._lost = metrics.counter("gateway_deliveries")

    async def append(self, moves: Sequence[Move]) -> None:
        """Store moves; an event that the log accepts in no form is counted as lost.

        Raises:
            GatewayError: the log does not accept them now; some may be stored.
        """
        forms = [
            (self._entry(move), *retry_records.last_forms(move.job.record, move.job.trail, move.job.subscriber))
            for move in moves
        ]
        for number, error in (await store(self._log, forms)).items():
            job = moves[number].job
            self._lost.labels(job.subscriber, "lost").inc()
            _log.error("delivery.lost", id=redaction.event_id(job.record.id), topic=self._topic, error=error)

    def _entry(self, move: Move) -> Entry:
        job, delay_s = move.job, move.due - self._clock.monotonic()
        if move.is_dead:
            _log.warning(
                "delivery.dead_lettered",
                id=redaction.event_id(job.record.id),
                topic=job.record.topic,
                subscriber=job.subscriber,
                reason="no_subscriber",
            )
            return retry_records.dead_letter(
                job.record, retry_records.dlq_topic(job.subscriber), job.trail, "no_subscriber"
            )
        topic, due = self._again(delay_s), self._clock.now() + delay_s
        moves = 0 if move.reason in ("held", "full") else job.moves + 1
        return retry_records.parked(job.record, topic, job.trail, due, job.subscriber, moves=moves)
