"""One topic on its way from the journal to Kafka: its position, its cursor of the shared reading, its lag.

======================  ==================================================================================
``publisher.<topic>``   Kafka has acknowledged all records of this topic below it
``publisher``           of all topics: the oldest of those positions. The journal protects it: records that
                        it has not passed never expire
======================  ==================================================================================

A topic gets its position before anything of the journal that holds a record of it is handed to any cursor, and durably
so. Therefore a topic that has none has no record below the foremost position of all, and begins there. What an older
version left is the position ``publisher`` alone, below which everything is in Kafka, so that all topics begin there. An
older version that follows begins at the oldest position: it repeats, and loses nothing.

Topics that are in the configuration no more keep their positions, and what is left of them is published.

Lag. A position says how far a topic is, not how many of its records are behind that: the journal holds all topics in
one order. So the heads of its commits, each of which has counts by topic, are read once, and what a position has passed
is subtracted again. If a position is within a commit, the whole commit counts: the result is never too small, and 0 is
exact.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.log import Batch, Record, Start
from gateway.log.journal import EVENTS
from gateway.log.kafka.backlog import weight
from gateway.log.kafka.writer import KafkaWriter

#: Name of the oldest position.
GROUP: Final = "publisher"
_PREFIX: Final = f"{GROUP}."

#: Offsets by (group, stream), as the journal keeps them.
Positions = Mapping[tuple[str, str], int]
#: What a record is taken to weigh until some were seen.
_TYPICAL_BYTES: Final = 1500
#: A topic holds so few bytes that it would soon have nothing to send.
_LOW_BYTES: Final = 128 * 1024
#: Of one topic. When there are more, pairs of them become one: a large backlog is known to a hundredth.
_MOST_PARTS: Final = 256


@dataclass(slots=True, eq=False)
class _Chunk:
    """Consecutive records: the ticket under which they were submitted.

    Args:
        end: the offset behind them, and behind what follows and is of other topics.
    """

    end: int
    remaining: int
    on_done: Callable[[], None]
    is_cancelled: bool = False

    def done(self, count: int) -> None:
        self.remaining -= count
        if self.remaining == 0:
            self.on_done()


class TopicCursor:
    """Implements :class:`gateway.log.cursor.Consumer`.

    Args:
        has_attached: returns whether the shared reading feeds a topic.
        is_held_up: returns whether a topic that is full has held up the shared reading for long enough.
        on_passed: called with the offset below which everything of the topic is in Kafka, whenever it moves.
    """

    def __init__(
        self,
        topic: str,
        writer: KafkaWriter,
        *,
        has_attached: Callable[[str], bool],
        is_held_up: Callable[[], bool],
        on_passed: Callable[[TopicCursor, int], None],
    ) -> None:
        self.topic = topic
        self.name = cursor_name(topic)
        self.topics = frozenset({topic})
        self._writer = writer
        self._queue = writer.backlog.topic(topic)
        self._has_attached = has_attached
        self._is_held_up = is_held_up
        self._on_passed = on_passed
        self._open: deque[_Chunk] = deque()
        self._mean_bytes: float = _TYPICAL_BYTES
        #: The monotonic time since when it is full; None: it is not.
        self.full_since: float | None = None

    # -- what the shared reading asks ---------------------------------------------------------------------------

    def room(self) -> int:
        """See :meth:`gateway.log.cursor.Consumer.room`."""
        left = self._writer.backlog.room(self._queue)
        if left > 0:
            self.full_since = None
            return max(1, int(left / self._mean_bytes))
        if self.full_since is None:
            self.full_since = time.monotonic()
        return 0

    def is_hungry(self) -> bool:
        """See :meth:`gateway.log.cursor.Consumer.is_hungry`.

        While Kafka is unavailable, none is: all wait together, and the journal is read once afterwards, not once for
        each topic. Otherwise a topic that is full is waited for as long as it makes progress.
        """
        if not self._writer.is_up or self._queue.bytes > _LOW_BYTES:
            return False
        return not self._has_attached(self.topic) or self._is_held_up()

    def is_willing(self) -> bool:
        """See :meth:`gateway.log.cursor.Consumer.is_willing`."""
        return self._writer.is_up and not self._queue.troubles

    def take(self, batch: Batch) -> None:
        """See :meth:`gateway.log.cursor.Consumer.take`."""
        records: list[Record] = batch
        end = batch.ends.get(EVENTS, records[-1].offset + 1 if records else 0)
        if records:
            mean = sum(map(weight, records)) / len(records)
            self._mean_bytes = 0.8 * self._mean_bytes + 0.2 * mean
            chunk = _Chunk(end, len(records), self._settle)
            self._open.append(chunk)
            self._writer.submit(records, chunk)
        elif self._open:
            self._open[-1].end = max(self._open[-1].end, end)
        else:
            self._on_passed(self, end)

    def _settle(self) -> None:
        """Pass what is done without a gap."""
        end = None
        while self._open and self._open[0].remaining == 0:
            end = self._open.popleft().end
        if end is not None:
            self._on_passed(self, end)

    async def begin(self) -> Start:
        """See :meth:`gateway.log.cursor.Consumer.begin`. Its position is kept before it is added."""
        return "earliest"

    def assigned(self, positions: Mapping[str, int]) -> None:
        """See :meth:`gateway.log.cursor.Consumer.assigned`."""

    async def revoked(self, partitions: Collection[str]) -> None:
        """See :meth:`gateway.log.cursor.Consumer.revoked`: what waits comes again."""
        for chunk in self._open:
            chunk.is_cancelled = True
        self._open = deque()


# -- positions --------------------------------------------------------------------------------------------------------


def cursor_name(topic: str) -> str:
    """Return the name of a topic's position."""
    return _PREFIX + topic


