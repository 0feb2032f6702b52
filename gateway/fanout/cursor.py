"""A subscriber's cursor: shared reading → filter → dispatcher, and completions → watermark → commit.

Workers process the events and report by :meth:`SubscriberCursor.done`. The window limits the events in memory; at its
limit the cursor accepts no more, and the other events stay in the log.

The reassignment of a partition (Kafka's rebalance) concerns all subscribers at once, and waits for the slowest one. So
attempts in flight get :data:`SETTLE_S` and are cancelled then. The outcome of such an attempt is not known; the next
owner of the partition delivers its event again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.clock import Clock
from gateway.fanout.dispatch import Dispatcher
from gateway.fanout.job import Job, JobState, Position
from gateway.fanout.partition_queue import PartitionQueue, Window
from gateway.log import TOMBSTONE, Batch, Begins, CursorStore, Record, Start
from gateway.log.journal import EVENTS

#: Time that attempts under way have when a partition is revoked. Longer holds up the events of all subscribers in all
#: partitions that move; shorter cuts off subscribers that are only slow.
SETTLE_S: Final = 2.0
#: An event whose outcome is known, and that is being stored elsewhere, gets so long beyond that: cut off it would be
#: stored, and come again all the same.
_STORE_S: Final = 0.5
#: What was cancelled ends within a turn of the event loop; a sink that does not is left behind.
_CUT_S: Final = 0.3
#: How often a revoked partition looks whether what was in flight waits for retry now.
_SETTLE_LOOK_S: Final = 0.2
#: Steps of the shared reading. Room for less is said to be none: reading on for one would cost a fetch for each event.
_STEP: Final = 500
#: With fewer events than this share of the window it would soon be idle.
_LOW_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a subscriber begins in topics in which it has no position.

    Args:
        asked: for the times, whenever partitions have come.
        on_opened: called with the incarnations of the topics that are read before anything of them is delivered, and
            again when they have changed: a topic may appear later, or be created again.
    """

    asked: Callable[[], Awaitable[Begins]]
    on_opened: Callable[[Mapping[str, str]], None]


