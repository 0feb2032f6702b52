"""What a shared reading feeds: the consumer as its owner writes it, and how far each one is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from gateway.log import Batch, Begins, Record, Start
from gateway.log.gaps import ahead_of


class Consumer(Protocol):
    """Takes what a :class:`.shared_reader.SharedReader` reads, and commits it by ``log.cursors`` under its name.

    It calls :meth:`.shared_reader.SharedReader.changed` whenever an answer of :meth:`room`, :meth:`is_hungry` or
    :meth:`is_willing` changes from no to yes: nobody looks by a timer.
    """

    @property
    def name(self) -> str:
        """Durable name of its cursor, such as ``gateway.billing``."""

    @property
    def topics(self) -> frozenset[str]:
        """What it reads; the same for as long as it is fed."""

    def room(self) -> int:
        """Return how many records it can take now; 0 or less: it is full.

        All who are fed read in steps of the least of these. So one that has little room says 0 until it has enough for
        a step that is worth it.
        """

    def is_hungry(self) -> bool:
        """Return whether it would soon be idle. Who is hungry is not held up by those who are full."""

    def is_willing(self) -> bool:
        """Return whether to read for it alone what it has missed; not while it is paused, or its subscriber down."""

    def take(self, batch: Batch) -> None:
        """Take in what comes next: at most :meth:`room` records, of its topics. Must be quick.

        Each offset of a partition comes once, in order, until the partition is revoked, or the process has crashed.
        Others take from the same lists, so nothing in them may be changed. A batch may have no records and only say by
        its ``ends`` how far the log was looked at: with nothing outstanding all of that is done.

        Its gaps are reported already; the position passes them as it passes records.
        """

    async def begin(self) -> Start | Begins:
        """Return where it begins in topics in which it has no position."""

    def assigned(self, positions: Mapping[str, int]) -> None:
        """Partitions have come, and these are the offsets that it gets next. Nothing of them was taken yet."""

    async def revoked(self, partitions: Collection[str]) -> None:
        """Partitions are going: nothing of them is taken any more.

        Return when all that can be committed of them is. What is not settled within the time that the owner bounds is
        read again by whoever has the partition next.
        """


class Cursor:
    """How far a consumer is.

    While it is attached it gets what the shared reading reads, and is where that is; ``next`` is empty then, unless it
    came to it from ahead. Detached it stands at ``next``.
    """

    __slots__ = ("consumer", "is_attached", "is_placed", "name", "next", "partitions", "topics")

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.name = consumer.name
        self.topics = consumer.topics
        self.partitions: frozenset[str] = frozenset()
        self.next: dict[str, int] = {}
        self.is_attached = False
        #: Its positions are known.
        self.is_placed = False

    def positions(self, shared: Mapping[str, int]) -> dict[str, int]:
        """Return the offset that it gets next, by partition."""
        if not self.is_attached:
            return dict(self.next)
        return {name: max(shared[name], self.next.get(name, 0)) for name in self.partitions if name in shared}

    def has_met(self, shared: Mapping[str, int]) -> bool:
        """Return whether it is where the shared reading is, or ahead, in every partition."""
        return all(self.next.get(name, 0) >= shared.get(name, 0) for name in self.partitions)

    def lag(self, committed: Mapping[str, int], ends: Mapping[str, int]) -> int | None:
        """Return how many records are not committed; None while its positions are not known.

        Args:
            committed: what is kept under its name, by partition.
            ends: the offset that the next record gets, by partition.
        """
        if not self.is_placed:
            return None
        known = self.partitions & ends.keys() & committed.keys()
        return sum(max(0, ends[name] - committed[name]) for name in known)

    def part(self, batch: Batch, ends: Mapping[str, int]) -> Batch:
        """Return what of a batch is for these topics, as far as ``ends``."""
        topics, mine = self.topics, self.partitions
        return Batch(
            [record for record in batch if record.topic in topics and record.partition in mine],
            [gap for gap in batch.gaps if gap.partition in mine],
            {name: end for name, end in ends.items() if name in mine},
        )

    def beyond(self, batch: Batch) -> Batch:
        """Return what of a batch it had not passed when it came to the shared reading from ahead."""
        records: list[Record] = [record for record in batch if record.offset >= self.next.get(record.partition, 0)]
        ends = {name: max(end, self.next.get(name, 0)) for name, end in batch.ends.items()}
        return Batch(records, ahead_of(batch.gaps, self.next), ends)
