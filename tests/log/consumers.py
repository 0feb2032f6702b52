"""A consumer that notes what it is given, and objects to what it must not be given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from gateway.log import Batch, Begins, CursorStore, Gap, Record, Start

#: For what must come. Kafka's join of a group and a busy machine are what takes long.
PATIENCE_S = 40.0


class Noting:
    """Takes into a window, is acknowledged by the test in any order, and commits below the first that is not.

    Args:
        window: how much it takes.
        hungry_at: with so many outstanding, or fewer, it is hungry; half of the window by itself.
        on_taken: called with each record.
    """

    def __init__(
        self,
        name: str,
        topics: Collection[str],
        cursors: CursorStore,
        *,
        window: int = 10,
        hungry_at: int | None = None,
        start: Start = "earliest",
        on_taken: Callable[[Record], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.topics = frozenset(topics)
        self.window = window
        self.hungry_at = window // 2 if hungry_at is None else hungry_at
        self.start: Start = start
        self.is_up = True
        self.cursors = cursors
        self.changed: Callable[[], None] = lambda: None
        self.on_taken = on_taken
        #: Outstanding, by place, in order of each partition.
        self.outstanding: dict[tuple[str, int], Record] = {}
        #: All that it was given since it was made.
        self.taken: list[Record] = []
        self.gaps: list[Gap] = []
        #: The offset that comes next, and where that began, by partition that it has.
        self.next: dict[str, int] = {}
        #: Offsets between records that nothing was said of: of other topics, as far as they are known to be.
        self.passed: list[tuple[str, int, int]] = []
        self.acknowledged: set[tuple[str, int]] = set()
        #: Batches that it still fails to take.
        self.failing = 0
        self.batches = 0
        self._moved = asyncio.Event()
        #: What it was given and must not be given.
        self.objections: list[str] = []

    def room(self) -> int:
        return self.window - len(self.outstanding)

    def is_hungry(self) -> bool:
        return len(self.outstanding) <= self.hungry_at

    def is_willing(self) -> bool:
        return self.is_up

    def take(self, batch: Batch) -> None:
        self.batches += 1
        if self.failing:
            self.failing -= 1
            raise ArithmeticError("a fault of the consumer")
        self._object(len(batch) > self.room(), "more than it said that it can take")
        missing = [
            (gap.partition, offset)
            for gap in batch.gaps
            if gap.first is not None and gap.last is not None
            for offset in range(gap.first, gap.last + 1)
        ]
        for record in batch:
            self._object(record.topic not in self.topics, "of a topic that it does not read")
            self._pass(record.partition, record.offset, missing)
            self.next[record.partition] = record.offset + 1
            self.outstanding[record.partition, record.offset] = record
            self.taken.append(record)
            self.on_taken(record)
        for partition, end in batch.ends.items():
            self._pass(partition, end, missing)
            self.next[partition] = end
            self._commit(partition)
        self.gaps += batch.gaps
        self._moved.set()
        self.changed()  # allowed at any time

    def _object(self, is_wrong: bool, why: str) -> None:
        """Note what must not be: an error raised here would be the consumer's own."""
        if is_wrong:
            self.objections.append(why)

    def _pass(self, partition: str, below: int, missing: list[tuple[str, int]]) -> None:
        """Nothing came of what is in front of an offset, that had not come before."""
        self._object(partition not in self.next, f"{partition}: not its partition")
        first = self.next.get(partition, below)
        self._object(first > below, f"{partition} {below}: came twice, or out of order")
        gone = set(missing)
        for offset in range(first, below):
            if (partition, offset) not in gone:
                self.passed.append((partition, offset, offset))

    async def until(self, is_so: Callable[[], bool], *, acknowledges: bool = True) -> None:
        """Wait, take after take, until something is so; what was taken meanwhile is done."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if acknowledges:
                    self.acknowledge_all()
                if is_so():
                    return
                self._moved.clear()
                await self._moved.wait()

    async def begin(self) -> Start | Begins:
        return self.start

    def assigned(self, positions: Mapping[str, int]) -> None:
        self._object(not self.next.keys().isdisjoint(positions), "assigned twice")
        self.next.update(positions)

    async def revoked(self, partitions: Collection[str]) -> None:
        for name in partitions:
            self.next.pop(name, None)
        for place in [place for place in self.outstanding if place[0] in partitions]:
            del self.outstanding[place]
        self.changed()

    def acknowledge(self, place: tuple[str, int]) -> None:
        """One event is done."""
        del self.outstanding[place]
        self.acknowledged.add(place)
        self._commit(place[0])
        self.changed()

    def acknowledge_all(self) -> None:
        """All that it has is done."""
        for place in list(self.outstanding):
            self.acknowledge(place)

    def _commit(self, partition: str) -> None:
        if partition in self.next:
            first = min((at for name, at in self.outstanding if name == partition), default=self.next[partition])
            self.cursors.commit(self.name, partition, first)