class SubscriberCursor:
    """Implements :class:`gateway.log.cursor.Consumer` for one subscriber.

    Args:
        name: durable name of the cursor.
        topics: the main topics that it reads.
        cursors: stores its positions.
        wants: the filter; False skips a record.
        begins: where it begins in topics in which it has no position.
        on_opened: called before an event of new partitions is offered, until it returns True: all is noted.
        is_willing: returns whether it may catch up.
        cut: cancels attempts on these jobs.
        on_skipped: called with the number of records of a batch that the filter skipped.
        on_change: called when it has room again, would soon be idle, or has no events.
    """

    def __init__(
        self,
        name: str,
        topics: Collection[str],
        dispatcher: Dispatcher,
        cursors: CursorStore,
        *,
        clock: Clock,
        window: Window,
        wants: Callable[[Record], bool] | None,
        begins: Callable[[], Awaitable[Start | Begins]],
        on_opened: Callable[[], bool],
        is_willing: Callable[[], bool],
        cut: Callable[[Collection[Job]], None],
        on_skipped: Callable[[int], None],
        on_change: Callable[[], None],
    ) -> None:
        self.name = name
        self.topics = frozenset(topics)
        self._dispatcher = dispatcher
        self._cursors = cursors
        self._clock = clock
        self._window = window
        self._wants = wants
        self._begins = begins
        self._on_opened = on_opened
        self._is_willing = is_willing
        self._cut = cut
        self._on_skipped = on_skipped
        self._on_change = on_change
        self._queues: dict[str, PartitionQueue] = {}
        self._events = 0
        self._bytes = 0
        self._span = 0  # of all partitions
        self._step = max(1, min(_STEP, window.max_events // 4))
        self._low = max(1, int(window.max_events * _LOW_SHARE))
        self._said_full = False
        self._said_sated = False
        self._said_unwilling = False
        self._is_noted = True
        self._landed = asyncio.Event()
        self._is_closed = False

    @property
    def outstanding(self) -> int:
        """Number of events that were accepted and are not done."""
        return self._events

    @property
    def oldest_at(self) -> float | None:
        """Unix seconds at which the oldest of these events was stored in the log; None if there is none."""
        if not self._events:
            return None
        firsts = (next(iter(queue.jobs.values()), None) for queue in self._queues.values())
        return min((job.record.appended_at for job in firsts if job is not None), default=None)

    @property
    def has_first_partition(self) -> bool:
        """Whether it reads the first partition of its first topic by name; with the journal, its only one."""
        wanted = f"{min(self.topics)}-0"
        return any(name == EVENTS or name.endswith(wanted) for name in self._queues)

    def room(self) -> int:
        """See :class:`gateway.log.cursor.Consumer`."""
        left = self._left()
        if left < self._step and self._events:
            self._said_full = True
            return 0
        return left

    def is_hungry(self) -> bool:
        """See :class:`gateway.log.cursor.Consumer`."""
        if self._events <= self._low and self._left() >= self._step:
            return True
        self._said_sated = True
        return False

    def is_willing(self) -> bool:
        """See :class:`gateway.log.cursor.Consumer`."""
        is_willing = self._is_willing()
        self._said_unwilling = self._said_unwilling or not is_willing
        return is_willing

    async def begin(self) -> Start | Begins:
        """See :class:`gateway.log.cursor.Consumer`."""
        return await self._begins()

    def take(self, batch: Batch) -> None:
        """See :class:`gateway.log.cursor.Consumer`."""
        if not self._is_noted:
            self._is_noted = self._on_opened()
        if batch:
            self._take_in(batch)
        for partition, end in batch.ends.items():
            if (queue := self._queues.get(partition)) is not None:
                queue.pass_to(end)
                self._commit(queue)

    def assigned(self, positions: Mapping[str, int]) -> None:
        """See :class:`gateway.log.cursor.Consumer`."""
        self._let_go([self._queues.pop(name) for name in positions if name in self._queues])
        for name, offset in positions.items():
            self._queues[name] = PartitionQueue(name, offset)
        self._is_noted = False

    async def revoked(self, partitions: Collection[str]) -> None:
        """See :class:`gateway.log.cursor.Consumer`. Takes :data:`SETTLE_S`, and a moment for what is not done then.

        Should a partition come back to us, an attempt that did not end holds its key: what is read again waits for it.
        """
        leaving = [self._queues.pop(name) for name in partitions if name in self._queues]
        try:
            await self._settle(leaving)
            self._cut(frozenset(job for queue in leaving for job in queue.jobs.values() if job.entry is None))
            await self._until_landed(leaving, _STORE_S)
        finally:
            self._let_go(leaving)
            self._cut(frozenset(job for queue in leaving for job in queue.jobs.values()))
        await self._until_landed(leaving, _CUT_S)

    def done(self, job: Job) -> None:
        """Mark an event as completed; its outcome is durable where it has to be."""
        queue = job.position
        if queue.is_ours:
            before = queue.mark.span
            if queue.mark.done(job.record.offset):
                self._span -= before - queue.mark.span
                self._commit(queue)
        self._forget(job)

    def abandon(self, job: Job) -> None:
        """Leave an event of a partition that was reassigned to its new owner."""
        self._forget(job)

    def close(self) -> None:
        """Leave everything that is not done: nothing is committed any more, and attempts are not recorded."""
        self._is_closed = True
        self._let_go(list(self._queues.values()))
        self._queues.clear()
        self._landed.set()

    def _left(self) -> int:
        if self._bytes >= self._window.max_bytes:
            return 0
        return min(self._window.max_events - self._events, self._window.max_span - self._span)

    def _take_in(self, records: Sequence[Record]) -> None:
        skipped = 0
        wants = self._wants
        for record in records:
            queue = self._queues.get(record.partition)
            if queue is None or record.offset < queue.next:
                continue
            if record.flaw:
                # Dead-lettered by a worker, whatever the filter says; what deletes a key leaves nothing to keep.
                is_passed = record.flaw == TOMBSTONE
            elif is_passed := wants is not None and not wants(record):
                skipped += 1
            if is_passed:
                queue.pass_to(record.offset + 1)
            else:
                self._offer(Job(record, self, queue), queue)
        if skipped:
            self._on_skipped(skipped)

    def _offer(self, job: Job, queue: PartitionQueue) -> None:
        queue.track(job)
        self._span += 1
        self._events += 1
        self._bytes += len(job.record.value)
        self._dispatcher.offer(job)

    def _forget(self, job: Job) -> None:
        if job.position.jobs.pop(job.record.offset, None) is None:
            return
        self._events -= 1
        self._bytes -= len(job.record.value)
        if self._said_full or self._said_sated or self._said_unwilling:
            self._say_change()
        if not job.position.is_ours or job.position.name not in self._queues:
            self._landed.set()

    def _say_change(self) -> None:
        if self._left() < self._step:
            return
        is_sated, is_empty = self._events > self._low, not self._events
        if self._said_full or (self._said_sated and not is_sated) or (self._said_unwilling and is_empty):
            self._said_full = False
            self._said_sated = self._said_sated and is_sated
            self._said_unwilling = self._said_unwilling and not is_empty
            self._on_change()

    def _commit(self, queue: Position) -> None:
        offset = queue.mark.committable
        if offset is not None and offset != queue.committed:
            queue.committed = offset
            self._cursors.commit(self.name, queue.name, offset)

    async def _settle(self, leaving: Sequence[PartitionQueue]) -> None:
        """Drop what has not begun, wait for what is in flight."""
        until = self._clock.monotonic() + SETTLE_S
        self._drop(leaving)
        while self._are_under_way(leaving) and (left_s := until - self._clock.monotonic()) > 0:
            await self._until_landed(leaving, min(left_s, _SETTLE_LOOK_S))
            self._drop(leaving)  # what failed meanwhile waits for retry, and not here

    async def _until_landed(self, leaving: Sequence[PartitionQueue], at_most_s: float) -> None:
        """Wait until none of the jobs is left, or for ``at_most_s``."""
        until = self._clock.monotonic() + at_most_s
        timer = self._clock.call_later(at_most_s, self._landed.set)
        try:
            while self._are_under_way(leaving) and self._clock.monotonic() < until:
                self._landed.clear()
                await self._landed.wait()
        finally:
            timer.cancel()

    def _are_under_way(self, leaving: Sequence[PartitionQueue]) -> bool:
        return not self._is_closed and any(queue.jobs for queue in leaving)

    def _let_go(self, queues: Sequence[PartitionQueue]) -> None:
        for queue in queues:
            if queue.is_ours:
                queue.is_ours = False
                self._span -= queue.mark.span
        self._drop(queues)

    def _drop(self, queues: Iterable[PartitionQueue]) -> None:
        """Forget what has not begun; it is still uncommitted, so that the next reader meets it."""
        for queue in queues:
            # The last first: the head of a key would let its next one go, out of order.
            for job in reversed(list(queue.jobs.values())):
                if job.state is not JobState.FLIGHT:
                    self._dispatcher.discard(job)
                    self._forget(job)
