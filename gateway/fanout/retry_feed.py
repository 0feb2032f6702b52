"""One topic that all subscribers share: log → the subscribers' dispatchers, and completions → watermark → commit.

Events stay here, whole, from when they are read until they are done, so the window bounds them. A record is offered
to its subscriber at once; the subscriber's schedule holds it until it is due. What :mod:`.retry_moves` chooses is
withdrawn from there, appended again, and only then passed.

A retry topic is in the order of appending, and each event in it waits at least as long as the topic's name says: so
while the window is full of events that wait, those behind it are mostly not due either, and reading rests. When it
stays full, the feed looks ahead for an event that is due, of a subscriber that has none in the window; only then room
is made by appending again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final

import structlog

from gateway.clock import Clock, sleep
from gateway.errors import GatewayError
from gateway.fanout import retry_records
from gateway.fanout.job import Job, JobState, ParkedJob, Recipient, Standing
from gateway.fanout.partition_queue import PartitionQueue, Window, WindowedConsumer
from gateway.fanout.retry_moves import Move, Mover, Progress, Share, blocking, choose
from gateway.log import TOMBSTONE, Batch, EventLog, Record, Start
from gateway.telemetry import redaction
from gateway.telemetry.metrics import Metrics

#: Name of the cursor of all these topics.
GROUP: Final = "gateway.retry"
#: Between two looks at what is held, when nothing had to be appended again, and when something had: then ten thousand
#: events a second, at most.
_TEND_S: Final = 1.0
_BETWEEN_APPENDS_S: Final = 0.05
_PER_APPEND: Final = 500

_log = structlog.get_logger("gateway.fanout")


class TopicFeed(WindowedConsumer):
    """Hands the parked events of one topic to their subscribers; see the module.

    Args:
        topic: its name.
        find: returns a subscriber that runs here.
        is_known: whether a subscriber is configured.
        again: returns the retry topic for a wait, in seconds.
        window: bounds of what is in memory.
        on_change: called when it has room again.
    """

    def __init__(
        self,
        log: EventLog,
        topic: str,
        *,
        find: Callable[[str], Recipient | None],
        is_known: Callable[[str], bool],
        again: Callable[[float], str],
        window: Window,
        on_change: Callable[[], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        super().__init__(GROUP, [topic], log.cursors, clock=clock, window=window, on_change=on_change)
        self.topic = topic
        self._find = find
        self._is_known = is_known
        self._again = again
        self._not_ours = metrics.counter("gateway_retry_moved").labels("not_ours")
        self._mover = Mover(log, topic, again, clock, metrics)
        self._progress: dict[str, Progress] = {}
        self._held: Counter[str] = Counter()
        self._has_work = asyncio.Event()

    # -- as a cursor --------------------------------------------------------------------------------------------

    def is_hungry(self) -> bool:
        """See :class:`gateway.log.cursor.Consumer`."""
        return self.room() > 0

    def is_willing(self) -> bool:
        """See :class:`gateway.log.cursor.Consumer`."""
        return True

    async def begin(self) -> Start:
        """See :class:`gateway.log.cursor.Consumer`."""
        return "earliest"

    def take(self, batch: Batch) -> None:
        """Accept records, and offer each to its subscriber. Gaps are passed as records are."""
        for record in batch:
            position = self._queues.get(record.partition)
            if position is None or record.offset < position.next:
                continue
            found = retry_records.read(record)
            if found.subscriber and not record.flaw:
                self._accept(record, position, found)
                continue
            if record.flaw != TOMBSTONE:
                _log.warning("retry.not_ours", partition=record.partition, offset=record.offset)
                self._not_ours.inc()
            position.pass_to(record.offset + 1)
        self._pass_to(batch.ends)
        if self._events:
            self._has_work.set()

    # -- as a source of jobs ------------------------------------------------------------------------------------

    def done(self, job: Job) -> None:
        """See :class:`gateway.fanout.job.Source`."""
        assert isinstance(job, ParkedJob)
        if not self._is_held(job):
            return
        if not job.is_moving:
            progress, partition = self._progress[job.subscriber], job.position.name
            progress.at = self._clock.monotonic()
            progress.offsets[partition] = max(job.record.offset, progress.offsets.get(partition, 0))
        super().done(job)

    def abandon(self, job: Job) -> None:
        """See :class:`gateway.fanout.job.Source`. What became of an attempt that was cut off is not known."""
        assert isinstance(job, ParkedJob)
        if self._is_held(job) and self._queues.get(job.position.name) is job.position:
            self._exchange(job)  # its subscriber was stopped, and the position is still held here
        else:
            self._forget(job)

    def again(self, delay_s: float) -> str:
        """Return the topic that an event goes to whose next attempt is in ``delay_s`` seconds."""
        return self._again(delay_s)

    def left(self, target: Recipient) -> None:
        """Note that a subscriber was stopped: its events wait for its successor, if there will be one."""
        for job in [job for job in self._jobs() if job.target is target]:
            self._assign(self._exchange(job))

    # -- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look for ever at what is held; cancel it to stop. Trouble of the log is waited out, never raised."""
        while True:
            await self._has_work.wait()
            has_moved = False
            try:
                has_moved = await self.tend()
            except Exception as exc:  # the top of a task: a topic without a reader would hold its position
                is_expected = isinstance(exc, GatewayError) and exc.retriable
                _log.warning(
                    "retry.move_failed", topic=self.topic, error=redaction.fault(exc), exc_info=not is_expected
                )
            if not self._events:
                self._has_work.clear()
            await sleep(self._clock, _BETWEEN_APPENDS_S if has_moved else _TEND_S)

    # -- appending again ----------------------------------------------------------------------------------------

    async def tend(self) -> bool:
        """Offer what has no subscriber to one that was started, and append again what :mod:`.retry_moves` chooses.

        Return whether anything was appended.

        Raises:
            GatewayError: the log does not take it now.
        """
        for job in [job for job in self._jobs() if job.target is None and not job.is_moving]:
            self._assign(job)
        await self._mover.look(self._nexts(), lambda name: bool(self._held[name]), is_full=not self.is_hungry())
        moves = self._chosen()[:_PER_APPEND]
        if moves:
            await self._move(moves)
        return bool(moves)

    def _chosen(self) -> list[Move]:
        share = None
        if not self.is_hungry() and self._mover.is_waited_for(self._nexts()):
            parts = 2 * max(1, len(self._held))
            share = Share(self._window.max_events // parts, self._window.max_bytes // parts)
        return choose(
            self._jobs(),
            self._clock.monotonic(),
            standing=self._standing,
            progress=self._progress.get,
            share=share,
            blocking=blocking(self._queues.values()),
        )

    async def _move(self, moves: Sequence[Move]) -> None:
        moves = [move for move in reversed(moves) if self._withdraw(move.job)][::-1]
        try:
            await self._mover.append(moves)
        except BaseException:
            for move in moves:
                if self._is_held(move.job):
                    self._assign(self._exchange(move.job))
            raise
        for move in moves:
            self.done(move.job)

    def _withdraw(self, job: ParkedJob) -> bool:
        """Withdraw an event for a move; return False if it started meanwhile, as one before it of its key did."""
        if job.state is JobState.FLIGHT:
            return False
        job.is_moving = True
        if job.target is not None:
            job.target.withdraw(job)
        return True

    # -- bookkeeping --------------------------------------------------------------------------------------------

    def _nexts(self) -> dict[str, int]:
        return {name: position.next for name, position in self._queues.items()}

    def _jobs(self) -> list[ParkedJob]:
        positions = self._queues.values()
        return [job for one in positions for job in one.jobs.values() if isinstance(job, ParkedJob)]

    def _accept(self, record: Record, position: PartitionQueue, found: retry_records.Parked) -> None:
        job = ParkedJob(record, self, position, subscriber=found.subscriber, moves=found.moves)
        job.trail, job.attempts, job.is_replay = found.trail, found.trail.attempts, found.is_replay
        job.due = self._clock.monotonic() + max(0.0, found.due - self._clock.now())
        self._hold(job, position)
        self._held[job.subscriber] += 1
        self._progress.setdefault(job.subscriber, Progress(self._clock.monotonic()))
        self._assign(job)

    def _standing(self, name: str) -> Standing:
        target = self._find(name)
        if target is not None:
            return target.standing
        return Standing.ABSENT if self._is_known(name) else Standing.GONE

    def _assign(self, job: ParkedJob) -> None:
        target = self._find(job.subscriber)
        if target is not None:
            job.target = target
            target.offer(job)

    def _exchange(self, job: ParkedJob) -> ParkedJob:
        """Put a fresh job in the place of one that was withdrawn."""
        again = job.position.jobs[job.record.offset] = job.anew()
        return again

    def _is_held(self, job: Job) -> bool:
        return job.position.jobs.get(job.record.offset) is job

    def _forget(self, job: Job) -> None:
        if not self._is_held(job):
            return
        assert isinstance(job, ParkedJob)
        self._held[job.subscriber] -= 1
        if not self._held[job.subscriber]:
            del self._held[job.subscriber]
            del self._progress[job.subscriber]
        super()._forget(job)

    def _discard(self, job: Job) -> None:
        assert isinstance(job, ParkedJob)
        if job.target is not None and job.state is not JobState.GONE:
            job.target.withdraw(job)

    def _cut(self, jobs: Collection[Job]) -> None:
        for job in jobs:
            assert isinstance(job, ParkedJob)
            if job.target is not None:
                job.target.cut([job])
