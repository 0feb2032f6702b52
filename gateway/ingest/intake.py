"""What happens to one callback: authenticate, decode, skip what is known, append, answer.

Free of HTTP: requests and answers are values. :meth:`Intake.take` runs to its end without waiting; when something must
become durable first, it returns the answer together with the future to wait for. Success is never told before.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import NamedTuple

import structlog

from gateway.callbacks import Decoded
from gateway.callbacks.answers import Answer
from gateway.callbacks.meant import explained
from gateway.callbacks.rejected import rejected_event
from gateway.callbacks.request import CallbackRequest
from gateway.errors import CallbackRejected, NotNow, SenderError
from gateway.event import Event
from gateway.ingest.endpoints import Endpoint
from gateway.ingest.gathering import Gathering, Log
from gateway.ingest.known import KnownIds
from gateway.log import Entry, Headers
from gateway.telemetry.metrics import METRICS
from gateway.telemetry.tally import Tally
from gateway.telemetry.tracing import Spans

_log = structlog.get_logger("gateway.ingest")
_DRIFT = METRICS.counter("gateway_callback_drift")
#: Drift labels told in the log, once each; past so many only the metric goes on counting.
_MOST_DRIFT_LABELS = 1000
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z")


class Pending(NamedTuple):
    """An answer that may leave when ``durable`` is done. Everything in it is decided already.

    Args:
        durable: shared with other callbacks of the same turn: await it behind a shield.
        answer: of success, or of a rejection that is kept.
        outcome: for :meth:`Intake.count`.
    """

    durable: asyncio.Future[None]
    answer: Answer
    outcome: str


class Intake:
    """Takes callbacks in.

    Args:
        log: the journal.
        known: window of known ids, filled from the journal at start.
        clock: now, timezone-aware UTC.
        max_waiting: callbacks that may wait for a commit; one more is answered 503 at once.
        spans: makes spans of what is taken in, where an exporter is configured.
    """

    def __init__(
        self,
        log: Log,
        known: KnownIds,
        *,
        clock: Callable[[], datetime],
        max_waiting: int,
        spans: Spans | None = None,
    ) -> None:
        self._spans = spans
        self._log = Gathering(log)
        self._known = known
        self._clock = clock
        self._max_waiting = max_waiting
        self._storing: dict[str, asyncio.Future[None]] = {}
        self._settling: tuple[asyncio.Future[None], list[list[Event]]] | None = None
        self._waiting = 0
        self._seen_drift: set[tuple[str, str]] = set()
        self._tells_each = _log.is_enabled_for(logging.DEBUG)
        self.tally = Tally("gateway_callbacks", "gateway_callback_answer_seconds")

    def take(self, endpoint: Endpoint, request: CallbackRequest) -> Answer | Pending:
        """Decide about one callback. The one place where errors become answers, with :meth:`not_stored`."""
        now = request.received_at
        try:
            authentic = endpoint.credentials.check(request, now)
        except SenderError as exc:
            return self._refused(endpoint, request, exc, now)
        try:
            decoded = endpoint.callback.decode(authentic, endpoint.context)
        except CallbackRejected as exc:
            meant = explained(exc, endpoint.callback, authentic, endpoint.context)
            return self._rejected(endpoint, request, meant, now)
        if decoded.drift:
            self._tell_drift(endpoint, decoded)
        answer = endpoint.callback.answers.success(request, endpoint.signing, now)
        return self._store(endpoint, request, decoded.events, answer, "accepted")

    def not_stored(self, endpoint: Endpoint, request: CallbackRequest, error: NotNow) -> Answer:
        """The answer when the log refused: 503 with ``Retry-After``. The sender may try again."""
        self.count(endpoint, "unavailable")
        failure = endpoint.callback.answers.failure(
            error.status_hint, "not stored, try again", request, endpoint.signing, self._clock()
        )
        retry_after = ("Retry-After", str(round(error.retry_after_s or 1)))
        return Answer(failure.status, failure.content_type, failure.body, (*failure.headers, retry_after))

    def _refused(self, endpoint: Endpoint, request: CallbackRequest, exc: SenderError, now: datetime) -> Answer:
        outcome = "forbidden" if exc.status_hint == 403 else "unauthenticated"
        self.count(endpoint, outcome)
        _log.warning(f"callback.{outcome}", callback=endpoint.callback.name, peer=request.peer, reason=str(exc))
        # Unsigned: our signature over values of a stranger's choice would open the path to that stranger.
        return endpoint.callback.answers.failure(exc.status_hint, str(exc), request, None, now)

    def _rejected(
        self, endpoint: Endpoint, request: CallbackRequest, exc: CallbackRejected, now: datetime
    ) -> Answer | Pending:
        """Authentic but not understood: kept whole, then told to the sender."""
        context = endpoint.context
        event = rejected_event(
            endpoint.callback.name, context.account, request, exc, endpoint.credentials, context.schema_base_url
        )
        _log.warning(
            "callback.rejected", callback=endpoint.callback.name, id=event.id, reason=exc.reason, field=exc.field
        )
        answer = endpoint.callback.answers.failure(exc.status_hint, str(exc), request, endpoint.signing, now)
        return self._store(endpoint, request, (event,), answer, "rejected")

    def _store(
        self, endpoint: Endpoint, request: CallbackRequest, events: tuple[Event, ...], answer: Answer, outcome: str
    ) -> Answer | Pending:
        fresh = [event for event in events if event.id not in self._known and event.id not in self._storing]
        if not fresh:
            return self._repeated(endpoint, events, answer, outcome)
        if self._waiting >= self._max_waiting:
            return self.not_stored(endpoint, request, NotNow("too many callbacks wait for the disk"))
        trace = _trace(request)
        entries = [Entry(event.topic, event.partitionkey, event.id, event.to_json(), trace) for event in fresh]
        durable = self._log.append_soon(entries)
        self._waiting += 1
        for event in fresh:
            self._storing[event.id] = durable
        self._settle_when_done(durable, fresh)
        if self._spans is not None:
            tell = partial(self._tell_spans, self._spans, endpoint.callback.name, request, trace, fresh)
            durable.add_done_callback(tell)
        if len(fresh) < len(events):
            durable = self._all(events, durable)
        if self._tells_each:
            _log.debug("callback.received", callback=endpoint.callback.name, ids=[event.id for event in fresh])
        return Pending(durable, answer, outcome)

    def _repeated(
        self, endpoint: Endpoint, events: tuple[Event, ...], answer: Answer, outcome: str
    ) -> Answer | Pending:
        """All of it is known; what is only on its way to the disk must arrive there before success is told."""
        outcome = "repeated" if outcome == "accepted" else outcome
        if self._tells_each:
            _log.debug("callback.repeated", callback=endpoint.callback.name, ids=[event.id for event in events])
        on_their_way = [self._storing[event.id] for event in events if event.id in self._storing]
        if on_their_way:
            return Pending(_joined(on_their_way), answer, outcome)
        self.count(endpoint, outcome)
        return answer

    def _all(self, events: tuple[Event, ...], durable: asyncio.Future[None]) -> asyncio.Future[None]:
        """Some items of this callback are being stored by another request: wait for these too."""
        others = {id(self._storing[event.id]): self._storing[event.id] for event in events if event.id in self._storing}
        return _joined([durable, *others.values()]) if len(others) > 1 else durable

    def _settle_when_done(self, durable: asyncio.Future[None], events: list[Event]) -> None:
        """One callback for all that share the future."""
        if self._settling is None or self._settling[0] is not durable:
            self._settling = (durable, [])
            durable.add_done_callback(partial(self._settle, self._settling[1]))
        self._settling[1].append(events)

    def _settle(self, settled: list[list[Event]], durable: asyncio.Future[None]) -> None:
        self._settling = None
        self._waiting -= len(settled)
        is_stored = durable.exception() is None
        for events in settled:
            for event in events:
                self._storing.pop(event.id, None)
                if is_stored:
                    self._known.add(event.id)

    def _tell_spans(
        self,
        spans: Spans,
        callback: str,
        request: CallbackRequest,
        trace: Headers,
        stored: list[Event],
        durable: asyncio.Future[None],
    ) -> None:
        if durable.exception() is None:
            started, ended = request.received_at.timestamp(), self._clock().timestamp()
            for event in stored:
                spans.received(callback, event.id, trace, started, ended)

    def count(self, endpoint: Endpoint, outcome: str) -> None:
        """Count one answered callback."""
        self.tally.count(endpoint.callback.name, outcome)

    def _tell_drift(self, endpoint: Endpoint, decoded: Decoded) -> None:
        name = endpoint.callback.name
        _DRIFT.labels(name).inc(len(decoded.drift))
        for label in decoded.drift:
            if (name, label) not in self._seen_drift and len(self._seen_drift) < _MOST_DRIFT_LABELS:
                self._seen_drift.add((name, label))
                _log.warning("callback.drifted", callback=name, what=label, id=decoded.events[0].id)


def _trace(request: CallbackRequest) -> Headers:
    """The caller's trace, carried beside the event to the subscriber; without one, the event's id is the trace.

    Source: W3C Trace Context, section 3.2 (version 00).
    """
    given = request.headers.get("traceparent")
    return (("traceparent", given),) if given and _TRACEPARENT.match(given) else ()


def _joined(futures: list[asyncio.Future[None]]) -> asyncio.Future[None]:
    """Done when all are; failed as soon as one is. Cancelling it cancels none of them."""
    joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = len(futures)

    def on_done(future: asyncio.Future[None]) -> None:
        nonlocal left
        left -= 1
        if joined.done():
            return
        error = None if future.cancelled() else future.exception()
        if error is not None:
            joined.set_exception(error)
        elif not left:
            joined.set_result(None)

    for future in futures:
        future.add_done_callback(on_done)
    return joined
