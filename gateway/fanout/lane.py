"""One topic of one subscriber's parked events: log → dispatcher, and completions → watermark → commit.

Each retry tier is a lane, and so is the replay topic. A lane's task reads and nothing else; what is done with an event
is the workers' business, who report back by :meth:`Lane.done`.

Bounds (:class:`Window`), each with its consequence: at any of them the lane stops reading until something is
done; the log keeps the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import structlog

from gateway.clock import Clock, sleep
from gateway.errors import GatewayError
from gateway.fanout import parking
from gateway.fanout.dispatch import Dispatcher
from gateway.fanout.job import Job, Position
from gateway.fanout.partition_queue import PartitionQueue, Window
from gateway.fanout.schedule import Place
from gateway.log import TOMBSTONE, EventLog, LogReader, Record, gaps
from gateway.telemetry import redaction

#: How long one fetch waits for records. Shorter wakes idle readers for nothing; it never delays a record.
_FETCH_WAIT_S: Final = 5.0
#: A fetch of more than this holds the event loop for milliseconds.
_FETCH_RECORDS: Final = 500
#: While there is no room, the log is still asked this often: Kafka takes partitions from a consumer that does
#: not (``max.poll.interval.ms``, 300 s by default).
_KEEP_ALIVE_S: Final = 30.0
#: How often a revoked partition looks whether what was in flight has landed.
_SETTLE_LOOK_S: Final = 0.2
_FIRST_BACKOFF_S: Final = 0.5
_MAX_BACKOFF_S: Final = 30.0

_log = structlog.get_logger("gateway.fanout")


class Lane:
    """Reads one topic of parked events; its records carry a due time and a trail in their headers.

    Args:
        topic: what to read, and name of the cursor.
        settle_s: how long a revoked partition waits for what is in flight, if the log does; longer than an attempt.
    """

    def __init__(
        self,
        log: EventLog,
        topic: str,
        dispatcher: Dispatcher,
        *,
        clock: Clock,
        window: Window,
        settle_s: float = 15.0,
    ) -> None:
        self.group = topic
        self._log = log
        self._dispatcher = dispatcher
        self._clock = clock
        self._window = window
        self._settle_s = settle_s
        self._reader: LogReader | None = None
        self._positions: dict[str, PartitionQueue] = {}
        self._leaving: set[str] = set()
        self._events = 0
        self._bytes = 0
        self._is_whole = True
        self._has_room = asyncio.Event()
        self._waiters = 0
        # Reading on as soon as there is room for one would cost a fetch for each event.
        self._enough = max(1, min(_FETCH_RECORDS, window.max_events // 4))
        self._wake_below = window.max_events - self._enough

    @property
    def outstanding(self) -> int:
        """Events taken in and not done."""
        return self._events

    async def run(self) -> None:
        """Read for ever; cancel it to stop. Trouble of the log is waited out, never raised.

        After a fault of our own everything from the commit on is read again.
        """
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                await self._step()
                backoff_s = _FIRST_BACKOFF_S
            except Exception as exc:  # the top of a task: a reader that ends would be a subscriber forgotten
                is_expected = isinstance(exc, GatewayError) and exc.retriable
                _log.warning("lane.read_failed", group=self.group, error=redaction.fault(exc), exc_info=not is_expected)
                self._is_whole = self._is_whole and isinstance(exc, GatewayError)
                await sleep(self._clock, backoff_s)
                backoff_s = min(_MAX_BACKOFF_S, backoff_s * 2)

    def done(self, job: Job) -> None:
        """An event needs nothing more; what became of it is durable where it has to be."""
        position = job.position
        moved = position.mark.done(job.record.offset)
        if moved and position.is_ours:
            self._commit(position)
        self._forget(job)

    def abandon(self, job: Job) -> None:
        """An event of a partition that is no longer ours is left to its new owner."""
        self._forget(job)

    async def close(self) -> None:
        """Make commits durable and give the reader back; :meth:`run` would open it again. Twice is harmless."""
        reader, self._reader = self._reader, None
        self._has_room.set()  # a rebalance that waits for attempts waits no longer
        self._revoke_all()
        self._leaving.clear()  # what was leaving that reader may come to the next one
        if reader is not None:
            try:
                await reader.close()
            except GatewayError as exc:
                _log.warning("lane.close_failed", group=self.group, error=str(exc))

    async def _step(self) -> None:
        if not self._is_whole:
            # A fault of ours: records may have been handed out and not taken in, and a commit must not pass them.
            await self.close()
            self._is_whole = True
        if self._reader is None:
            self._reader = await self._log.reader(
                self.group, [self.group], start="earliest", on_revoked=self._on_revoked
            )
        room = self._room()
        if room < self._enough and self._events:
            await self._wait_for_room(self._reader)
            return
        records = await self._reader.fetch(max_records=min(room, _FETCH_RECORDS), wait_s=_FETCH_WAIT_S)
        for gap in records.gaps:
            gaps.report(self._log.kind, [self.group], gap)
        if records:
            self._take_in(records)

    def _room(self) -> int:
        if self._bytes >= self._window.max_bytes:
            return 0
        span = max((position.mark.span for position in self._positions.values()), default=0)
        return min(self._window.max_events - self._events, self._window.max_span - span)

    async def _wait_for_room(self, reader: LogReader) -> None:
        await self._changed(_KEEP_ALIVE_S)
        if self._room() < self._enough:
            names = list(self._positions)
            reader.pause(names)
            try:
                # A partition that is new to us may give a record; one more than the window does no harm.
                self._take_in(await reader.fetch(max_records=1, wait_s=0.0))
            finally:
                reader.resume(names)

    def _take_in(self, records: Sequence[Record]) -> None:
        moved: dict[str, PartitionQueue] = {}
        for record in records:
            position = self._positions.get(record.partition)
            if position is None:
                if record.partition in self._leaving:
                    continue
                position = self._positions[record.partition] = PartitionQueue(record.partition)
            if record.offset < position.next:
                continue  # read a second time after trouble; it is known already
            if record.flaw == TOMBSTONE:  # what deletes a key leaves nothing to keep
                position.pass_to(record.offset + 1)
                moved[record.partition] = position
                continue
            job = self._parked(record, position)
            position.track(job)
            self._events += 1
            self._bytes += len(record.value)
            self._dispatcher.offer(job)
        for position in moved.values():
            self._commit(position)

    def _parked(self, record: Record, position: PartitionQueue) -> Job:
        trail, due, is_replay = parking.read(record)
        delay_s = max(0.0, due - self._clock.now())
        return Job(record, self, position, trail=trail, due=self._clock.monotonic() + delay_s, is_replay=is_replay)

    def _forget(self, job: Job) -> None:
        if job.position.jobs.pop(job.record.offset, None) is not None:
            self._events -= 1
            self._bytes -= len(job.record.value)
            if self._waiters and self._events <= self._wake_below and self._room() >= self._enough:
                self._has_room.set()

    def _commit(self, position: Position) -> None:
        offset = position.mark.committable
        if self._reader is not None and offset is not None and offset != position.committed:
            position.committed = offset
            self._reader.commit(position.name, offset)

    async def _on_revoked(self, partitions: Collection[str]) -> None:
        """Settle partitions that another process gets; the log cancels it when the group waits no longer.

        What is in flight then is attempted twice. Should the partition come back to us, the first attempt still
        holds its key here: what is read again stands behind it.
        """
        self._leaving.update(partitions)
        leaving = [self._positions.pop(name) for name in partitions if name in self._positions]
        try:
            await self._settle(leaving)
        finally:
            self._let_go(leaving)
            self._leaving.difference_update(partitions)
        _log.info("lane.revoked", group=self.group, partitions=sorted(partitions))

    async def _settle(self, leaving: Sequence[PartitionQueue]) -> None:
        """Drop what has not begun, wait for what is in flight."""
        until = self._clock.monotonic() + self._settle_s
        reader = self._reader
        for position in leaving:
            self._drop(position)
        # Once this reader is closed nothing that lands is committed, and mostly nobody is left who would make it land.
        while self._reader is reader and any(position.jobs for position in leaving):
            if (left_s := until - self._clock.monotonic()) <= 0:
                return
            await self._changed(min(left_s, _SETTLE_LOOK_S))
            for position in leaving:
                self._drop(position)  # what failed meanwhile waits for retry, and not here

    async def _changed(self, at_most_s: float) -> None:
        """Wait until an event is done that makes a difference, or for ``at_most_s``."""
        self._has_room.clear()
        self._waiters += 1
        timer = self._clock.call_later(at_most_s, self._has_room.set)
        try:
            await self._has_room.wait()
        finally:
            self._waiters -= 1
            timer.cancel()

    def _revoke_all(self) -> None:
        self._let_go(self._positions.values())
        self._positions.clear()

    def _let_go(self, positions: Iterable[PartitionQueue]) -> None:
        for position in positions:
            position.is_ours = False
            self._drop(position)

    def _drop(self, position: PartitionQueue) -> None:
        """Forget what has not begun; it is still uncommitted, so that the next reader meets it."""
        # The last first: the head of a key would let its next one go, out of order.
        for job in reversed(list(position.jobs.values())):
            if job.place is not Place.FLIGHT:
                self._dispatcher.discard(job)
                self._forget(job)
