"""Everything that was ever in the topics, also what an operator deleted since.

A topic that is deleted and created again has several *lives*, counted from 0; offsets begin at 0 in each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from tests.lossproof import stored
from tests.lossproof.callbacks import TOPICS, Item
from tests.lossproof.receiver import Arrival

#: Partition and life.
Place = tuple[str, int]


@dataclass(slots=True)
class Witness:
    """Reads the topics now and then and keeps what it read.

    Args:
        prefix: of the topics' names in Kafka.
    """

    prefix: str
    _lives: Counter[str] = field(default_factory=Counter)
    _records: dict[Place, dict[int, Arrival]] = field(default_factory=dict)
    _firsts: dict[Place, int] = field(default_factory=dict)

    async def look(self, bootstrap: str, topics: Sequence[str] = TOPICS) -> None:
        """Read what is new, up to the present ends.

        Raises:
            AssertionError: records were deleted before they were read here.
        """
        behind = {
            partition: max(records) + 1
            for (partition, life), records in self._records.items()
            if records and life == self._lives[topic_of(partition)]
        }
        for partition, found in (await stored.partitions(bootstrap, self.prefix, topics, behind)).items():
            place = (partition, self._lives[topic_of(partition)])
            if found.first > behind.get(partition, 0) and place in self._records:
                raise AssertionError(f"{partition} begins at {found.first}, and was read up to {behind.get(partition)}")
            self._records.setdefault(place, {}).update(found.arrivals)
            self._firsts[place] = found.first

    def recreated(self, topic: str) -> int:
        """Note that a topic begins a new life; return the one that ended."""
        self._lives[topic] += 1
        return self._lives[topic] - 1

    def log(self) -> dict[str, list[Arrival]]:
        """Return all events by partition and life, in the order of their offsets."""
        return {
            f"{partition}{f' (life {life})' if life else ''}": [record for _, record in sorted(records.items())]
            for (partition, life), records in self._records.items()
        }

    def items(self) -> set[Item | None]:
        """Return every event that was ever read."""
        return {record.item for records in self._records.values() for record in records.values()}

    def places(self, topics: Collection[str]) -> dict[Item, Place]:
        """Return where each event of these topics was read first."""
        found: dict[Item, Place] = {}
        for place, records in self._records.items():
            for record in records.values():
                if record.item is not None and topic_of(place[0]) in topics:
                    found.setdefault(record.item, place)
        return found

    def at(self, partition: str, life: int, first: int, end: int) -> Iterator[Item]:
        """Yield the events at the offsets ``first`` up to ``end``."""
        for offset, record in self._records.get((partition, life), {}).items():
            if first <= offset < end and record.item is not None:
                yield record.item

    def of_life(self, topic: str, life: int) -> Collection[str]:
        """Return the names of the partitions that a topic had in this life."""
        return [partition for partition, n in self._records if n == life and topic_of(partition) == topic]

    def size(self, topic: str) -> int:
        """Return how many records the present life of a topic had as of the last look."""
        return sum(len(self._records[name, self._lives[topic]]) for name in self.of_life(topic, self._lives[topic]))

    def bounds(self, topics: Collection[str]) -> dict[str, tuple[int, int]]:
        """Return, of each partition of these topics, the first offset kept and the one behind the last record read."""
        return {
            partition: (self._firsts[partition, life], max(records, default=self._firsts[partition, life] - 1) + 1)
            for (partition, life), records in self._records.items()
            if topic_of(partition) in topics and life == self._lives[topic_of(partition)]
        }

    def first(self, partition: str, life: int) -> int:
        """Return the offset of the first record kept, as of the last look."""
        return self._firsts.get((partition, life), 0)


def topic_of(partition: str) -> str:
    """Return the topic of a partition's name."""
    return partition.rpartition("-")[0]
