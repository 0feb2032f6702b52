"""Entries → Kafka: in order per partition, idempotent, ``acks=all``, through outages of any length.

Invariants
    1. At most one batch of a partition is with the client at a time.
    2. A batch whose outcome is an error goes back to the head of its lane, and the producer that sent it is given
       up: nothing more is sent by it, and a new one, with a new producer id, goes on from there.
    3. A ticket hears of a record only after Kafka acknowledged it (or it was dead-lettered).
    So the first copies of a partition's records stand in it in the order of submission, without gaps. What can be
    repeated is one batch per partition and lost producer: one whose acknowledgement was lost with it.

Why (1) and (2). aiokafka 0.14 numbers a batch when it is first sent and retries it under this number for as long
as the error is one that may pass; the broker drops what it has seen (KIP-98). That is right, and most outages,
restarts and moved leaders need nothing from us. But when a batch fails for good (too large, not authorised), its
numbers stay used: a batch queued behind it is then refused for ever (OUT_OF_ORDER_SEQUENCE_NUMBER), or, where the
broker knows nothing of the producer yet, *accepted*, and the failed one is sent after it: order lost. With one batch
per partition nothing stands behind.
aiokafka has one request per broker under way in any case, so this costs no throughput.

States of a producer: opening → driving → (failed → settling) → retired. While settling, batches of other partitions
get their answers, so that they need not be repeated. A retired one may still deliver late: that is a repeat
of what its successor sends first, never something out of order, as both start at the same record.

Rejected: transactions (one more round trip per batch, fencing between workers); ``send()`` per record (three times
the cost, and the linger of the client hides the batch we need to know of).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import structlog
from aiokafka import errors
from aiokafka.structs import RecordMetadata

from gateway.log import Entry, Record
from gateway.log.kafka import binding, topics
from gateway.log.kafka.availability import CONNECTION, Availability, State
from gateway.log.kafka.backlog import Backlog
from gateway.log.kafka.errors import CLIENT_ERRORS, TOO_LARGE, KafkaAway, problem_of
from gateway.log.kafka.lane import Batch, Item, Lane, Ticket, Topic, weight
from gateway.log.kafka.log_rate_limit import limit_logs
from gateway.log.kafka.options import Backoff, KafkaOptions
from gateway.log.kafka.producer import close_producer, open_producer
from gateway.log.kafka.recreations import Recreations
from gateway.log.kafka.staleness import Staleness
from gateway.log.kafka.writer_policy import WriterPolicy
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.kafka")

#: Told of one record that no broker will ever take, and why; when it returns, the record is safe elsewhere.
OnPoison = Callable[[Entry | Record, Ticket, str], Awaitable[None]]


class Writer:
    """Appends to Kafka. One per process and purpose; all methods are called on its event loop.

    Args:
        options: brokers, names, format.
        name: label in logs and metrics, such as ``publisher``.
        on_poison: see :data:`OnPoison`; without it such a record holds its partition and the state says so.
        on_written: told of each acknowledged batch: topic, partition, offset of the first record, the records in
            order. Must be quick. The offset is -1 where the broker only said that it had the batch already.
    """

    def __init__(
        self,
        options: KafkaOptions,
        policy: WriterPolicy | None = None,
        *,
        name: str = "writer",
        on_poison: OnPoison | None = None,
        on_written: Callable[[str, int, int, Sequence[Entry | Record]], None] | None = None,
    ) -> None:
        self._options = options
        self._policy = policy or WriterPolicy()
        self._name = name
        self._on_poison = on_poison
        self._on_written = on_written
        self._encode = binding.binary if options.cloudevents == "binary" else None
        self._availability = Availability(name)
        self._backlog = Backlog(self._policy.max_buffer_bytes, options.schema_ids)
        self._poisoned: list[tuple[Item, str]] = []
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._recreations = Recreations(options, name)
        self._staleness = Staleness(options, away_s=self._policy.rebootstrap_s, grace_s=self._policy.grace_s)
        self._producer: Any = None
        self._failure: str | None = None
        self._last_answer = 0.0
        self._is_stopping = False
        self._runner: asyncio.Task[None] | None = None
        self._failures = METRICS.counter("gateway_kafka_producer_failures").labels(name)

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect, in the background: Kafka may be away. Starting a started writer does nothing."""
        if self._runner is None and not self._is_stopping:
            limit_logs()
            self._runner = asyncio.create_task(self._run(), name=f"kafka-{self._name}")

    async def stop(self, *, drain_s: float = 5.0) -> None:
        """Wait up to ``drain_s`` for what was submitted, then let go. May be called twice, or before :meth:`start`.

        What was not acknowledged is not done: its tickets never hear of it. Ends within ``drain_s`` plus 4 seconds; at
        once while Kafka is away.
        """
        if self._runner is not None and CONNECTION not in self.state.problems:
            with suppress(TimeoutError):
                async with asyncio.timeout(drain_s):
                    await self._backlog.is_empty.wait()
        self._is_stopping = True
        self._backlog.has_room.set()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
            self._runner = None
        self._availability.close()

    @property
    def state(self) -> State:
        """What ``/readyz`` and the console show."""
        return self._availability.state

    # -- submitting ---------------------------------------------------------------------------------------------

    async def room(self) -> None:
        """Wait until there is room for more. During an outage this is where a publisher rests."""
        await self._backlog.has_room.wait()

    def submit(self, entries: Sequence[Entry | Record], ticket: Ticket) -> None:
        """Take entries in, in order. Never blocks: whoever submits waits for :meth:`room` before."""
        self._backlog.submit(entries, ticket)
        self._wake.set()

    # -- producers, one after another ---------------------------------------------------------------------------

    async def _run(self) -> None:
        backoff = Backoff()
        try:
            while True:
                self._producer = await self._open()
                if self._producer is not None:
                    try:
                        await self._drive()
                        backoff.reset()
                    except Exception as exc:  # the top of a task: a writer that ends would be a log that ends
                        _log.exception("kafka.writer_broke", client=self._name, error=redaction.fault(exc))
                    finally:
                        await self._retire()
                await asyncio.sleep(backoff.next_s())
        finally:
            self._staleness.stop()
            self._recreations.stop()

    async def _open(self) -> Any:
        policy = self._policy
        try:
            producer = await open_producer(
                self._options, self._availability, max_batch_bytes=policy.max_batch_bytes, close_s=policy.close_s
            )
        except KafkaAway as exc:
            self._availability.problem(CONNECTION, exc.problem)
            return None
        self._failure = None
        self._staleness.reset()
        self._last_answer = time.monotonic()
        self._availability.solved(CONNECTION)
        return producer

    async def _retire(self) -> None:
        """Take back what is unanswered and close."""
        for task in self._resolving.values():
            task.cancel()
        self._resolving.clear()
        self._backlog.take_back()
        producer, self._producer = self._producer, None
        await close_producer(producer, self._policy.close_s)

    # -- driving one producer -----------------------------------------------------------------------------------

    async def _drive(self) -> None:
        """Send until this producer has failed and the other partitions have had time to settle."""
        failed_at = 0.0
        looked_at = 0.0
        while True:
            self._wake.clear()
            now = time.monotonic()
            if self._failure is None:
                await self._send_ready(now)
            else:
                failed_at = failed_at or now
                await self._dead_letter()
                if not self._backlog.in_flight() or now - failed_at > self._policy.settle_s:
                    return
            if now - looked_at >= self._policy.look_s:
                looked_at = now
                self._look(now)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next_look(now)):
                    await self._wake.wait()

    def _next_look(self, now: float) -> float:
        """Seconds until something is due by itself: a topic's retry, or the regular look."""
        due = [topic.retry_at - now for topic in self._backlog.topics.values() if topic.retry_at > now]
        return min([self._policy.look_s, *due])

    async def _send_ready(self, now: float) -> None:
        for topic in self._backlog.topics.values():
            if topic.unplaced:
                self._resolve_soon(topic, now)
        for lane in self._backlog.take_ready():
            if now < lane.topic.retry_at or self._failure is not None:
                self._backlog.make_ready(lane)
            elif self._partitions(lane.topic) is None:
                # A new producer, or a topic that was deleted: waiting for it here would hold up the others.
                self._backlog.make_ready(lane)
                self._resolve_soon(lane.topic, now)
            elif self._fit(lane.topic):
                await self._send(lane, now)
            else:
                self._backlog.make_ready(lane)

    def _fit(self, topic: Topic) -> bool:
        """Have as many lanes as the topic has partitions. False: only after this producer was given up."""
        known = self._partitions(topic)
        if known is None or not topic.lanes or len(known) == len(topic.lanes):
            return True
        if self._backlog.place(topic, len(known)):
            self._wake.set()
            return True
        self._failure = f"{topic.name} was created again with fewer partitions"
        return False

    def _partitions(self, topic: Topic) -> Collection[int] | None:
        """The partitions as this producer knows them at this moment."""
        found: Collection[int] | None = self._producer.client.cluster.partitions_for_topic(
            self._options.kafka_name(topic.name)
        )
        return found

    def _resolve_soon(self, topic: Topic, now: float) -> None:
        if topic.name not in self._resolving and now >= topic.retry_at:
            self._resolving[topic.name] = asyncio.create_task(self._resolve(topic), name=f"kafka-topic-{topic.name}")

    async def _send(self, lane: Lane, now: float) -> None:
        batch = lane.fill(self._producer.create_batch(), self._encode, now)
        if batch.dropped:
            self._backlog.release(batch.dropped)
        if not batch.items:
            return
        lane.in_flight = batch
        try:
            async with asyncio.timeout(self._policy.resolve_s):
                future = await self._producer.send_batch(
                    batch.builder, self._options.kafka_name(lane.topic.name), partition=lane.partition
                )
        except CLIENT_ERRORS as exc:
            self._failed(lane, batch, exc)
        else:
            future.add_done_callback(partial(self._answered, lane, batch))

    def _answered(self, lane: Lane, batch: Batch, future: asyncio.Future[RecordMetadata]) -> None:
        exc = asyncio.CancelledError() if future.cancelled() else future.exception()
        if batch.is_abandoned:
            return
        if exc is not None:
            self._failed(lane, batch, exc)
            return
        lane.in_flight = None
        topic = lane.topic
        if lane.pending:
            self._backlog.make_ready(lane)
            self._wake.set()
        self._last_answer = time.monotonic()
        if self._availability.state.problems:
            self._availability.solved(CONNECTION)
            self._availability.solved(topic.name)
            topic.backoff.reset()
        METRICS.counter("gateway_kafka_written_events").labels(topic.name).inc(len(batch.items))
        if self._on_written is not None:
            metadata = future.result()
            self._on_written(topic.name, lane.partition, metadata.offset, [item[0] for item in batch.items])
        for ticket, items in groupby(batch.items, key=itemgetter(2)):
            ticket.done(sum(1 for _ in items))
        self._backlog.release(batch.size)

    def _failed(self, lane: Lane, batch: Batch, exc: BaseException) -> None:
        """The batch was not (or not known to be) written: its place is kept, this producer ends."""
        lane.in_flight = None
        topic = lane.topic
        if isinstance(exc, TOO_LARGE) and len(batch.items) > 1:
            topic.max_batch_bytes = max(1, (topic.max_batch_bytes or self._policy.max_batch_bytes) // 2)
            _log.info("kafka.batch_too_large", topic=topic.name, records=len(batch.items), next=topic.max_batch_bytes)
            lane.put_back(batch.items)
        elif isinstance(exc, TOO_LARGE) and self._on_poison is not None:
            size = len(batch.items[0][0].value)
            self._poisoned.append((batch.items[0], f"{size} bytes are more than the broker takes"))
        else:
            lane.put_back(batch.items)
            topic.retry_at = time.monotonic() + topic.backoff.next_s()
            self._availability.problem(topic.name, problem_of(exc, self._producer.client))
        self._backlog.make_ready(lane)
        self._failure = str(problem_of(exc))
        self._failures.inc()
        self._wake.set()

    async def _dead_letter(self) -> None:
        """Records too large for any broker find their place elsewhere, before anything behind them is sent."""
        while self._poisoned:
            assert self._on_poison is not None
            (entry, _, ticket), reason = self._poisoned[0]
            await self._on_poison(entry, ticket, reason)
            del self._poisoned[0]
            ticket.done(1)
            self._backlog.release(weight(entry))

    # -- topics -------------------------------------------------------------------------------------------------

    async def _resolve(self, topic: Topic) -> None:
        """Learn a topic's partitions and incarnation, creating it if need be, and give its records their lanes."""
        kafka_name = self._options.kafka_name(topic.name)
        client = self._producer.client
        try:
            async with asyncio.timeout(self._policy.resolve_s):
                await client.add_topic(kafka_name)
                await client.force_metadata_update()
            if self._partitions(topic) is None:
                if not self._options.create_topics:
                    raise errors.UnknownTopicOrPartitionError
                await topics.create(self._options, [topic.name])
            async with asyncio.timeout(self._policy.resolve_s):
                found: Collection[int] = await self._producer.partitions_for(kafka_name)
                await self._recreations.learn(client, topic.name)
        except (*CLIENT_ERRORS, KafkaAway) as exc:
            topic.retry_at = time.monotonic() + topic.resolving.next_s()
            self._availability.problem(topic.name, problem_of(exc, client))
        else:
            topic.resolving.reset()
            if not topic.lanes:
                self._backlog.place(topic, len(found))
            self._fit(topic)
            self._availability.solved(topic.name)
        finally:
            self._resolving.pop(topic.name, None)
            self._wake.set()

    # -- watching -----------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Is anything acknowledged? aiokafka retries in silence, so the age of what is on its way is the sign."""
        self._backlog.drop_cancelled()
        for topic in self._backlog.topics.values():
            self._fit(topic)
            if not topic.is_idle and self._partitions(topic) is None:
                self._resolve_soon(topic, now)  # deleted, while all that it has is on its way
            if topic.is_idle and now - topic.retry_at > self._policy.forget_s:
                # What it had was given up, so no acknowledgement will tell that it works again.
                self._availability.solved(topic.name)
        self._recreations.look(self._producer.client, [topic.name for topic in self._backlog.topics.values()])
        in_flight = self._backlog.in_flight()
        if not in_flight or self._failure is not None:
            return
        health = self._producer.client.health
        refused = self._availability.look(health, self._options.own_name)
        waited_s = now - max(self._last_answer, min(batch.sent_at for batch in in_flight), health.throttled_until)
        if waited_s <= 0 or refused.issuperset(batch.items[0][0].topic for batch in in_flight):
            # Brokers answer: a quota delays us, or each topic has a problem of its own.
            self._availability.solved(CONNECTION)
            return
        if waited_s > self._policy.stalled_s:
            stalled = TimeoutError(f"nothing acknowledged for {waited_s:.0f} s")
            self._availability.problem(CONNECTION, problem_of(stalled, self._producer.client))
        if self._staleness.is_stale(waited_s, now):
            self._failure = "a fresh client gets through and this one does not: its addresses are stale"
