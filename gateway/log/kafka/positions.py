"""How far a group has come: names of partitions, what is committed, what is to be committed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition, errors

from gateway.log import Gap
from gateway.log.kafka import faults
from gateway.log.kafka.incarnation import incarnations, mark
from gateway.log.kafka.options import OPEN_S, KafkaOptions, within


class Positions:
    """The book-keeping of one reader. No I/O.

    A partition is called ``<topic>-<number>``, without the prefix.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._names: dict[Any, str] = {}
        self._committed: dict[str, int] = {}
        self._dirty: dict[str, int] = {}
        self._next: dict[str, int] = {}
        self._passed: dict[str, int] = {}
        #: Of the topics, by name, that the positions belong to; kept over assignments.
        self.incarnations: dict[str, str] = {}
        self._gaps: dict[str, tuple[int, int]] = {}
        self._before: dict[str, int] = {}
        self._is_dirty = asyncio.Event()

    def name(self, tp: Any) -> str:
        """The name of a partition of aiokafka's."""
        found = self._names.get(tp)
        if found is None:
            found = self._names[tp] = f"{self._options.own_name(tp.topic)}-{tp.partition}"
        return found

    def partition(self, name: str) -> Any:
        """The way back from :meth:`name`."""
        topic, _, number = name.rpartition("-")
        return TopicPartition(self._options.kafka_name(topic), int(number))

    def read(self, name: str, last: int) -> None:
        """Records up to this one were handed out. Offsets between them that are not there are no records."""
        self._next[name] = last + 1

    def is_reading(self, topic: str) -> bool:
        """Whether something was handed out of a topic since its partitions were assigned."""
        return any(name.rpartition("-")[0] == topic for name in self._next)

    def put(self, name: str, offset: int, gap: Gap | None, *, is_kept: bool) -> None:
        """Reading goes on here. What is missing before is passed when everything before that is done.

        Args:
            is_kept: Kafka has the position already, but for a gap.
        """
        done = self._committed.get(name)
        if gap is None:
            if is_kept:
                self._committed.setdefault(name, offset)
            elif done is None:
                self.seek(name, offset)
        elif gap.first in (None, done) or gap.reason != "expired" or name not in self._next:
            self.seek(name, offset)
        else:
            self._gaps[name] = gap.first, offset
            self._next[name] = offset

    def passed(self, name: str, position: int) -> None:
        """Nothing below is left to be handed out. Commit it, now or when what was handed out is done."""
        handed_out = self._next.get(name, 0)
        if position > handed_out:
            self._passed[name] = position
            if self._committed.get(name, 0) >= handed_out:
                self.commit(name, position)

    def commit(self, name: str, offset: int) -> None:
        """Everything below is done; ignored if that is known."""
        first, below = self._gaps.get(name, (offset + 1, 0))
        if offset >= first:
            del self._gaps[name]
            offset = max(offset, below)
        if offset == self._next.get(name):
            offset = max(offset, self._passed.get(name, 0))
        if offset > self._committed.get(name, -1):
            self._committed[name] = self._dirty[name] = offset
            self._is_dirty.set()

    def seek(self, name: str, offset: int) -> None:
        """Forget what was done; the new position is committed like any other."""
        self._next.pop(name, None)
        self._passed.pop(name, None)
        self._gaps.pop(name, None)
        self._committed[name] = self._dirty[name] = offset
        self._is_dirty.set()

    def committed(self, name: str) -> int | None:
        """What is done, durable or about to be; None if nothing was done here."""
        return self._committed.get(name)

    def before(self, name: str) -> int | None:
        """How far this reader was in an earlier assignment, to name what is gone; None if it had none."""
        return self._before.get(name)

    def place(self, name: str) -> int | None:
        """Where reading goes on: behind what was handed out, else where it began; None if it never did."""
        return self._next.get(name, self._committed.get(name))

    def found(self, name: str, offset: int) -> None:
        """Kafka had this position."""
        self._committed.setdefault(name, offset)

    def dirty(self) -> Mapping[Any, tuple[int, str]]:
        """What is to be committed: offsets, and what they are marked with."""
        return {
            self.partition(name): (offset, mark(self.incarnations.get(name.rpartition("-")[0], "")))
            for name, offset in self._dirty.items()
        }

    def committed_up_to(self, done: Mapping[Any, tuple[int, str]]) -> None:
        """These are durable."""
        for tp, (offset, _) in done.items():
            name = self.name(tp)
            if self._dirty.get(name) == offset:
                del self._dirty[name]
        if not self._dirty:
            self._is_dirty.clear()

    def drop(self, assigned: Collection[Any]) -> None:
        """Nothing of ours is left to commit: what is dirty belongs to partitions that went."""
        self._dirty = {name: offset for name, offset in self._dirty.items() if self.partition(name) in assigned}
        if not self._dirty:
            self._is_dirty.clear()

    async def wait_dirty(self) -> None:
        """Wait until there is something to commit."""
        await self._is_dirty.wait()

    def assigned(self, partitions: Collection[Any]) -> None:
        """Partitions were assigned anew: forget all others; what was done in these and is not durable still counts."""
        self._next.clear()
        self._passed.clear()
        self._gaps.clear()
        self._before |= self._committed
        self._committed.clear()
        self.drop(partitions)
        self._committed.update(self._dirty)


async def pin(options: KafkaOptions, group: str, topics: Collection[str], seconds: float) -> None:
    """Commit the present ends of the topics that are new to the group: those it has no position in at all.

    A partition without a position beside others that have one was added, and is read from its beginning.
    A group with members has positions already (whoever opened it first pinned them), and Kafka refuses the commit of
    somebody who is not one of them; that refusal is what we want.

    Args:
        topics: names in Kafka.

    Raises:
        KafkaAway: Kafka cannot be reached, refuses, or a topic is missing.
    """
    consumer = AIOKafkaConsumer(**options.consumer(), group_id=options.kafka_name(group), auto_offset_reset="none")
    try:
        async with asyncio.timeout(OPEN_S):
            await consumer.start()
        async with asyncio.timeout(seconds):
            partitions = []
            for name in topics:
                numbers = await consumer._client._wait_on_metadata(name)
                partitions += [TopicPartition(name, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            stored = await asyncio.gather(*(consumer.committed(tp) for tp in partitions))
            known = {tp.topic for tp, offset in zip(partitions, stored, strict=True) if offset is not None}
            new = [tp for tp in partitions if tp.topic not in known]
            if new:
                ids = await incarnations(consumer._client, topics)
                ends = await consumer.end_offsets(new)
                await consumer.commit({tp: (offset, mark(ids.get(tp.topic, ""))) for tp, offset in ends.items()})
    except errors.CommitFailedError:
        return
    except faults.CLIENT_ERRORS as exc:
        raise faults.away(exc, f"group {group}") from exc
    finally:
        await within(2.0, consumer.stop())
