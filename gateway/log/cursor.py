"""The consumers of a shared reading: where they begin, their positions, and batches for all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

import structlog

from gateway.errors import GatewayError, is_logged
from gateway.log import Batch, Begins, EventLog, Gap, Placed, Record, Start, gaps
from gateway.telemetry import redaction

#: At most so many positions are requested at a time.
_LOADS: Final = 16
#: How long a rebalance waits until commits are durable.
_FLUSH_S: Final = 1.0

_log = structlog.get_logger("gateway.reading")


class Consumer(Protocol):
    """Accepts the batches of a :class:`.shared_reader.SharedReader`, and commits under its name by ``log.cursors``.

    It calls :meth:`.shared_reader.SharedReader.changed` whenever a result of :meth:`room`, :meth:`is_hungry` or
    :meth:`is_willing` changes from no to yes: the reader does not poll.
    """

    @property
    def name(self) -> str:
        """Durable name of its cursor, such as ``gateway.billing``."""

    @property
    def topics(self) -> frozenset[str]:
        """Topics that it reads; they do not change while the reader has the consumer."""

    def room(self) -> int:
        """Return how many records it can accept now; 0 or less if it is full.

        A step of the shared reading has at most the smallest room of all attached consumers. So a consumer with little
        room returns 0 until it has enough for an efficient step.
        """

    def is_hungry(self) -> bool:
        """Return whether it would soon be idle. Full consumers do not hold up a hungry one."""

    def is_willing(self) -> bool:
        """Return whether it may catch up now; not while it is paused, or its subscriber is down."""

    def take(self, batch: Batch) -> None:
        """Accept the next batch: at most :meth:`room` records of its topics. Must be quick.

        Each offset of a partition is handed out once, in order, until the partition is revoked or the process crashes.
        Other consumers receive the same lists, so they must not be changed. A batch may have no records and only
        state by its ``ends`` how far the log was read: if no record is outstanding, all of that is done.

        Its gaps have been reported; the position passes them as it passes records.
        """

    async def begin(self) -> Start | Begins:
        """Return where it begins in topics in which it has no position."""

    def assigned(self, positions: Mapping[str, int]) -> None:
        """Note new partitions, each with the offset that is handed out next. No record of them was handed out yet."""

    async def revoked(self, partitions: Collection[str]) -> None:
        """Settle partitions that are being revoked: no more records of them are handed out.

        Return when all that can be committed of them is committed. The owner limits the time; the next owner of a
        partition reads again what was not settled by then.
        """


class Cursor:
    """The position of a consumer.

    An attached cursor receives what the shared reading reads and has its position; ``next`` is empty then, unless the
    cursor was ahead when it was attached. The position of a detached cursor is ``next``.
    """

    __slots__ = ("consumer", "is_attached", "is_placed", "name", "next", "partitions", "topics")

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.name = consumer.name
        self.topics = consumer.topics
        self.partitions: frozenset[str] = frozenset()
        self.next: dict[str, int] = {}
        self.is_attached = False
        #: Whether its positions are known.
        self.is_placed = False

    def positions(self, shared: Mapping[str, int]) -> dict[str, int]:
        """Return the offset that is handed out to it next, by partition."""
        if not self.is_attached:
            return dict(self.next)
        return {name: max(shared[name], self.next.get(name, 0)) for name in self.partitions if name in shared}

    def has_met(self, shared: Mapping[str, int]) -> bool:
        """Return whether it is at the shared position, or ahead of it, in every partition."""
        return all(self.next.get(name, 0) >= shared.get(name, 0) for name in self.partitions)

    def lag(self, committed: Mapping[str, int], ends: Mapping[str, int]) -> int | None:
        """Return how many records are not committed; None while its positions are not known.

        Args:
            committed: offsets stored under its name, by partition.
            ends: the offset that the next record gets, by partition.
        """
        if not self.is_placed:
            return None
        known = self.partitions & ends.keys() & committed.keys()
        return sum(max(0, ends[name] - committed[name]) for name in known)

    def part(self, batch: Batch, ends: Mapping[str, int]) -> Batch:
        """Return the part of a batch that has its topics and partitions.

        Args:
            batch: of all topics and partitions.
            ends: the offset behind the batch, by partition.
        """
        topics, mine = self.topics, self.partitions
        return Batch(
            [record for record in batch if record.topic in topics and record.partition in mine],
            [gap for gap in batch.gaps if gap.partition in mine],
            {name: end for name, end in ends.items() if name in mine},
        )

    def beyond(self, batch: Batch) -> Batch:
        """Return the part of a batch that it had not passed when it was attached ahead of the shared reading."""
        records: list[Record] = [record for record in batch if record.offset >= self.next.get(record.partition, 0)]
        ends = {name: max(end, self.next.get(name, 0)) for name, end in batch.ends.items()}
        return Batch(records, gaps.ahead_of(batch.gaps, self.next), ends)


#: Where cursors continue, by cursor and partition.
Places = Mapping[Cursor, Mapping[str, Placed]]


async def load(log: EventLog, cursors: Collection[Cursor], partitions: Collection[str]) -> Places:
    """Return where cursors continue in partitions; cursors whose positions the log cannot return now are left out.

    Args:
        log: has the positions.
        cursors: to be placed.
        partitions: all partitions of this process, or the new ones.
    """
    limit = asyncio.Semaphore(_LOADS)
    found: dict[Cursor, Mapping[str, Placed]] = {}

    async def ask(cursor: Cursor) -> None:
        start = await cursor.consumer.begin()  # may take seconds, and costs nothing
        async with limit:
            found[cursor] = await log.cursors.load(cursor.name, cursor.topics, partitions, start=start)

    results = await asyncio.gather(*map(ask, cursors), return_exceptions=True)
    faults = [fault for fault in results if isinstance(fault, Exception) and not is_logged(fault)]
    if faults:
        _log.warning("reading.positions_unknown", groups=len(faults), error=redaction.fault(faults[0]))
    return found


def foremost(places: Places, partition: str, spread: int) -> int | None:
    """Return the offset at which reading of a partition begins; None if no cursor reads it.

    It is that of the hindmost cursor among those close to the foremost one.

    Args:
        places: where cursors continue.
        partition: its name.
        spread: at most so many records behind the foremost cursor.
    """
    offsets = [placed[partition].offset for placed in places.values() if partition in placed]
    return min((at for at in offsets if at >= max(offsets) - spread), default=None)


def report_gaps(log: EventLog, cursors: Mapping[Cursor, Mapping[str, int]], missing: Collection[Gap]) -> None:
    """Report gaps once, without the parts that cursors have passed or that the log has already reported.

    Args:
        log: in which records are missing.
        cursors: each with the offset that is handed out to it next, by partition.
        missing: the gaps.
    """
    found: list[tuple[str, Gap]] = []
    for gap in missing:
        for cursor, positions in cursors.items():
            if gap.partition in cursor.partitions:
                committed = log.cursors.committed(cursor.name).get(gap.partition, 0)
                left = gaps.clipped(gap, max(positions.get(gap.partition, 0), committed))
                if left is not None:
                    found.append((cursor.name, left))
    gaps.report_each(log.kind, found)


def pass_gaps(log: EventLog, places: Places) -> None:
    """Report the gaps before the positions at which cursors continue, and commit those positions.

    Args:
        log: in which records are missing.
        places: where cursors continue.
    """
    found: list[tuple[str, Gap]] = []
    for cursor, placed in places.items():
        for partition, (offset, gap) in placed.items():
            if gap is None:
                continue
            left = gaps.clipped(gap, log.cursors.committed(cursor.name).get(partition, 0))
            if left is not None:
                found.append((cursor.name, left))
            log.cursors.commit(cursor.name, partition, offset)
    gaps.report_each(log.kind, found)


async def give_up(log: EventLog, cursors: Collection[Cursor], partitions: Collection[str]) -> None:
    """Make cursors settle partitions that are being revoked, and make their commits durable.

    Args:
        log: stores the commits.
        cursors: those that have the partitions.
        partitions: being revoked.
    """
    results = await asyncio.gather(*(cursor.consumer.revoked(partitions) for cursor in cursors), return_exceptions=True)
    for cursor, fault in zip(cursors, results, strict=True):
        if isinstance(fault, Exception):
            _log.error("reading.revoke_failed", group=cursor.name, error=redaction.fault(fault))
    try:
        async with asyncio.timeout(_FLUSH_S):
            await log.cursors.flush()
    except (TimeoutError, GatewayError) as exc:
        # An outage has its own lines. The next owner of the partitions delivers again what was not stored.
        _log.info("reading.flush_failed", partitions=sorted(partitions), error=str(exc) or "no answer in time")
    log.cursors.release(partitions)


class Change:
    """Wakes waiting tasks when a state that they check may have changed."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Return after the next :meth:`happened`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def happened(self) -> None:
        """Wake all waiting tasks."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


class AttachedCursors:
    """Cursors that receive every batch, and the position that they share. Invariants: see :mod:`.shared_reader`.

    Args:
        log: reports gaps.
        change: signalled when a cursor was attached.
        on_failed: called with a cursor whose consumer failed to accept a batch; the cursor is detached then.
    """

    def __init__(self, log: EventLog, change: Change, on_failed: Callable[[Cursor], None]) -> None:
        self._log = log
        self._change = change
        self._on_failed = on_failed
        self.cursors: dict[Consumer, Cursor] = {}
        #: Offset of the log's reader, by partition.
        self.shared: dict[str, int] = {}

    def step_size(self, most: int) -> int:
        """Return how many records all attached consumers can accept; 0 if none.

        Full consumers are detached if another one is hungry, so that they do not hold it up.
        """
        rooms = {cursor: cursor.consumer.room() for cursor in self.cursors.values()}
        if any(room <= 0 for room in rooms.values()):
            if not any(room > 0 and cursor.consumer.is_hungry() for cursor, room in rooms.items()):
                return 0
            for cursor in [cursor for cursor, room in rooms.items() if room <= 0]:
                self.detach(cursor)
                del rooms[cursor]
        return min(most, *rooms.values()) if rooms else 0

    def hand_out(self, batch: Batch) -> list[Cursor]:
        """Pass a batch to all attached cursors and move the shared position.

        Return the cursors that had no room for the batch; they are detached.
        """
        ends = {name: end for name, end in batch.ends.items() if end > self.shared.get(name, end)}
        if not batch and not batch.gaps and not ends:
            return []
        parts: dict[tuple[frozenset[str], frozenset[str]], Batch] = {}
        takers: list[tuple[Cursor, Batch]] = []
        left: list[Cursor] = []
        for cursor in self.cursors.values():
            kind = cursor.topics, cursor.partitions
            part = parts.get(kind)
            if part is None:
                part = parts[kind] = cursor.part(batch, ends)
            if cursor.next:
                part = cursor.beyond(part)
            if len(part) > cursor.consumer.room():
                left.append(cursor)
            elif part or part.gaps or part.ends:
                takers.append((cursor, part))
        for cursor in left:
            self.detach(cursor)
        if batch.gaps:  # before the batch is handed out: a consumer may commit it at once
            report_gaps(self._log, {cursor: cursor.positions(self.shared) for cursor, _ in takers}, batch.gaps)
        self.shared.update(ends)  # before the batch is handed out: a consumer may signal a change
        for cursor, part in takers:
            self._give(cursor, part)
        for cursor in self.cursors.values():
            if cursor.next and all(self.shared[name] >= at for name, at in cursor.next.items()):
                cursor.next = {}
        return left

    def give_alone(self, cursor: Cursor, batch: Batch) -> bool:
        """Pass a cursor a batch that was read for it alone; return False if its consumer failed."""
        if batch.gaps:
            report_gaps(self._log, {cursor: cursor.next}, batch.gaps)
        if not self._give(cursor, batch):
            return False
        cursor.next.update(batch.ends)
        return True

    def _give(self, cursor: Cursor, batch: Batch) -> bool:
        try:
            cursor.consumer.take(batch)
        except Exception as exc:  # it is not known how much it accepted: it begins at its committed position
            _log.error("reading.take_failed", group=cursor.name, error=redaction.fault(exc), exc_info=True)
            self.detach(cursor)
            cursor.is_placed = False
            self._on_failed(cursor)
            return False
        return True

    def attach(self, cursor: Cursor) -> None:
        """Attach a cursor that has reached the shared reading."""
        cursor.next = {name: at for name, at in cursor.next.items() if at > self.shared.get(name, at)}
        cursor.is_attached = True
        self.cursors[cursor.consumer] = cursor
        self._change.happened()

    def detach(self, cursor: Cursor) -> None:
        """Detach a cursor; its own position stays."""
        if cursor.is_attached:
            cursor.next = cursor.positions(self.shared)
            cursor.is_attached = False
            del self.cursors[cursor.consumer]
