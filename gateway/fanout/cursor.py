"""A subscriber's cursor: shared reading → filter → dispatcher, and completions → watermark → commit.

Workers process the events and report by :meth:`SubscriberCursor.done`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.clock import Clock
from gateway.fanout.job import Job
from gateway.fanout.partition_queue import Window, WindowedConsumer
from gateway.fanout.scheduler import Dispatcher
from gateway.log import TOMBSTONE, Batch, Begins, CursorStore, Record, Start
from gateway.log.journal import EVENTS

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


class SubscriberCursor(WindowedConsumer):
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
        super().__init__(name, topics, cursors, clock=clock, window=window, on_change=on_change)
        self._dispatcher = dispatcher
        self._wants = wants
        self._begins = begins
        self._on_opened = on_opened
        self._is_willing = is_willing
        self._cut_attempts = cut
        self._on_skipped = on_skipped
        self._low = max(1, int(window.max_events * _LOW_SHARE))
        self._said_sated = False
        self._said_unwilling = False
        self._is_noted = True

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

    def is_hungry(self) -> bool:
        """See :class:`gateway.log.cursor.Consumer`."""
        if self._events <= self._low and self._left() >= self._step:
            return True
        self._said_sated = self._has_refused = True
        return False

    def is_willing(self) -> bool:
        """See :class:`gateway.log.cursor.Consumer`."""
        if self._is_willing():
            return True
        self._said_unwilling = self._has_refused = True
        return False

    async def begin(self) -> Start | Begins:
        """See :class:`gateway.log.cursor.Consumer`."""
        return await self._begins()

    def take(self, batch: Batch) -> None:
        """See :class:`gateway.log.cursor.Consumer`."""
        if not self._is_noted:
            self._is_noted = self._on_opened()
        if batch:
            self._take_in(batch)
        self._pass_to(batch.ends)

    def assigned(self, positions: Mapping[str, int]) -> None:
        """See :class:`gateway.log.cursor.Consumer`."""
        super().assigned(positions)
        self._is_noted = False

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
                job = Job(record, self, queue)
                self._hold(job, queue)
                self._dispatcher.offer(job)
        if skipped:
            self._on_skipped(skipped)

    def _discard(self, job: Job) -> None:
        self._dispatcher.discard(job)

    def _cut(self, jobs: Collection[Job]) -> None:
        self._cut_attempts(frozenset(jobs))

    def _freed(self) -> None:
        if self._left() < self._step:
            return
        is_sated, is_empty = self._events > self._low, not self._events
        if self._said_full or (self._said_sated and not is_sated) or (self._said_unwilling and is_empty):
            self._said_full = False
            self._said_sated = self._said_sated and is_sated
            self._said_unwilling = self._said_unwilling and not is_empty
            self._has_refused = self._said_sated or self._said_unwilling
            self._on_change()
