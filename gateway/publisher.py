"""Journal → Kafka: a reader of the log like any other, whose work is to write each record to its topic.

In order: the reader gives records in the order they were accepted, :class:`gateway.log.kafka.Writer` keeps
that order in each partition through every failure. Nothing lost: the cursor moves only behind what Kafka has
acknowledged, and the journal frees nothing in front of it. Bounded: what is read and not acknowledged is at most
``max_buffer_bytes`` of the writer plus one fetch; during an outage the rest stays in the journal.

Repeats: a crash repeats what was acknowledged since the cursor was last stored (a quarter of a second) and what
was on its way. Every record carries its event's id.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Final

import structlog

from gateway.errors import GatewayError, NotNow, Transient
from gateway.log import Entry, EventLog, LogReader, Record, gaps
from gateway.log.kafka import topics
from gateway.log.kafka.availability import State
from gateway.log.kafka.lane import Ticket
from gateway.log.kafka.options import Backoff, KafkaOptions
from gateway.log.kafka.writer import Writer
from gateway.log.kafka.writer_policy import WriterPolicy
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

#: Name of the cursor. The journal is told to protect it: what it has not passed never expires.
GROUP: Final = "publisher"
#: Where events go that no broker takes: a stream of the journal, whole, with the reason in the headers.
DEAD_LETTERS: Final = "dlq.publisher"

_log = structlog.get_logger("gateway.publisher")


@dataclass(frozen=True, slots=True)
class PublisherPolicy:
    """Numbers of the publisher.

    Args:
        fetch_records: asked of the journal at a time.
        linger_s: pause after a fetch, so that records that come meanwhile share a request. It is the most that
            publishing adds to an event's way while the gateway is not busy; at a tenth, the processor time per event
            nearly doubles at 1,000 events a second.
        busy_linger_s: the same where a fetch brings at least ``busy_records``: fewer, larger requests. There is no
            pause while ``fetch_records`` and more wait.
        wait_s: for new records.
        retry_s: after the journal could not be read, or could not store a dead letter.
    """

    fetch_records: int = 1000
    linger_s: float = 0.01
    busy_linger_s: float = 0.05
    busy_records: int = 32
    wait_s: float = 1.0
    retry_s: float = 1.0


@dataclass(slots=True, eq=False)
class _Chunk:
    """Consecutive records of one journal partition: the ticket under which they were submitted."""

    end: int
    remaining: int
    on_done: Callable[[], None]
    is_cancelled: bool = False

    def done(self, count: int) -> None:
        self.remaining -= count
        if self.remaining == 0:
            self.on_done()


@dataclass(slots=True)
class _Progress:
    """Chunks of one journal partition in order, and how far they are done without a gap."""

    open: deque[_Chunk] = field(default_factory=deque)

    def advance(self) -> int | None:
        """Drop what is done from the head; the offset below which everything is done, if it moved."""
        end = None
        while self.open and self.open[0].remaining == 0:
            end = self.open.popleft().end
        return end


class Publisher:
    """Publishes a log's vendor events to Kafka.

    Args:
        journal: where events are accepted; also takes the dead letters.
        options: brokers, names, format.
        families: topics to publish; empty for all vendor events of the journal.
        on_published: told of each acknowledged batch: topic, partition, offset of the first record (-1: unknown),
            the records in order. Must be quick.
        create: topics to create as soon as Kafka is there, unless ``kafka.create_topics`` is off; others are created
            with their first event.
    """

    def __init__(
        self,
        journal: EventLog,
        options: KafkaOptions,
        families: Collection[str] = (),
        *,
        policy: PublisherPolicy | None = None,
        writer_policy: WriterPolicy | None = None,
        on_published: Callable[[str, int, int, Sequence[Entry | Record]], None] | None = None,
        create: Collection[str] = (),
    ) -> None:
        self._journal = journal
        self._options = options
        self._create = create if options.create_topics else ()
        self._families = families
        self._policy = policy or PublisherPolicy()
        self._writer = Writer(options, writer_policy, name=GROUP, on_poison=self._dead_letter, on_written=on_published)
        self._reader: LogReader | None = None
        self._progress: dict[str, _Progress] = {}
        self._runner: asyncio.Task[None] | None = None
        self._creator: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def start(self) -> None:
        """Open the cursor and begin, in the background: Kafka may be away. A second call does nothing."""
        if self._runner is not None or self._is_stopping:
            return
        self._reader = await self._journal.reader(GROUP, self._families, start="earliest")
        await self._writer.start()
        self._runner = asyncio.create_task(self._run(self._reader), name="publisher")
        if self._create:
            self._creator = asyncio.create_task(self._create_topics(), name="publisher-topics")

    async def stop(self, *, drain_s: float = 5.0) -> None:
        """Wait up to ``drain_s`` for what was read, store the cursor, let go. Twice, or before the start, is well.

        Ends within ``drain_s`` plus 5 seconds, also while Kafka is away. Call it before the journal's stop.
        """
        self._is_stopping = True
        for task in (self._runner, self._creator):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        self._runner = self._creator = None
        await self._writer.stop(drain_s=drain_s)
        if self._reader is not None:
            reader, self._reader = self._reader, None
            await reader.close()

    @property
    def state(self) -> State:
        """Whether Kafka takes our events, and since when not and why; for ``/readyz`` and the console."""
        return self._writer.state

    async def lag(self) -> int:
        """Records in the journal that Kafka has not acknowledged."""
        return sum((await self._reader.lag()).values()) if self._reader else 0

    async def _create_topics(self) -> None:
        """Until it is done; why not yet is said by the state, or here once."""
        backoff = Backoff(first_s=1.0, last_s=30.0)
        said = ""
        while True:
            try:
                created = await topics.create(self._options, self._create)
            except Transient as exc:
                if self.state.is_ready and str(exc) != said:
                    said = str(exc)
                    _log.error("kafka.topics_not_created", reason=said)
                await asyncio.sleep(backoff.next_s())
            else:
                if created:
                    _log.info("kafka.topics_created", topics=created)
                return

    async def _run(self, reader: LogReader) -> None:
        policy = self._policy
        writer = self._writer
        gauge = METRICS.gauge("gateway_publisher_lag_records")
        while True:
            await writer.room()
            try:
                records = await reader.fetch(max_records=policy.fetch_records, wait_s=policy.wait_s)
            except Exception as exc:  # the top of a task: a publisher that ends would be a journal that fills up
                is_expected = isinstance(exc, GatewayError) and exc.retriable
                _log.error("journal.read_failed", error=redaction.fault(exc), exc_info=not is_expected)
                await asyncio.sleep(policy.retry_s)
                continue
            for gap in records.gaps:
                gaps.report(self._journal.kind, [GROUP], gap)
            gauge.set(sum((await reader.lag()).values()))
            if not records:
                continue
            self._submit(reader, records)
            if len(records) < policy.fetch_records:
                is_busy = len(records) >= policy.busy_records
                await asyncio.sleep(policy.busy_linger_s if is_busy else policy.linger_s)

    def _submit(self, reader: LogReader, records: Sequence[Record]) -> None:
        for partition, run in groupby(records, key=attrgetter("partition")):
            together = list(run)
            progress = self._progress.setdefault(partition, _Progress())

            def settle(partition: str = partition, progress: _Progress = progress) -> None:
                if (end := progress.advance()) is not None:
                    reader.commit(partition, end)

            chunk = _Chunk(together[-1].offset + 1, len(together), settle)
            progress.open.append(chunk)
            self._writer.submit(together, chunk)

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
