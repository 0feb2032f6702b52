"""Process one callback: authenticate, decode, append, answer.

The module does not depend on HTTP: requests and answers are values. :meth:`Acceptor.take` never waits. If events have
to become durable first, it returns the answer with the turn to wait for. A success answer never leaves earlier.

Processing has two steps. :func:`prepare` is pure, and its cost grows with the size of the request, so a thread prepares
large requests. :meth:`Acceptor.finish` appends the events to the log, on the event loop. The log stores new events and
recognises repeats.

All events of one turn of the event loop are appended in one call (:class:`Turns`). Under load a turn reads dozens of
requests. An append for each request costs as much as checking its credentials: a future, two callbacks and their
scheduling. The events share a commit anyway, so they are stored as one unit: all or none. A waiting request registers a
function with the turn, because a future for each costs several times as much; only :meth:`Turn.wait`, for tasks that
may be cancelled, creates one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from gateway.callbacks import DecodeContext
from gateway.callbacks.answers import Answer
from gateway.callbacks.payload import CallbackRequest
from gateway.callbacks.rejected import explained, rejected_event
from gateway.errors import CallbackRejected, NotNow, SenderError
from gateway.event import Event
from gateway.ingest.endpoints import Endpoint
from gateway.log import ALL_NEW, Appended, Entry, Headers
from gateway.telemetry import redaction, tracing
from gateway.telemetry.metrics import METRICS, BatchedMetrics
from gateway.telemetry.tracing import Spans

_log = structlog.get_logger("gateway.ingest")
_DRIFT = METRICS.counter("gateway_callback_drift")
#: Drift labels that are logged, once each. Further labels are only counted by the metric.
_MOST_DRIFT_LABELS = 1000

#: Called with the result of the append and its error, which is None if the events are durable.
Done = Callable[[Appended, BaseException | None], None]


class IngestLog(Protocol):
    """Stores events durably."""

    def append_soon(self, entries: Sequence[Entry]) -> asyncio.Future[Appended]:
        """Store all entries except repeats, or none.

        The future is done when the entries are durable. It fails with :class:`NotNow` if the log refuses them.
        """
        ...


class Turn:
    """The entries of one turn, and who waits for them."""

    __slots__ = ("_outcome", "_waiting", "callbacks", "entries")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        #: Number of callbacks whose events these are.
        self.callbacks = 0
        self._waiting: list[Done] = []
        self._outcome: tuple[Appended, BaseException | None] | None = None

    def when_done(self, tell: Done) -> None:
        """Call a function when the entries are durable or refused, at once if they are already."""
        if self._outcome is None:
            self._waiting.append(tell)
        else:
            tell(*self._outcome)

    async def wait(self) -> Appended:
        """Return the result of the append when the entries are durable; the waiting task may be cancelled.

        Raises:
            NotNow: the log refused them.
        """
        waiter: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        self.when_done(partial(_resolve, waiter))
        return await waiter

    def end(self, appended: Appended, error: BaseException | None) -> None:
        """Report the outcome to each waiting request, in the order in which they came."""
        self._outcome = appended, error
        for tell in self._waiting:
            try:
                tell(appended, error)
            except Exception:  # an error of one must not delay the answers of the others
                _log.exception("an answer could not be written")
        self._waiting.clear()


class Turns:
    """Appends to a log once per turn.

    Args:
        log: the journal.
    """

    def __init__(self, log: IngestLog) -> None:
        self._log = log
        self._turn: Turn | None = None
        #: Callbacks whose events are not durable yet.
        self.waiting = 0

    def append_soon(self, entries: Sequence[Entry]) -> tuple[Turn, range]:
        """Store the entries of a callback together with the others of this turn; return their positions in it."""
        turn = self._turn
        if turn is None:
            turn = self._turn = Turn()
            asyncio.get_running_loop().call_soon(self._append)
        first = len(turn.entries)
        turn.entries += entries
        turn.callbacks += 1
        self.waiting += 1
        return turn, range(first, first + len(entries))

    def _append(self) -> None:
        turn, self._turn = self._turn, None
        assert turn is not None
        try:
            stored = self._log.append_soon(turn.entries)
        except Exception as exc:  # the waiting callbacks get it
            self._end(turn, ALL_NEW, exc)
        else:
            stored.add_done_callback(partial(self._stored, turn))

    def _stored(self, turn: Turn, stored: asyncio.Future[Appended]) -> None:
        error = asyncio.CancelledError() if stored.cancelled() else stored.exception()
        self._end(turn, stored.result() if error is None else ALL_NEW, error)

    def _end(self, turn: Turn, appended: Appended, error: BaseException | None) -> None:
        self.waiting -= turn.callbacks
        turn.end(appended, error)


class Pending(NamedTuple):
    """An answer that may leave when the turn is done; its content does not change any more.

    Args:
        turn: has the events, together with those of other callbacks.
        answer: success, or the rejection of a stored request.
        outcome: ``accepted`` or ``rejected``; for :meth:`Acceptor.settled`.
        indexes: positions of its events in the turn.
    """

    turn: Turn
    answer: Answer
    outcome: str
    indexes: range


class Prepared(NamedTuple):
    """Result of :func:`prepare`, before the log checks for repeats.

    Args:
        outcome: ``accepted``, ``rejected``, ``unauthenticated`` or ``forbidden``.
        answer: for the sender, to be sent when the events are durable.
        events: stored as one unit; empty if the request was refused.
        values: the bytes of each event.
        drift: see :class:`gateway.callbacks.Decoded`.
        error: reason of a refusal or rejection, without its traceback: the frames would keep the parsed data in memory.
    """

    outcome: str
    answer: Answer
    events: tuple[Event, ...] = ()
    values: Sequence[bytes] = ()
    drift: tuple[str, ...] = ()
    error: SenderError | None = None


class Acceptor:
    """Accepts callbacks.

    Args:
        log: stores events durably and recognises repeats.
        clock: returns the current time, timezone-aware UTC.
        max_waiting: callbacks that may wait for a commit; further ones are answered 503 at once.
        spans: creates a span for each accepted event, if an exporter is configured.
    """

    def __init__(
        self,
        log: IngestLog,
        *,
        clock: Callable[[], datetime],
        max_waiting: int,
        spans: Spans | None = None,
    ) -> None:
        self._spans = spans
        self._turns = Turns(log)
        self._clock = clock
        self._max_waiting = max_waiting
        self._seen_drift: set[tuple[str, str]] = set()
        self._logs_each = _log.is_enabled_for(logging.DEBUG)
        self.metrics = BatchedMetrics("gateway_callbacks", "gateway_callback_answer_seconds")

    def take(self, endpoint: Endpoint, request: CallbackRequest) -> Answer | Pending:
        """Process a small callback completely. For a large one the caller runs the two steps separately.

        Args:
            endpoint: row of the request's path.
            request: the callback.
        """
        return self.finish(endpoint, request, prepare(endpoint, request))

    def finish(self, endpoint: Endpoint, request: CallbackRequest, prepared: Prepared) -> Answer | Pending:
        """Append the events of a prepared request to the log, and log and count its outcome.

        Args:
            endpoint: row of the request's path.
            request: the callback.
            prepared: result of :func:`prepare`.
        """
        if prepared.error is not None:
            self._report_error(endpoint, request, prepared)
        if not prepared.events:
            self.metrics.count(endpoint.callback.name, prepared.outcome)
            return prepared.answer
        if prepared.drift:
            self._report_drift(endpoint, prepared)
        return self._store(endpoint, request, prepared)

    def keep(self, endpoint: Endpoint, request: CallbackRequest, event: Event, answer: Answer) -> Answer | Pending:
        """Append an event that contains a whole request; the answer may leave when the event is durable.

        Args:
            endpoint: row of the path, or a substitute for an unknown path.
            request: the callback.
            event: contains the request.
            answer: for the sender.
        """
        return self._store(endpoint, request, Prepared("rejected", answer, (event,), (event.to_json(),)))

    def not_stored(self, endpoint: Endpoint, request: CallbackRequest, error: NotNow) -> Answer:
        """Return the answer for events that the log refused: 503 with ``Retry-After``.

        Args:
            endpoint: row of the request's path.
            request: the callback.
            error: of the log; has the status and the time for ``Retry-After``.
        """
        self.metrics.count(endpoint.callback.name, "unavailable")
        failure = endpoint.callback.answers.failure(
            error.status_hint, "not stored, try again", request, endpoint.credentials.signature, self._clock()
        )
        retry_after = ("Retry-After", str(round(error.retry_after_s or 1)))
        return Answer(failure.status, failure.content_type, failure.body, (*failure.headers, retry_after))

    def _report_error(self, endpoint: Endpoint, request: CallbackRequest, prepared: Prepared) -> None:
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
        if self._turns.waiting >= self._max_waiting:
            return self.not_stored(endpoint, request, NotNow("too many callbacks wait for the disk"))
        trace = _trace(request)
        turn, indexes = self._turns.append_soon(
            [
                Entry(event.topic, event.partitionkey, event.id, value, trace)
                for event, value in zip(events, values, strict=True)
            ]
        )
        pending = Pending(turn, answer, outcome, indexes)
        if self._spans is not None:
            turn.when_done(partial(self._trace, self._spans, endpoint, request, zip(indexes, events, strict=True)))
        if self._logs_each:
            _log.debug("callback.received", callback=endpoint.callback.name, ids=[event.id for event in events])
        return pending

    def _trace(
        self,
        spans: Spans,
        endpoint: Endpoint,
        request: CallbackRequest,
        events: Iterable[tuple[int, Event]],
        appended: Appended,
        error: BaseException | None,
    ) -> None:
        if error is None:
            started, ended = request.received_at.timestamp(), self._clock().timestamp()
            for index, event in events:
                if index not in appended.repeated:
                    spans.received(endpoint.callback.name, event.id, _trace(request), started, ended)

    def settled(self, endpoint: Endpoint, pending: Pending, appended: Appended) -> None:
        """Count a callback whose events are durable: as accepted, or as a repeat if the log had all its events.

        Args:
            endpoint: row of the request's path.
            pending: result of :meth:`take` or :meth:`finish`.
            appended: result of the append.
        """
        outcome = pending.outcome
        if appended.repeated and outcome == "accepted" and appended.repeated.issuperset(pending.indexes):
            outcome = "repeated"
        self.metrics.count(endpoint.callback.name, outcome)

    def _report_drift(self, endpoint: Endpoint, prepared: Prepared) -> None:
        name = endpoint.callback.name
        _DRIFT.labels(name).inc(len(prepared.drift))
        for label in prepared.drift:
            if (name, label) not in self._seen_drift and len(self._seen_drift) < _MOST_DRIFT_LABELS:
                self._seen_drift.add((name, label))
                _log.warning("callback.drifted", callback=name, what=label, id=prepared.events[0].id)


def _resolve(waiter: asyncio.Future[Appended], appended: Appended, error: BaseException | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(appended)
    else:
        waiter.set_exception(error)


def prepare(endpoint: Endpoint, request: CallbackRequest) -> Prepared:
    """Authenticate and decode a request, and serialise its events. Pure; the size of the request bounds its time.

    Errors become answers here and in :meth:`Acceptor.not_stored`, and nowhere else.

    Args:
        endpoint: row of the request's path.
        request: the callback.
    """
    now = request.received_at
    answers, signing = endpoint.callback.answers, endpoint.credentials.signature
    try:
        authentic = endpoint.credentials.check(request, now)
    except SenderError as exc:
        # Not signed: a signature over values that an unauthenticated sender chose would let it forge requests.
        answer = answers.failure(exc.status_hint, str(exc), request, None, now)
        return Prepared("forbidden" if exc.status_hint == 403 else "unauthenticated", answer, error=_bare(exc))
    try:
        decoded = endpoint.callback.decode(authentic, endpoint.context)
        values = serialised(decoded.events, endpoint.context)
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


def serialised(events: tuple[Event, ...], context: DecodeContext) -> list[bytes]:
    """Return the bytes of each event.

    Args:
        events: the events of one callback.
        context: has the limit of their size.

    Raises:
        CallbackRejected: the events are larger in total.
    """
    values: list[bytes] = []
    size, most = 0, context.max_event_bytes
    for event in events:
        value = event.to_json()
        size += len(value)
        if size > most:
            context.check_bytes(size)
        values.append(value)
    return values


def _trace(request: CallbackRequest) -> Headers:
    """Return the header with the caller's trace, to store with the event. Without it the event id is used."""
    given = tracing.valid_traceparent(request.headers.get(tracing.TRACEPARENT))
    return ((tracing.TRACEPARENT, given),) if given else ()
