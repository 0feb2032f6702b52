"""One topic on its way from the journal to Kafka: a cursor of the shared reading, which feeds the writer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.log import Batch, Record, Start
from gateway.log.journal import EVENTS
from gateway.log.kafka.send_queue import weight
from gateway.log.kafka.writer import KafkaWriter
from gateway.publisher.positions import cursor_name

#: What a record is taken to weigh until some were seen.
_TYPICAL_BYTES: Final = 1500
#: A topic holds so few bytes that it would soon have nothing to send.
_LOW_BYTES: Final = 128 * 1024


class CursorOwner(Protocol):
    """The interface of the publisher for a cursor."""

    def has_attached(self, topic: str) -> bool:
        """Return whether the shared reading feeds a topic."""

    def is_held_up(self) -> bool:
        """Return whether a topic that is full has held up the shared reading for long enough."""


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
        on_passed: called with the offset below which everything of the topic is in Kafka, whenever it moves.
    """

    def __init__(
        self, topic: str, writer: KafkaWriter, owner: CursorOwner, on_passed: Callable[[TopicCursor, int], None]
    ) -> None:
        self.topic = topic
        self.name = cursor_name(topic)
        self.topics = frozenset({topic})
        self._writer = writer
        self._owner = owner
        self._on_passed = on_passed
        self._open: deque[_Chunk] = deque()
        self._mean_bytes: float = _TYPICAL_BYTES
        #: The monotonic time since when it is full; None: it is not.
        self.full_since: float | None = None

    # -- what the shared reading asks ---------------------------------------------------------------------------

    def room(self) -> int:
        """See :meth:`gateway.log.cursor.Consumer.room`."""
        left = self._writer.room(self.topic)
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
        if not self._writer.is_up or self._writer.held(self.topic) > _LOW_BYTES:
            return False
        return not self._owner.has_attached(self.topic) or self._owner.is_held_up()

    def is_willing(self) -> bool:
        """See :meth:`gateway.log.cursor.Consumer.is_willing`."""
        return self._writer.is_up and self._writer.trouble(self.topic) is None

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