def starts(positions: Positions, topics: Collection[str], floor: int) -> dict[str, int]:
    """Return where each topic begins: those of the configuration, and all that were published before.

    Args:
        positions: of the journal.
        topics: of the configuration.
        floor: the first offset that the journal keeps.
    """
    oldest = positions.get((GROUP, EVENTS), floor)
    known = {
        name.removeprefix(_PREFIX): max(position, oldest)
        for (name, stream), position in positions.items()
        if stream == EVENTS and name.startswith(_PREFIX)
    }
    foremost = max(known.values(), default=oldest)
    return dict.fromkeys(topics, foremost) | known


def is_published(positions: Positions, topic: str, offset: int) -> bool:
    """Return whether Kafka has acknowledged the record of a topic at an offset."""
    position = positions.get((cursor_name(topic), EVENTS), positions.get((GROUP, EVENTS), 0))
    return offset < position


# -- lag --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class TopicLag:
    """Numbers of records of one topic, by the offset behind them."""

    records: int = 0
    _parts: deque[tuple[int, int]] = field(default_factory=deque)

    def add(self, end: int, count: int) -> None:
        """Count records that end before an offset, beyond all that was added before."""
        self._parts.append((end, count))
        self.records += count
        if len(self._parts) > _MOST_PARTS:
            parts = iter(list(self._parts))
            self._parts = deque((later[0], earlier[1] + later[1]) for earlier, later in _pairs(parts))

    def passed(self, offset: int) -> None:
        """Subtract the parts that are completely below an offset."""
        while self._parts and self._parts[0][0] <= offset:
            self.records -= self._parts.popleft()[1]


def _pairs(parts: Iterable[tuple[int, int]]) -> Iterable[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield items two by two; the last one alone if their number is odd."""
    rest = iter(parts)
    for earlier in rest:
        later = next(rest, None)
        yield (earlier, later) if later is not None else ((earlier[0], 0), earlier)


class PublishLag:
    """Numbers of records of all topics.

    Args:
        positions: what is passed of each topic; those that are not in it begin at ``seen``.
    """

    def __init__(self, positions: Mapping[str, int], seen: int) -> None:
        #: The offset from which on nothing is counted yet.
        self.seen = seen
        self._positions = dict(positions)
        self._topics: dict[str, TopicLag] = {}

    def add(self, end: int, topics: Mapping[str, int]) -> None:
        """Count one commit of the journal, beyond all that was added before.

        Args:
            end: the offset behind it.
            topics: its records by topic.
        """
        self.seen = max(self.seen, end)
        for topic, count in topics.items():
            if end > self._positions.get(topic, 0):
                self._topics.setdefault(topic, TopicLag()).add(end, count)

    def passed(self, topic: str, offset: int) -> None:
        """Subtract what a topic's position has passed."""
        self._positions[topic] = offset
        if (backlog := self._topics.get(topic)) is not None:
            backlog.passed(offset)

    def waiting(self) -> set[str]:
        """Return the topics that have records left."""
        return {topic for topic, backlog in self._topics.items() if backlog.records}

    def of(self, topic: str) -> int:
        """Return how many records of a topic are left, as far as they are counted."""
        return self._topics[topic].records if topic in self._topics else 0
