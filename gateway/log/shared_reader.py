"""One reading of the log for many cursors: each partition is read once, and each batch goes to all attached cursors.

An *attached* consumer receives every batch. A consumer that is full while another one is hungry is *detached*: the
reading continues without it, and later it reads on its own (:mod:`.catch_up`) until it reaches the shared position.
So no consumer waits for the trouble of another one, and a consumer causes no reading of the log.

Invariants:

* A cursor's next offset in a partition moves only over records that were handed to its consumer, records of other
  topics, and gaps that were reported. A cursor is attached only while that offset is the shared one or beyond it; it is
  compared and attached without an await in between.
* A consumer receives at most as many records as it said that it can accept. If it has less room than a batch that was
  already read, it receives nothing of that batch and is detached before it.
* The shared position of a partition is that of the log's reader. It moves only when a batch is handed out, for all
  cursors at once.
* A consumer that fails in :meth:`.Consumer.take` begins again at its committed position, alone.

The reader stores no position: consumers commit them to the store (:class:`gateway.log.CursorStore`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any, Final

import structlog

from gateway.clock import Clock, sleep
from gateway.errors import GatewayError, is_logged
from gateway.log import AssignedReader, Batch, EventLog, Placed
from gateway.log.catch_up import FIRST_BACKOFF_S, CatchUps, ReadingPolicy
from gateway.log.cursor import AttachedCursors, Change, Consumer, Cursor, Places, foremost, give_up, load, pass_gaps
from gateway.telemetry import redaction

_POLICY: Final = ReadingPolicy()
#: How long one fetch waits for records. A shorter time wakes an idle reading without use; the wait delays no record.
_FETCH_WAIT_S: Final = 5.0

_log = structlog.get_logger("gateway.reading")


class SharedReader:
    """Reads the partitions of this process and hands their batches to consumers.

    Args:
        log: to read.
        group: consumer group whose members share the partitions, where processes share the work.
        clock: monotonic time of pauses.
        policy: limits and times.
        before: awaited with each batch of the shared reading before it is handed out. It raises nothing. Only for a log
            that revokes no partitions.
    """

    def __init__(
        self,
        log: EventLog,
        group: str,
        clock: Clock,
        policy: ReadingPolicy = _POLICY,
        before: Callable[[Batch], Awaitable[None]] | None = None,
    ) -> None:
        self.group = group
        self._before = before
        self._log = log
        self._clock = clock
        self._policy = policy
        self._cursors: dict[Consumer, Cursor] = {}
        self._assigned: set[str] = set()
        self._begun: set[str] = set()  # assigned partitions whose first offset is known, or that no cursor reads
        self._reader: AssignedReader | None = None
        self._is_whole = True
        self._task: asyncio.Task[None] | None = None
        self._placing: set[asyncio.Task[None]] = set()
        self._one_places = asyncio.Lock()
        self._change = Change()
        self._attached = AttachedCursors(log, self._change, lambda cursor: self._begin(self._again(cursor)))
        self._catch_ups = CatchUps(log, clock, policy, attached=self._attached, change=self._change)

    # -- what owners and consumers call -------------------------------------------------------------------------

    def start(self) -> None:
        """Start reading as soon as there is a consumer. Never blocks."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"reading:{self.group}")

    async def stop(self) -> None:
        """Stop reading, release the partitions and forget the consumers. May be called twice, or before the start.

        Consumers are not notified: end them before or after. Their commits until the log stops become durable.
        """
        ending = [task for task in (*self._placing, self._task) if task is not None]
        self._task = None
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._catch_ups.close()
        reader, self._reader = self._reader, None
        for known in (self._cursors, self._attached.cursors, self._attached.shared, self._assigned, self._begun):
            known.clear()
        try:
            await self._log.cursors.flush()
            if reader is not None:
                await reader.close()
        except GatewayError as exc:
            _log.warning("reading.close_failed", group=self.group, error=str(exc))

    def add(self, consumer: Consumer) -> None:
        """Add a consumer, which receives records from its position on. Never blocks.

        Consumers that read different topics may share a name, and so the positions under it.

        Raises:
            ValueError: another consumer of its name reads one of its topics.
        """
        if any(one.name == consumer.name and one.topics & consumer.topics for one in self._cursors.values()):
            raise ValueError(f"there is a consumer {consumer.name!r} of these topics already")
        cursor = self._cursors[consumer] = Cursor(consumer)
        if self._reader is not None:
            self._reader.subscribe(consumer.topics)
            self._begin(self._admit(cursor))
        self._change.happened()

    async def remove(self, consumer: Consumer) -> None:
        """Remove a consumer: it receives nothing after this call. An unknown consumer is ignored.

        It may still commit what it has received; then its owner calls ``log.cursors.forget``.
        """
        cursor = self._cursors.pop(consumer, None)
        if cursor is not None:
            self._attached.detach(cursor)
            cursor.is_placed = False
            await self._catch_ups.drop([cursor])
            self._change.happened()

    def changed(self) -> None:
        """Note that a consumer has room again, is hungry, or may catch up. Never blocks; cheap if no task waits."""
        if len(self._attached.cursors) < len(self._cursors):
            self._catch_ups.look([cursor for cursor in self._cursors.values() if not cursor.is_attached])
        self._change.happened()

    def is_attached(self, consumer: Consumer) -> bool:
        """Return whether a consumer is attached to the shared reading."""
        return consumer in self._attached.cursors

    def positions(self, consumer: Consumer) -> Mapping[str, int]:
        """Return the next offset of a consumer, by partition; empty while its positions are not known."""
        cursor = self._cursors.get(consumer)
        return cursor.positions(self._attached.shared) if cursor is not None else {}

    async def lags(self) -> dict[Consumer, int | None]:
        """Return how many records each consumer has not committed yet; None while its positions are not known.

        One request to the log serves all of them. On the journal it is an upper bound: records of all topics count.

        Raises:
            Transient: the log does not answer now.
        """
        if self._reader is None:
            return dict.fromkeys(self._cursors)
        ends = await self._reader.ends()
        committed = self._log.cursors.committed
        return {consumer: cursor.lag(committed(cursor.name), ends) for consumer, cursor in self._cursors.items()}

    def is_certain(self) -> bool:
        """See :meth:`gateway.log.AssignedReader.is_certain`; True while nothing is read."""
        return self._reader is None or self._reader.is_certain()

    def incarnations(self) -> Mapping[str, str]:
        """See :meth:`gateway.log.AssignedReader.incarnations`; empty while nothing is read."""
        return self._reader.incarnations() if self._reader is not None else {}

    # -- reading ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Read until cancelled. An unavailable log is tried again; after a bug all cursors begin at their commits."""
        backoff = self._policy.backoff()
        while True:
            try:
                await self._step()
                backoff.reset()
            except Exception as exc:  # the top of a task
                is_ours = not (isinstance(exc, GatewayError) and exc.retriable)
                if not is_logged(exc):
                    _log.warning("reading.failed", group=self.group, error=redaction.fault(exc), exc_info=is_ours)
                self._is_whole = self._is_whole and isinstance(exc, GatewayError)
                await sleep(self._clock, backoff.next_s())

    async def _step(self) -> None:
        if not self._is_whole or (self._reader is not None and not self._cursors):
            await self._leave()
        if not self._cursors:
            await self._change.wait()
            return
        if self._reader is None:
            await self._join()
        assert self._reader is not None
        room = self._attached.step_size(self._policy.max_records)
        if room <= 0:
            await self._wait(self._reader)
            return
        batch = await self._reader.fetch(max_records=room, wait_s=_FETCH_WAIT_S)
        if self._before is not None:
            await self._before(batch)
        self._hand_out(batch)
        if 0 < len(batch) < room:
            is_busy = len(batch) >= self._policy.busy_records
            await sleep(self._clock, self._policy.busy_linger_s if is_busy else self._policy.linger_s)

    def _hand_out(self, batch: Batch) -> None:
        if left := self._attached.hand_out(batch):
            self._catch_ups.look(left)

    async def _wait(self, reader: AssignedReader) -> None:
        """Wait until a consumer has room; fetch now and then, so that Kafka does not revoke the partitions."""
        timer = self._clock.call_later(self._policy.keep_alive_s, self._change.happened)
        due = self._clock.monotonic() + self._policy.keep_alive_s
        try:
            await self._change.wait()
        finally:
            timer.cancel()
        if self._clock.monotonic() >= due:
            paused = list(self._assigned)
            reader.pause(paused)
            try:
                # A newly assigned partition may return a record; a consumer without room for it is detached.
                self._hand_out(await reader.fetch(max_records=1, wait_s=0.0))
            finally:
                reader.resume(paused)

    async def _join(self) -> None:
        topics = frozenset[str]().union(*(cursor.topics for cursor in self._cursors.values()))
        self._reader = await self._log.join(
            self.group, topics, on_assigned=self._on_assigned, on_revoked=self._on_revoked
        )
        more = frozenset[str]().union(*(cursor.topics for cursor in self._cursors.values())) - topics
        if more:  # topics of consumers that were added meanwhile
            self._reader.subscribe(more)
        for cursor in list(self._cursors.values()):
            if not cursor.is_placed:
                self._begin(self._admit(cursor))

    async def _leave(self) -> None:
        """Release all partitions; the next reading begins at the committed positions."""
        await self._on_revoked(set(self._assigned))
        self._is_whole = True
        if self._reader is not None:
            await self._reader.close()
            self._reader = None  # only now: a stop in between closes it

    # -- where cursors begin ------------------------------------------------------------------------------------

    async def _on_assigned(self, partitions: Collection[str]) -> Mapping[str, int]:
        """Load the positions of all cursors, and begin at the hindmost of those that are close together."""
        new = set(partitions)
        self._assigned |= new
        async with self._one_places:
            places = await self._load_most(new)
            new &= self._assigned
            self._begun |= new
            for name in new:
                if (begin := foremost(places, name, self._policy.spread)) is not None:
                    self._attached.shared[name] = begin
            for cursor, placed in places.items():
                self._place(cursor, {name: at for name, at in placed.items() if name in new})
            pass_gaps(self._log, places)
        for cursor in self._cursors.values():
            if cursor not in places:
                self._begin(self._admit(cursor))
        return {name: self._attached.shared[name] for name in new if name in self._attached.shared}

    async def _load_most(self, partitions: Collection[str]) -> Places:
        """Return where cursors continue, as soon as one is known: no cursor waits for another one's trouble."""
        backoff = self._policy.backoff()
        while True:
            cursors = list(self._cursors.values())
            places = await load(self._log, cursors, partitions)
            if places or not self._cursors:
                return places
            await sleep(self._clock, backoff.next_s())

    def _place(self, cursor: Cursor, placed: Mapping[str, Placed]) -> None:
        """Note where a cursor continues in partitions that are new to it, and attach it if possible."""
        if self._cursors.get(cursor.consumer) is not cursor:
            return
        positions = {name: place.offset for name, place in placed.items()}
        self._attached.detach(cursor)
        cursor.next.update(positions)
        cursor.partitions = cursor.partitions.union(positions)
        cursor.is_placed = True
        if positions:
            cursor.consumer.assigned(positions)
        if cursor.has_met(self._attached.shared):
            self._attached.attach(cursor)
        else:
            self._catch_ups.look([cursor])

    async def _admit(self, cursor: Cursor) -> None:
        """Place a cursor that was added or failed after the assignment; try until it is placed or removed."""
        backoff = self._policy.backoff()
        while self._cursors.get(cursor.consumer) is cursor:
            async with self._one_places:
                if await self._try_to_admit(cursor):
                    return
            await sleep(self._clock, backoff.next_s())

    async def _try_to_admit(self, cursor: Cursor) -> bool:
        places = await load(self._log, [cursor], self._begun - cursor.partitions)
        if cursor not in places:
            return False
        placed = places[cursor]
        pass_gaps(self._log, places)
        if not placed.keys() <= self._attached.shared.keys() and placed.keys() <= self._begun:
            # No cursor has read these partitions so far, so the log's reader has no position in them.
            self._is_whole = False
            self._change.happened()
            return True
        self._place(cursor, {name: at for name, at in placed.items() if name in self._begun})
        return True

    async def _again(self, cursor: Cursor) -> None:
        """Continue a cursor whose consumer failed, at its committed position."""
        await self._catch_ups.drop([cursor])
        partitions, cursor.partitions = cursor.partitions, frozenset()
        cursor.next = {}
        await cursor.consumer.revoked(partitions)
        await sleep(self._clock, FIRST_BACKOFF_S)
        await self._admit(cursor)

    async def _on_revoked(self, partitions: Collection[str]) -> None:
        """Release partitions: no record of them is handed out after this call."""
        gone = set(partitions)
        self._assigned -= gone
        self._begun -= gone
        touched = [cursor for cursor in self._cursors.values() if cursor.partitions & gone]
        for cursor in touched:
            is_attached = cursor.is_attached
            self._attached.detach(cursor)
            cursor.partitions -= gone
            cursor.next = {name: at for name, at in cursor.next.items() if name not in gone}
            if is_attached:
                self._attached.attach(cursor)
        for name in gone:
            self._attached.shared.pop(name, None)
        await self._catch_ups.drop(touched)
        await give_up(self._log, touched, gone)
        self.changed()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"placing:{self.group}")
        self._placing.add(task)
        task.add_done_callback(self._placing.discard)
