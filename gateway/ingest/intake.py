"""What happens to one callback: authenticate, decode, append, answer.

Free of HTTP: requests and answers are values. :meth:`Intake.take` runs to its end without waiting; when something must
become durable first, it returns the answer together with the future to wait for. Success is never told before.

It has two halves. :func:`prepare` is pure and costs what the request weighs, so that a large one is prepared in a
thread; :meth:`Intake.finish` hands it to the log, on the event loop. The log stores what is new and knows repeats.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

import structlog

from gateway.callbacks import bounds
from gateway.callbacks.answers import Answer
from gateway.callbacks.meant import explained
from gateway.callbacks.rejected import rejected_event
from gateway.callbacks.request import CallbackRequest
from gateway.errors import CallbackRejected, NotNow, SenderError
from gateway.event import Event
from gateway.ingest.endpoints import Endpoint
from gateway.ingest.gathering import Gathering, Log
from gateway.log import Appended, Entry, Headers
from gateway.telemetry import redaction, traceparent
from gateway.telemetry.metrics import METRICS
from gateway.telemetry.tally import Tally
from gateway.telemetry.tracing import Spans

_log = structlog.get_logger("gateway.ingest")
_DRIFT = METRICS.counter("gateway_callback_drift")
#: Drift labels told in the log, once each; past so many only the metric goes on counting.
_MOST_DRIFT_LABELS = 1000


class Pending(NamedTuple):
    """An answer that may leave when ``durable`` is done. Everything in it is decided already.

    Args:
        durable: shared with other callbacks of the same turn: await it behind a shield.
        answer: of success, or of a rejection that is kept.
        outcome: ``accepted`` or ``rejected``; for :meth:`Intake.settled`.
        indexes: of its events in the append that they share with others.
    """

    durable: asyncio.Future[Appended]
    answer: Answer
    outcome: str
    indexes: range


class Prepared(NamedTuple):
    """What one request is, before the log looks whether it is new.

    Args:
        outcome: ``accepted``, ``rejected``, ``unauthenticated`` or ``forbidden``.
        answer: for the sender, once the events are durable.
        events: what is to be stored, as one unit; none when the request was refused.
        values: the bytes of each event.
        drift: see :class:`gateway.callbacks.Decoded`.
        error: why it was refused or rejected; without its traceback, whose frames hold all that was parsed.
    """

    outcome: str
    answer: Answer
    events: tuple[Event, ...] = ()
    values: Sequence[bytes] = ()
    drift: tuple[str, ...] = ()
    error: SenderError | None = None


class Intake:
    """Takes callbacks in.

    Args:
        log: where events become durable; it knows repeats.
        clock: now, timezone-aware UTC.
        max_waiting: callbacks that may wait for a commit; one more is answered 503 at once.
        spans: makes spans of what is taken in, where an exporter is configured.
    """

    def __init__(
        self,
        log: Log,
        *,
        clock: Callable[[], datetime],
        max_waiting: int,
        spans: Spans | None = None,
    ) -> None:
        self._spans = spans
        self._log = Gathering(log)
        self._clock = clock
        self._max_waiting = max_waiting
        self._settling: tuple[asyncio.Future[Appended], list[int]] | None = None
        self._waiting = 0
        self._seen_drift: set[tuple[str, str]] = set()
        self._tells_each = _log.is_enabled_for(logging.DEBUG)
        self.tally = Tally("gateway_callbacks", "gateway_callback_answer_seconds")

    def take(self, endpoint: Endpoint, request: CallbackRequest) -> Answer | Pending:
        """Decide about one callback that is small; of a large one both halves are called in their places."""
        return self.finish(endpoint, request, prepare(endpoint, request))

    def finish(self, endpoint: Endpoint, request: CallbackRequest, prepared: Prepared) -> Answer | Pending:
        """Store the events of a request that was prepared, and log and count what it was."""
        if prepared.error is not None:
            self._tell_error(endpoint, request, prepared)
        if not prepared.events:
            self.count(endpoint, prepared.outcome)
            return prepared.answer
        if prepared.drift:
            self._tell_drift(endpoint, prepared)
        return self._store(endpoint, request, prepared)

    def keep(self, endpoint: Endpoint, request: CallbackRequest, event: Event, answer: Answer) -> Answer | Pending:
        """Store an event that keeps a request as it came; the answer may leave when it is durable."""
        return self._store(endpoint, request, Prepared("rejected", answer, (event,), (event.to_json(),)))

    def not_stored(self, endpoint: Endpoint, request: CallbackRequest, error: NotNow) -> Answer:
        """The answer when the log refused: 503 with ``Retry-After``. The sender may try again."""
        self.count(endpoint, "unavailable")
        failure = endpoint.callback.answers.failure(
            error.status_hint, "not stored, try again", request, endpoint.signing, self._clock()
        )
        retry_after = ("Retry-After", str(round(error.retry_after_s or 1)))
        return Answer(failure.status, failure.content_type, failure.body, (*failure.headers, retry_after))

    def _tell_error(self, endpoint: Endpoint, request: CallbackRequest, prepared: Prepared) -> None:
        name, exc = endpoint.callback.name, prepared.error
        if isinstance(exc, CallbackRejected):
            _log.warning(
                "callback.rejected",
                callback=name,
                id=prepared.events[0].id,
                reason=exc.logged,
                field=redaction.path(exc.field),
            )
        else:
            _log.warning(f"callback.{prepared.outcome}", callback=name, peer=request.peer, reason=str(exc))

    def _store(self, endpoint: Endpoint, request: CallbackRequest, prepared: Prepared) -> Answer | Pending:
        outcome, answer, events, values, _, _ = prepared
        if self._waiting >= self._max_waiting:
            return self.not_stored(endpoint, request, NotNow("too many callbacks wait for the disk"))
        trace = _trace(request)
        durable, first = self._log.append_soon(
            [
                Entry(event.topic, event.partitionkey, event.id, value, trace)
                for event, value in zip(events, values, strict=True)
            ]
        )
        self._waiting += 1
        self._settle_when_done(durable)
        pending = Pending(durable, answer, outcome, range(first, first + len(events)))
        if self._spans is not None:
            tell = partial(self._tell_spans, self._spans, endpoint.callback.name, request, trace, events, pending)
            durable.add_done_callback(tell)
        if self._tells_each:
            _log.debug("callback.received", callback=endpoint.callback.name, ids=[event.id for event in events])
        return pending

    def _settle_when_done(self, durable: asyncio.Future[Appended]) -> None:
        """One callback for all that share the future."""
        if self._settling is None or self._settling[0] is not durable:
            self._settling = (durable, [0])
            durable.add_done_callback(partial(self._settle, self._settling[1]))
        self._settling[1][0] += 1

    def _settle(self, settled: list[int], durable: asyncio.Future[Appended]) -> None:
        self._settling = None
        self._waiting -= settled[0]

    def _tell_spans(
        self,
        spans: Spans,
        callback: str,
        request: CallbackRequest,
        trace: Headers,
        events: tuple[Event, ...],
        pending: Pending,
        durable: asyncio.Future[Appended],
    ) -> None:
        if durable.exception() is None:
            repeated = durable.result().repeated
            started, ended = request.received_at.timestamp(), self._clock().timestamp()
            for index, event in zip(pending.indexes, events, strict=True):
                if index not in repeated:
                    spans.received(callback, event.id, trace, started, ended)

    def settled(self, endpoint: Endpoint, pending: Pending, appended: Appended) -> None:
        """Count one callback whose events are durable: accepted, or a repeat when the log had all of it already."""
        outcome = pending.outcome
        if appended.repeated and outcome == "accepted" and appended.repeated.issuperset(pending.indexes):
            outcome = "repeated"
        self.tally.count(endpoint.callback.name, outcome)

    def count(self, endpoint: Endpoint, outcome: str) -> None:
        """Count one answered callback."""
        self.tally.count(endpoint.callback.name, outcome)

    def _tell_drift(self, endpoint: Endpoint, prepared: Prepared) -> None:
        name = endpoint.callback.name
        _DRIFT.labels(name).inc(len(prepared.drift))
        for label in prepared.drift:
            if (name, label) not in self._seen_drift and len(self._seen_drift) < _MOST_DRIFT_LABELS:
                self._seen_drift.add((name, label))
                _log.warning("callback.drifted", callback=name, what=label, id=prepared.events[0].id)


def prepare(endpoint: Endpoint, request: CallbackRequest) -> Prepared:
    """Authenticate, decode and write one request's events: pure, and its time is bounded by the request's size.

    The one place where errors become answers, with :meth:`Intake.not_stored`.
    """
    now = request.received_at
    answers, signing = endpoint.callback.answers, endpoint.signing
    try:
        authentic = endpoint.credentials.check(request, now)
    except SenderError as exc:
        # Unsigned: our signature over values of a stranger's choice would open the path to that stranger.
        answer = answers.failure(exc.status_hint, str(exc), request, None, now)
        return Prepared("forbidden" if exc.status_hint == 403 else "unauthenticated", answer, error=_bare(exc))
    try:
        decoded = endpoint.callback.decode(authentic, endpoint.context)
        values = written(decoded.events, endpoint.context.max_event_bytes)
    except CallbackRejected as exc:
        context = endpoint.context
        error = explained(exc, endpoint.callback, authentic, context)
        event = rejected_event(
            endpoint.callback.name, context.account, request, error, endpoint.credentials, context.schema_base_url
        )
        answer = answers.failure(error.status_hint, str(error), request, signing, now)
        return Prepared("rejected", answer, (event,), (event.to_json(),), error=_bare(error))
    return Prepared("accepted", answers.success(request, signing, now), decoded.events, values, decoded.drift)


def _bare(error: SenderError) -> SenderError:
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def written(events: tuple[Event, ...], most: int) -> list[bytes]:
    """Return the bytes of each event.

    Args:
        events: of one callback.
        most: bytes of all together.

    Raises:
        CallbackRejected: they are more.
    """
    values: list[bytes] = []
    size = 0
    for event in events:
        value = event.to_json()
        size += len(value)
        if size > most:
            bounds.check_bytes(size, most)
        values.append(value)
    return values


def _trace(request: CallbackRequest) -> Headers:
    """The caller's trace, carried beside the event to the subscriber; without one, the event's id is the trace."""
    given = traceparent.valid(request.headers.get(traceparent.NAME))
    return ((traceparent.NAME, given),) if given else ()
