"""Journal → Kafka: each topic is a cursor of one reading of the journal, whose work is to write its records to Kafka.

In order: a cursor gets the records of its topic in the order they were accepted, :class:`gateway.log.kafka.KafkaWriter`
keeps that order in each partition through every failure. Nothing lost: a topic's position moves only behind what Kafka
has acknowledged, and the journal frees nothing in front of the oldest position. Bounded: what is read and not
acknowledged is at most the writer's budget for each topic, and one step of reading; later records stay in the journal.

A topic that cannot be written (missing, no right, too few replicas, a record refused) is left behind where it is when
it has used up its budget, and is read by itself when it can be written again. The others continue.

Topics need not be in the configuration: whatever topic the journal holds a record of is published. One that is seen for
the first time gets its position, durably, before the batch in which it was seen is passed to a cursor
(:mod:`.topic_cursor`).

Repeats: a crash repeats what was acknowledged since the position was last stored (a quarter of a second), and what was
on its way. Every record carries its event's id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.clock import Backoff, SystemClock
from gateway.config.settings import FAMILIES
from gateway.errors import GatewayError, NotNow, Transient
from gateway.log import Batch, Entry, Record
from gateway.log.catch_up import ReadingPolicy
from gateway.log.journal import EVENTS, Journal
from gateway.log.kafka import topics
from gateway.log.kafka.backlog import Ticket
from gateway.log.kafka.errors import Problem
from gateway.log.kafka.health import State
from gateway.log.kafka.options import KafkaOptions, WriterPolicy
from gateway.log.kafka.writer import KafkaWriter
from gateway.log.shared_reader import SharedReader
from gateway.publisher.topic_cursor import GROUP, PublishLag, TopicCursor, cursor_name, starts
from gateway.telemetry.metrics import METRICS

#: Where events go that no broker takes: a stream of the journal, whole, with the reason in the headers.
DEAD_LETTERS: Final = "dlq.publisher"
#: Of the journal at a time, when commits are counted: more would keep the other readers of its file waiting.
_COUNTED_AT_ONCE: Final = 100_000

_READING: Final = ReadingPolicy(max_records=1000, linger_s=0.01, busy_linger_s=0.05, busy_records=32)

_log = structlog.get_logger("gateway.publisher")


@dataclass(frozen=True, slots=True)
class PublisherPolicy:
    """Numbers of the publisher.

    Args:
        reading: of the shared reading. Its pauses after a fetch let records that come meanwhile share a request:
            ``linger_s`` is the most that publishing adds to an event's way while the gateway is not busy; at a tenth,
            the processor time per event nearly doubles at 1,000 events a second.
        patience_s: a topic that is full for so long is left behind; until then the others wait for it. A tenth of it
            leaves behind what only catches up after an outage, and each that is left behind reads the journal again.
        look_s: between measurements of the lag.
        retry_s: after the journal could not store a position or a dead letter.
    """

    reading: ReadingPolicy = _READING
    patience_s: float = 0.25
    look_s: float = 1.0
    retry_s: float = 1.0


@dataclass(frozen=True, slots=True)
class TopicState:
    """One topic at one moment.

    Args:
        problem: why it cannot be written; None when it can.
        lag: records in the journal that Kafka has not acknowledged.
        bytes: of it in memory.
    """

    name: str
    problem: Problem | None
    lag: int
    bytes: int


class Publisher:
    """Publishes a journal's vendor events to Kafka.

    Args:
        journal: where events are accepted; also takes the dead letters.
        options: brokers, names, format.
        on_published: called with each acknowledged batch: topic, partition, offset of the first record (-1: unknown),
            the records in order. Must be quick.
        create: topics to create as soon as Kafka is there, unless ``kafka.create_topics`` is off; others are created
            with their first event.
    """

    def __init__(
        self,
        journal: Journal,
        options: KafkaOptions,
        *,
        policy: PublisherPolicy | None = None,
        writer_policy: WriterPolicy | None = None,
        on_published: Callable[[str, int, int, Sequence[Entry | Record]], None] | None = None,
        create: Collection[str] = (),
    ) -> None:
        self._journal = journal
        self._options = options
        self._create = create
        self._policy = policy or PublisherPolicy()
        self._writer = KafkaWriter(
            options,
            writer_policy,
            name=GROUP,
            on_poison=self._dead_letter,
            on_written=on_published,
            on_change=self._changed,
        )
        self._reader = SharedReader(journal, GROUP, SystemClock(), self._policy.reading, before=self._find_topics)
        self._cursors: dict[str, TopicCursor] = {}
        self._positions: dict[str, int] = {}
        self._lag = PublishLag({}, 0)
        self._counting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._patience: asyncio.TimerHandle | None = None
        self._is_stopping = False

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start in the background: Kafka may be unavailable. A second call does nothing.

        Raises:
            NotNow: positions of new topics could not be stored.
        """
        if self._tasks or self._is_stopping:
            return
        self._positions = starts(self._journal.positions(), [*FAMILIES, *self._create], self._journal.floor(EVENTS))
        for topic, position in self._positions.items():
            self._journal.note_cursor(cursor_name(topic), EVENTS, position)
        await self._journal.flush()
        self._lag = PublishLag(self._positions, min(self._positions.values(), default=self._journal.floor(EVENTS)))
        for topic in self._positions:
            self._add(topic)
        await self._writer.start()
        self._reader.start()
        self._tasks = [asyncio.create_task(self._look(), name="publisher-lag")]
        if self._create and self._options.create_topics:
            self._tasks.append(asyncio.create_task(self._create_topics(), name="publisher-topics"))

    async def stop(self, *, drain_s: float = 5.0) -> None:
        """Wait up to ``drain_s`` for acknowledgements and store the positions. May be called twice or before the start.

        Ends within ``drain_s`` plus 5 seconds, also while Kafka is unavailable. Call it before the journal's stop.
        """
        self._is_stopping = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._patience is not None:
            self._patience.cancel()
        await self._reader.stop()
        await self._writer.stop(drain_s=drain_s)
        for topic in self._names():
            _show(TopicState(topic, None, 0, 0), is_gone=True)
        if tasks:
            with suppress(NotNow):
                await self._journal.flush()

    @property
    def state(self) -> State:
        """Whether Kafka accepts the events, and since when not and why; for ``/readyz`` and the console."""
        return self._writer.state

    # -- lag ----------------------------------------------------------------------------------------------------

    async def topics(self) -> list[TopicState]:
        """Return the state of each topic, by name; what is not published counts whether it was read or not.

        Raises:
            GatewayError: the journal cannot be read now.
        """
        await self._count()
        return [
            TopicState(name, queue.trouble, self._lag.of(name), queue.bytes)
            for name, queue in ((name, self._writer.backlog.topic(name)) for name in self._names())
        ]

    def _names(self) -> list[str]:
        """Return the topics that were seen, and those that the reading has not come to."""
        return sorted(self._lag.waiting().union(self._cursors))

    async def lag(self) -> int:
        """Return how many records in the journal Kafka has not acknowledged.

        Raises:
            GatewayError: the journal cannot be read now.
        """
        return sum(topic.lag for topic in await self.topics())

    async def _count(self) -> None:
        """Count what was stored since the last time."""
        async with self._counting:
            while (first := self._lag.seen) < (head := self._journal.head(EVENTS)):
                below = min(head, first + _COUNTED_AT_ONCE)
                for end, by_topic in await self._journal.file.heads(EVENTS, first, below):
                    self._lag.add(end, by_topic)
                self._lag.seen = max(self._lag.seen, below)

    async def _look(self) -> None:
        """Keep the metrics."""
        while True:
            try:
                for topic in await self.topics():
                    _show(topic)
            except GatewayError as exc:
                _log.info("publisher.lag_unknown", error=str(exc))
            await asyncio.sleep(self._policy.look_s)

    # -- topics -------------------------------------------------------------------------------------------------

    def _add(self, topic: str) -> None:
        cursor = self._cursors[topic] = TopicCursor(
            topic, self._writer, has_attached=self.has_attached, is_held_up=self._is_held_up, on_passed=self._passed
        )
        self._reader.add(cursor)

    async def _find_topics(self, batch: Batch) -> None:
        """Assign positions to topics that are seen for the first time, before a cursor passes this batch."""
        new: dict[str, int] = {}
        for record in batch:
            if record.topic not in self._cursors and record.topic not in new:
                new[record.topic] = record.offset
        if not new:
            return
        for topic, offset in new.items():
            self._positions[topic] = offset
            self._journal.note_cursor(cursor_name(topic), EVENTS, offset)
        while True:
            with suppress(NotNow):
                await self._journal.flush()
                break
            await asyncio.sleep(self._policy.retry_s)
        for topic in new:
            self._add(topic)

    async def _create_topics(self) -> None:
        """Create topics, retrying until it succeeds; the state, or one log line, reports why it has not yet."""
        backoff = Backoff(first_s=1.0, last_s=30.0)
        said = ""
        while True:
            try:
                created = await topics.create(self._options, self._create)
            except Transient as exc:
                if self._writer.is_up and str(exc) != said:
                    said = str(exc)
                    _log.error("kafka.topics_not_created", reason=said)
                await asyncio.sleep(backoff.next_s())
            else:
                if created:
                    _log.info("kafka.topics_created", topics=created)
                return

    # -- what cursors and the writer say ------------------------------------------------------------------------

    def has_attached(self, topic: str) -> bool:
        """Return whether the shared reading feeds a topic."""
        cursor = self._cursors.get(topic)
        return cursor is not None and self._reader.is_attached(cursor)

    def _is_held_up(self) -> bool:
        full_since = {
            topic: cursor.full_since
            for topic, cursor in self._cursors.items()
            if cursor.full_since is not None and self.has_attached(topic)
        }
        if not full_since:
            return False
        since = max(self._writer.up_since, min(full_since.values()))
        left_s = self._policy.patience_s - (time.monotonic() - since)
        if left_s <= 0 or any(self._writer.backlog.topic(topic).troubles for topic in full_since):
            return True
        if self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(left_s, self._patience_ends)
        return False

    def _patience_ends(self) -> None:
        self._patience = None
        self._reader.changed()

    def _changed(self, _: str) -> None:
        self._reader.changed()

    def _passed(self, cursor: TopicCursor, offset: int) -> None:
        """Note that Kafka has all records of a topic below an offset."""
        topic = cursor.topic
        if offset <= self._positions[topic]:
            return
        self._journal.note_cursor(cursor.name, EVENTS, offset)
        was_oldest = self._positions[topic] <= min(self._positions.values())
        self._positions[topic] = offset
        self._lag.passed(topic, offset)
        if was_oldest:
            self._journal.note_cursor(GROUP, EVENTS, min(self._positions.values()))
        if not self.has_attached(topic):
            self._reader.changed()  # it may be hungry

    async def _dead_letter(self, entry: Entry | Record, _: Ticket, reason: str) -> None:
        """Keep an event that no broker takes where nothing is too large. Returns when it is durable."""
        letter = Entry(DEAD_LETTERS, entry.key, entry.id, entry.value, (("topic", entry.topic), ("reason", reason)))
        while True:
            with suppress(NotNow):
                await self._journal.append([letter])
                break
            await asyncio.sleep(self._policy.retry_s)
        METRICS.counter("gateway_publisher_dead_letters").labels(entry.topic).inc()
        _log.error("event.unpublishable", id=entry.id, topic=entry.topic, bytes=len(entry.value), reason=reason)


def _show(topic: TopicState, *, is_gone: bool = False) -> None:
    """Set a topic's gauges, or remove them, so that no stale value stays."""
    values = {
        "gateway_publisher_lag_records": topic.lag,
        "gateway_publisher_queue_bytes": topic.bytes,
        "gateway_publisher_topic_up": topic.problem is None,
    }
    for name, value in values.items():
        if is_gone:
            with suppress(KeyError):
                METRICS.gauge(name).remove(topic.name)
        else:
            METRICS.gauge(name).labels(topic.name).set(value)
