"""Catch-up: detached cursors read on their own until they reach the shared reading, a few at a time, in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.clock import Backoff, Clock, sleep
from gateway.errors import GatewayError, is_logged
from gateway.log import EventLog, LogReader
from gateway.log.cursor import AttachedCursors, Change, Cursor
from gateway.telemetry import redaction

#: Shortest pause between attempts while the log is unavailable.
FIRST_BACKOFF_S: Final = 0.5
#: How long one fetch waits for records: if all remaining ones are of other topics, the cursor must notice soon.
_WAIT_S: Final = 0.2
#: A cursor that catches up lets another one run after this time.
_SLOT_S: Final = 1.0

_log = structlog.get_logger("gateway.reading")


@dataclass(frozen=True, slots=True)
class ReadingPolicy:
    """Limits and times of a shared reading. Times are in seconds.

    Args:
        max_records: records of one step. More of them hold the event loop for milliseconds.
        linger_s: pause after a step with fewer records than the consumers can accept, so that records that arrive
            meanwhile are handed out together; 0 where each record is worth more than the processor time.
        busy_linger_s: the pause after a step with at least ``busy_records``.
        busy_records: records of a step from which ``busy_linger_s`` applies.
        keep_alive_s: interval of fetches while no consumer accepts records: Kafka revokes the partitions of a
            consumer that does not fetch (``max.poll.interval.ms``, 300 s by default).
        spread: cursors within so many records of the foremost one start together; the others catch up. With ten times
            more, a start reads for a long time what most cursors have already.
        catch_ups: at most so many cursors catch up at a time. Each needs a reader of its own.
        max_backoff_s: between attempts while the log is unavailable.
    """

    max_records: int = 500
    linger_s: float = 0.0
    busy_linger_s: float = 0.0
    busy_records: int = 1
    keep_alive_s: float = 30.0
    spread: int = 20_000
    catch_ups: int = 4
    max_backoff_s: float = 30.0

    def backoff(self) -> Backoff:
        """Return the pauses between attempts while the log is unavailable."""
        return Backoff(first_s=FIRST_BACKOFF_S, last_s=self.max_backoff_s)


class CatchUps:
    """Runs the catch-ups of one shared reading.

    Args:
        log: read with one reader for each cursor that catches up.
        clock: monotonic time of slots and pauses.
        policy: limits and times.
        attached: the attached cursors and the shared position.
        change: signalled when a consumer has more room, or a cursor waits to run.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        policy: ReadingPolicy,
        *,
        attached: AttachedCursors,
        change: Change,
    ) -> None:
        self._log = log
        self._clock = clock
        self._policy = policy
        self._attached = attached
        self._change = change
        self._queue: deque[Cursor] = deque()
        self._running: dict[Cursor, asyncio.Task[None]] = {}
        self._resting: dict[Cursor, asyncio.Task[None]] = {}
        self._backoffs: dict[Cursor, Backoff] = {}

    @property
    def running(self) -> int:
        """Number of cursors that catch up now."""
        return len(self._running)

    def look(self, detached: Iterable[Cursor]) -> None:
        """Attach detached cursors that can be attached, and start or queue the others that are ready. Never blocks."""
        for cursor in detached:
            if self._is_known(cursor) or not cursor.is_placed or not _is_ready(cursor):
                continue
            if cursor.has_met(self._attached.shared):
                self._attached.attach(cursor)
            else:
                self._queue.append(cursor)
                self._change.happened()
        self._fill()

    def _is_known(self, cursor: Cursor) -> bool:
        return cursor in self._running or cursor in self._resting or cursor in self._queue

    def _fill(self) -> None:
        while self._queue and len(self._running) < self._policy.catch_ups:
            cursor = self._queue.popleft()
            self._running[cursor] = asyncio.create_task(self._run(cursor), name=f"catch-up:{cursor.name}")

    async def drop(self, cursors: Iterable[Cursor]) -> None:
        """End the catch-ups of these cursors; they may queue again."""
        ending = list(cursors)
        tasks = [
            task for cursor in ending for tasks in (self._running, self._resting) if (task := tasks.pop(cursor, None))
        ]
        for cursor in ending:
            self._backoffs.pop(cursor, None)
            with suppress(ValueError):
                self._queue.remove(cursor)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fill()

    async def close(self) -> None:
        """End all catch-ups."""
        self._queue.clear()
        await self.drop([*self._running, *self._resting])

    async def _run(self, cursor: Cursor) -> None:
        """Read for one cursor until it reaches the shared reading, cannot continue, or has to let another one run."""
        try:
            await self._read(cursor)
            self._backoffs.pop(cursor, None)
        except Exception as exc:  # the top of a task
            is_expected = isinstance(exc, GatewayError) and exc.retriable
            if not is_logged(exc):
                _log.warning("catch_up.failed", group=cursor.name, error=redaction.fault(exc), exc_info=not is_expected)
            self._resting[cursor] = asyncio.create_task(self._rest(cursor), name=f"catch-up-rest:{cursor.name}")
        finally:
            if self._running.get(cursor) is asyncio.current_task():
                del self._running[cursor]
        self.look(() if cursor.is_attached else (cursor,))

    async def _rest(self, cursor: Cursor) -> None:
        backoff = self._backoffs.setdefault(cursor, self._policy.backoff())
        await sleep(self._clock, backoff.next_s())
        del self._resting[cursor]
        self.look((cursor,))

    async def _read(self, cursor: Cursor) -> None:
        until = self._clock.monotonic() + _SLOT_S
        begins = dict(cursor.next)
        reader = await self._log.browse(cursor.name, cursor.topics, positions=begins)
        try:
            while not cursor.has_met(self._attached.shared):
                if cursor.next.keys() != begins.keys():
                    return  # it has more partitions now and needs another reader
                if not cursor.consumer.is_willing() or (self._queue and self._clock.monotonic() >= until):
                    return
                if (room := cursor.consumer.room()) > 0:
                    if not await self._step(cursor, reader, room):
                        return
                elif self._queue:
                    return
                else:
                    await self._change.wait()
            self._attached.attach(cursor)
        finally:
            await reader.close()

    async def _step(self, cursor: Cursor, reader: LogReader, room: int) -> bool:
        batch = await reader.fetch(max_records=min(room, self._policy.max_records), wait_s=_WAIT_S)
        return self._attached.give_alone(cursor, batch)


def _is_ready(cursor: Cursor) -> bool:
    consumer = cursor.consumer
    return consumer.is_hungry() and consumer.is_willing() and consumer.room() > 0
