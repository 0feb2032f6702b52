"""The consumers of a shared reading, and their positions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from gateway.log import Batch, Begins, Record, Start
from gateway.log.gaps import ahead_of


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
        return Batch(records, ahead_of(batch.gaps, self.next), ends)
