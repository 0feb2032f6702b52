"""The outstanding events of a consumer of the shared reading, by partition, and the positions below which all are done.

The window limits the events in memory; at its limit a consumer accepts no more, and the other events stay in the log.

The reassignment of a partition (Kafka's rebalance) concerns all subscribers at once, and waits for the slowest one. So
attempts in flight get :data:`SETTLE_S` and are cancelled then. The outcome of such an attempt is not known; the next
owner of the partition delivers its event again.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.clock import Clock
from gateway.fanout.job import Job, JobState, Position, Watermark
from gateway.log import CursorStore

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


@dataclass(frozen=True, slots=True)
class Window:
    """How much of what a subscriber reads may be in memory.

    Args:
        max_events: number of outstanding events. A thousand keeps any concurrency busy; ten times more only costs
            memory, ten times less lets one busy key hold up the others.
        max_bytes: bytes of their values.
        max_span: records at and above the watermark, done or not: a crash repeats at most so many, and other events
            may continue so far while one event waits.
    """

    max_events: int = 2000
    max_bytes: int = 8 * 1024 * 1024
    max_span: int = 20_000


class PartitionQueue:
    """Bookkeeping of one partition for as long as it is ours.

    Args:
        name: of the partition.
        next_offset: the first record that was not looked at.
    """

    __slots__ = ("committed", "is_ours", "jobs", "mark", "name", "next")

    def __init__(self, name: str, next_offset: int = 0) -> None:
        self.name = name
        self.mark = Watermark()
        self.jobs: dict[int, Job] = {}
        self.next = next_offset
        self.committed: int | None = None
        self.is_ours = True

    def track(self, job: Job) -> None:
        """Add a job whose record is the next one; it holds the watermark until it is done."""
        offset = job.record.offset
        self.next = offset + 1
        self.jobs[offset] = job
        self.mark.track(offset)

    def pass_to(self, offset: int) -> None:
        """Skip the records before ``offset``, which need no delivery; an offset that was passed is ignored."""
        if offset > self.next:
            self.next = offset
            self.mark.pass_over(offset - 1)


class WindowedConsumer(ABC):
    """A consumer that holds events until they are done; the base of the two that implement all of it.

    See :class:`gateway.log.cursor.Consumer`.

    Args:
        name: durable name of the cursor.
        topics: that it reads.
        cursors: stores its positions.
        window: bounds of what is in memory.
        on_change: called when it has room again.
    """

    def __init__(
        self,
        name: str,
        topics: Collection[str],
        cursors: CursorStore,
        *,
        clock: Clock,
        window: Window,
        on_change: Callable[[], None],
    ) -> None:
        self.name = name
        self.topics = frozenset(topics)
        self._cursors = cursors
        self._clock = clock
        self._window = window
        self._on_change = on_change
        self._queues: dict[str, PartitionQueue] = {}
        self._events = 0
        self._bytes = 0
        self._span = 0  # of all partitions
        self._step = max(1, min(_STEP, window.max_events // 4))
        self._said_full = False
        self._has_refused = False  # records, in any way
        self._landed = asyncio.Event()
        self._is_closed = False

    @property
    def outstanding(self) -> int:
        """Number of events that were accepted and are not done."""
        return self._events

    def room(self) -> int:
        """See :class:`gateway.log.cursor.Consumer`."""
        left = self._left()
        if left < self._step and self._events:
            self._said_full = self._has_refused = True
            return 0
        return left

    def assigned(self, positions: Mapping[str, int]) -> None:
        """See :class:`gateway.log.cursor.Consumer`."""
        self._let_go([self._queues.pop(name) for name in positions if name in self._queues])
        for name, offset in positions.items():
            self._queues[name] = PartitionQueue(name, offset)

    async def revoked(self, partitions: Collection[str]) -> None:
        """See :class:`gateway.log.cursor.Consumer`. Takes :data:`SETTLE_S`, and a moment for what is not done then.

        Should a partition come back to us, an attempt that did not end holds its key: what is read again waits for it.
        """
        leaving = [self._queues.pop(name) for name in partitions if name in self._queues]
        try:
            await self._settle(leaving)
            self._cut([job for queue in leaving for job in queue.jobs.values() if job.entry is None])
            await self._until_landed(leaving, _STORE_S)
        finally:
            self._let_go(leaving)
            self._cut([job for queue in leaving for job in queue.jobs.values()])
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

    # -- for the subclasses --------------------------------------------------------------------------------------

    @abstractmethod
    def _discard(self, job: Job) -> None:
        """Withdraw an event that is not being attempted from where it waits."""

    @abstractmethod
    def _cut(self, jobs: Collection[Job]) -> None:
        """Cancel attempts; each job is abandoned a moment later."""

    def _freed(self) -> None:
        """Note that an event was forgotten while records are refused."""
        if self._left() >= self._step:
            self._said_full = self._has_refused = False
            self._on_change()

    def _left(self) -> int:
        if self._bytes >= self._window.max_bytes:
            return 0
        return min(self._window.max_events - self._events, self._window.max_span - self._span)

    def _hold(self, job: Job, queue: PartitionQueue) -> None:
        queue.track(job)
        self._span += 1
        self._events += 1
        self._bytes += job.size

    def _forget(self, job: Job) -> None:
        if job.position.jobs.pop(job.record.offset, None) is None:
            return
        self._events -= 1
        self._bytes -= job.size
        if self._has_refused:
            self._freed()
        if not job.position.is_ours or job.position.name not in self._queues:
            self._landed.set()

    def _pass_to(self, ends: Mapping[str, int]) -> None:
        """Skip what was read and not accepted, up to these offsets."""
        for partition, end in ends.items():
            if (queue := self._queues.get(partition)) is not None:
                queue.pass_to(end)
                self._commit(queue)

    def _commit(self, queue: Position) -> None:
        offset = queue.mark.committable
        if offset is not None and offset != queue.committed:
            queue.committed = offset
            self._cursors.commit(self.name, queue.name, offset)

    # -- partitions that leave ----------------------------------------------------------------------------------

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
                    self._discard(job)
                    self._forget(job)
