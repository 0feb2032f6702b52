"""The record of attempts that ``explain`` shows, stored in the internal topic :data:`TOPIC`.

Attempts are noted in memory and written together, many in a record, once a second: they cost the hot path a
tuple and the log one append. The log's retention applies to the topic. Attempts that were not written when
the process died are lost, and so are those that are noted while the log is unavailable and the memory is full;
the latter are counted. This is for operators; no delivery depends on it.

Value of a record: ``{"subscriber": …, "attempts": [[event id, Unix seconds, outcome, status or error,
number of the attempt, milliseconds, why it failed, name of the replay if it is one], …]}``; its key is the subscriber.
Empty values at the end of a row are left out.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import orjson
import structlog

from gateway.clock import Clock, sleep
from gateway.errors import GatewayError
from gateway.fanout import attempt_errors
from gateway.fanout.attempt import AttemptResult
from gateway.fanout.job import Job
from gateway.fanout.retry_records import replay_name
from gateway.fanout.scan import QUIET_S, scan
from gateway.fanout.telling import OnAttempt
from gateway.log import BrowsedLog, Entry, EventLog, Record
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS, Metrics

TOPIC: Final = "fanout.attempts"
#: Attempts of one subscriber in memory: some seconds at full speed. More are dropped and counted.
MAX_NOTED: Final = 20_000
#: Stands for the name of a replay that has none: its copies were stored by a version without names.
UNNAMED: Final = "r-?"
_FLUSH_S: Final = 1.0
_PER_RECORD: Final = 500

_log = structlog.get_logger("gateway.fanout")


#: Event id, Unix seconds, outcome, result, number of the attempt, replay: formatted when it is written.
_Noted = tuple[str, float, str, AttemptResult, int, str]


class Attempt(NamedTuple):
    """One attempt, as ``explain`` shows it; ``replay`` is the name of the replay that it belongs to."""

    subscriber: str
    event_id: str
    at: float
    outcome: str
    result: str
    number: int
    duration_ms: int
    reason: str = ""
    replay: str = ""

    @property
    def sentence(self) -> str:
        """Why it failed and what to do; empty if it succeeded."""
        return self.reason or attempt_errors.of_summary(self.result)


class AttemptLog:
    """Notes attempts of all subscribers and writes them."""

    def __init__(self, log: EventLog, *, clock: Clock, metrics: Metrics = METRICS) -> None:
        self._eventlog = log
        self._clock = clock
        self._noted: dict[str, list[_Noted]] = {}
        self._unkept = metrics.counter("gateway_attempts_unrecorded")
        self._task: asyncio.Task[None] | None = None

    def of(self, subscriber: str) -> OnAttempt:
        """Return the function that a subscriber's :class:`~gateway.fanout.telling.Telling` calls. Never blocks."""
        now, noted = self._clock.now, self._noted.setdefault(subscriber, [])

        def note(job: Job, result: AttemptResult, outcome: str) -> None:
            if len(noted) < MAX_NOTED:
                replay = (replay_name(job.record) or UNNAMED) if job.is_replay else ""
                noted.append((job.record.id, now(), outcome, result, job.attempts, replay))
            else:
                self._unkept.inc()

        return note

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
            self._unkept.inc(self._count())
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
        counts = {subscriber: len(noted) for subscriber, noted in self._noted.items() if noted}
        if not counts:
            return
        await self._eventlog.append(
            [entry for subscriber in counts for entry in _entries(subscriber, self._noted[subscriber])]
        )
        for subscriber, count in counts.items():
            del self._noted[subscriber][:count]


def read(record: Record) -> list[Attempt]:
    """Return the attempts in one record of :data:`TOPIC`; empty if it cannot be parsed."""
    try:
        value = orjson.loads(record.value)
        return [Attempt(value["subscriber"], *row) for row in value["attempts"]]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []


def event_ids(record: Record) -> set[str]:
    """Return the ids of the events in one record of :data:`TOPIC`, at a third of the cost of :func:`read`."""
    try:
        return {str(row[0]) for row in orjson.loads(record.value)["attempts"]}
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        return set()


async def read_all(
    log: BrowsedLog, *, since: float, clock: Clock, silence_s: float = QUIET_S
) -> AsyncIterator[Attempt]:
    """Yield every stored attempt on all events.

    Args:
        log: has the topic.
        since: Unix seconds at which reading begins.
        clock: the present time.
        silence_s: see :func:`gateway.fanout.scan.scan`.
    """
    records = scan(log, "scan.attempts", [TOPIC], since=since, until=clock.now() + 1.0, silence_s=silence_s)
    async for record in records:
        for attempt in read(record):
            yield attempt


async def attempts_of(
    log: BrowsedLog, event_id: str, *, clock: Clock, since: float = 0.0, silence_s: float = QUIET_S
) -> list[Attempt]:
    """Return every stored attempt of one event, in the order of time.

    Args:
        log: has the topic.
        event_id: id of the event.
        clock: the present time.
        since: Unix seconds at which reading begins: the event's time.
        silence_s: see :func:`gateway.fanout.scan.scan`.
    """
    found = [
        attempt
        async for attempt in read_all(log, since=since, clock=clock, silence_s=silence_s)
        if attempt.event_id == event_id
    ]
    return sorted(found, key=lambda attempt: attempt.at)


def _entries(subscriber: str, noted: list[_Noted]) -> list[Entry]:
    made: list[Entry] = []
    for at in range(0, len(noted), _PER_RECORD):
        rows = [
            _row(event_id, when, outcome, result, number, replay)
            for event_id, when, outcome, result, number, replay in noted[at : at + _PER_RECORD]
        ]
        value = orjson.dumps({"subscriber": subscriber, "attempts": rows})
        made.append(Entry(TOPIC, subscriber, hashlib.blake2b(value, digest_size=16).hexdigest(), value))
    return made


def _row(event_id: str, when: float, outcome: str, result: AttemptResult, number: int, replay: str) -> list[object]:
    ends = [result.sentence, replay]
    while ends and not ends[-1]:
        ends.pop()
    return [event_id, round(when, 3), outcome, result.summary, number, round(result.duration_s * 1000), *ends]
