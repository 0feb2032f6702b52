"""The record of attempts that ``explain`` shows, stored in the internal topic :data:`TOPIC`.

Attempts are noted in memory (:mod:`.attempt_log`) and written together, many in a record, once a second: they cost
the hot path a tuple and the log one append. The log's retention applies to the topic. Attempts that were not written
when the process died are lost, and so are those that are noted while the log is unavailable and the memory is full;
the latter are counted. This is for operators; no delivery depends on it.

Value of a record; its key is the subscriber. ``sent`` is ``[Unix seconds of the signature, span, beginning of the
signature]``, and null where no request was made. Empty values at the end of a row are left out::

    {"subscriber": …, "attempts": [[event id, Unix seconds, outcome, status or error, number, milliseconds, sent,
                                    why it failed, name of the replay if it is one], …],
     "request": {"line": …, "headers": …}, "answers": {"place in attempts": {…}}}

What ``request`` and ``answers`` have, and of which attempts an answer is kept, is said in :mod:`.exchanges`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson
import structlog

from gateway.clock import Clock, sleep
from gateway.errors import GatewayError
from gateway.fanout import exchanges
from gateway.fanout.attempt import sentence_of
from gateway.fanout.exchanges import RequestShape
from gateway.fanout.scan import scan
from gateway.log import BrowsedLog, Entry, EventLog, Record
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS, Metrics

TOPIC: Final = "fanout.attempts"
#: Attempts of one subscriber in memory: some seconds at full speed. More are dropped and counted.
MAX_NOTED: Final = 20_000
_FLUSH_S: Final = 1.0
_PER_RECORD: Final = 500

_log = structlog.get_logger("gateway.fanout")


#: A row of ``attempts``, and the answer where it is kept.
Noted = tuple[tuple[Any, ...], dict[str, Any] | None]


class Attempt(NamedTuple):
    """One attempt, as ``explain`` shows it.

    Args:
        sent: what its request had that no other had; see the module.
        reason: why it failed, as a sentence; empty if it succeeded.
        replay: name of the replay that it belongs to; empty for none.
        request: what it had in common with others; filled by :func:`of_event`.
        answer: see :func:`gateway.fanout.exchanges.answer_of`; None: it is not kept. Filled by :func:`of_event`.
    """

    subscriber: str
    event_id: str
    at: float
    outcome: str
    result: str
    number: int
    duration_ms: int
    sent: Sequence[Any] | None = None
    reason: str = ""
    replay: str = ""
    request: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None

    @property
    def sentence(self) -> str:
        """Why it failed and what to do; empty if it succeeded."""
        return self.reason or sentence_of(self.result)


class AttemptWriter:
    """Writes the attempts of all subscribers, which each :class:`~gateway.fanout.attempt_log.AttemptLog` notes.

    Args:
        log: has the topic.
    """

    def __init__(self, log: EventLog, *, clock: Clock, metrics: Metrics = METRICS) -> None:
        self._log = log
        self._clock = clock
        self._noted: dict[tuple[str, RequestShape], list[Noted]] = {}
        self._task: asyncio.Task[None] | None = None
        self.budget = exchanges.Budget()
        #: Counts attempts that are not written.
        self.unkept = metrics.counter("gateway_attempts_unrecorded")

    def noted(self, subscriber: str, shape: RequestShape) -> list[Noted]:
        """Return the list from which the attempts of a subscriber are written, at most :data:`MAX_NOTED` of them.

        Args:
            subscriber: its name.
            shape: what its requests have in common.
        """
        return self._noted.setdefault((subscriber, shape), [])

    def start(self) -> None:
        """Start writing."""
        self._task = asyncio.create_task(self._run(), name="fanout:attempts")

    async def stop(self) -> None:
        """Write noted attempts, once. May be called twice, or before the start."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        try:
            await self._flush()
        except GatewayError as exc:
            self.unkept.inc(self._count())
            _log.info("attempts.not_written", error=str(exc), attempts=self._count())
            for noted in self._noted.values():
                noted.clear()

    async def _run(self) -> None:
        while True:
            await sleep(self._clock, _FLUSH_S)
            try:
                await self._flush()
            except Exception as exc:  # the top of a task
                _log.info("attempts.not_written", error=redaction.fault(exc), attempts=self._count())

    def _count(self) -> int:
        return sum(len(noted) for noted in self._noted.values())

    async def _flush(self) -> None:
        counts = {key: len(noted) for key, noted in self._noted.items() if noted}
        if not counts:
            return
        await self._log.append([entry for key in counts for entry in _entries(*key, self._noted[key])])
        for key, count in counts.items():
            del self._noted[key][:count]


def read(record: Record) -> list[Attempt]:
    """Return the attempts in one record of :data:`TOPIC`; empty if it cannot be parsed."""
    try:
        value = orjson.loads(record.value)
        return [Attempt(value["subscriber"], *row) for row in value["attempts"]]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []


def of_event(record: Record, event_id: str) -> list[Attempt]:
    """Return the attempts on one event in one record of :data:`TOPIC`, with request and answer."""
    found = read(record)
    if not any(attempt.event_id == event_id for attempt in found):
        return []
    value = orjson.loads(record.value)
    request, answers = value.get("request"), value.get("answers", {})
    return [
        attempt._replace(request=request, answer=answers.get(str(at)))
        for at, attempt in enumerate(found)
        if attempt.event_id == event_id
    ]


def event_ids(record: Record) -> set[str]:
    """Return the ids of the events in one record of :data:`TOPIC`, at a third of the cost of :func:`read`."""
    try:
        return {str(row[0]) for row in orjson.loads(record.value)["attempts"]}
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        return set()


async def read_all(log: BrowsedLog, *, since: float, clock: Clock) -> AsyncIterator[Attempt]:
    """Yield every stored attempt on all events.

    Args:
        log: has the topic.
        since: Unix seconds at which reading begins.
        clock: the present time.
    """
    records = scan(log, "scan.attempts", [TOPIC], since=since, until=clock.now() + 1.0)
    async for record in records:
        for attempt in read(record):
            yield attempt


async def attempts_of(log: BrowsedLog, event_id: str, *, clock: Clock, since: float = 0.0) -> list[Attempt]:
    """Return every stored attempt of one event, in the order of time.

    Args:
        log: has the topic.
        event_id: id of the event.
        clock: the present time.
        since: Unix seconds at which reading begins: the event's time.
    """
    found = [
        attempt
        async for record in scan(log, "scan.explain", [TOPIC], since=since, until=clock.now() + 1.0)
        for attempt in of_event(record, event_id)
    ]
    return sorted(found, key=lambda attempt: attempt.at)


def _entries(subscriber: str, shape: RequestShape, noted: list[Noted]) -> list[Entry]:
    made: list[Entry] = []
    for at in range(0, len(noted), _PER_RECORD):
        part = noted[at : at + _PER_RECORD]
        document: dict[str, Any] = {"subscriber": subscriber, "attempts": [row for row, _ in part]}
        if shape.line:
            document["request"] = {"line": shape.line, "headers": shape.headers}
        if answers := {str(place): answer for place, (_, answer) in enumerate(part) if answer}:
            document["answers"] = answers
        value = orjson.dumps(document)
        made.append(Entry(TOPIC, subscriber, hashlib.blake2b(value, digest_size=16).hexdigest(), value))
    return made
