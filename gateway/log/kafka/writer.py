"""Entries → Kafka: in order per partition, idempotent, ``acks=all``, through outages of any length.

Invariants
    1. At most one batch of a partition is with the client at a time.
    2. A batch that a broker refuses returns to the head of its queue, and its numbers with it: the next batch of the
       partition has them, and is tried again after a pause. The producer and all other partitions continue.
    3. A batch whose outcome is not known returns too, and the producer that sent it is given up: it sends nothing more,
       and a new one, with a new producer id, continues from there.
    4. A ticket is called for a record only after Kafka acknowledged it (or it was dead-lettered).
    So the first copies of a partition's records are in it in the order of submission, without gaps. At most one batch
    for each partition and lost producer can be repeated: the one whose acknowledgement was lost with it.

Why (1) to (3). aiokafka 0.14 numbers a batch when it is first sent and retries it under this number for as long
as the error is temporary; the broker drops repeats (KIP-98). That is right, and most outages, restarts and moved
leaders need no action of the gateway. But if a batch fails permanently (too large, not authorised), its
numbers stay used: a batch queued behind it is then refused for ever (OUT_OF_ORDER_SEQUENCE_NUMBER), or, where the
broker knows nothing of the producer yet, *accepted*, and the failed one is sent after it: order lost. With one batch
per partition no other batch is behind it, and its numbers can be taken back (:func:`.aiokafka_workarounds.rewind`).
aiokafka has one request per broker under way in any case, so this costs no throughput.

States of a producer: opening → driving → (failed → settling) → retired. While settling, batches of other partitions
get their answers, so that they need not be repeated. A retired one may still deliver late: that is a repeat
of what its successor sends first, never something out of order, as both start at the same record.

Rejected: transactions (one more round trip per batch, fencing between workers); ``send()`` per record (three times
the cost, and the linger of the client hides the batch we need to know of); a new producer for each refused batch (all
topics wait for it, and each loses what was on its way).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import structlog

from gateway.clock import Backoff
from gateway.log import Entry, Record
from gateway.log.kafka import record_format
from gateway.log.kafka.aiokafka_workarounds import Refused, close_producer, leaderless, rewind
from gateway.log.kafka.backlog import Backlog, InFlight, OnPoison, OnWritten, SendQueue, Ticket, TopicQueue, weight
from gateway.log.kafka.errors import (
    AWAY,
    CLIENT_ERRORS,
    NOT_ENOUGH_REPLICAS,
    REFUSED,
    TOO_LARGE,
    KafkaAway,
    Problem,
    problem_of,
)
from gateway.log.kafka.health import CONNECTION, Availability, State
from gateway.log.kafka.options import KafkaOptions, WriterPolicy
from gateway.log.kafka.outage import limit_logs
from gateway.log.kafka.producer import Staleness, TopicResolver, opened
from gateway.telemetry import redaction
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.kafka")


class KafkaWriter:
    """Appends to Kafka. One per process and purpose; all methods are called on its event loop.

    Args:
        options: brokers, names, format.
        name: label in logs and metrics, such as ``publisher``.
        on_poison: see :data:`OnPoison`; without it such a record holds its partition, and the state shows it.
        on_written: see :data:`OnWritten`. Must be quick. The offset is -1 if the broker only answered that it had the
            batch already.
        on_change: called when a topic that was full has room again, and when a topic becomes writable or stops being
            so; with an empty name when Kafka as a whole becomes unavailable or available.
    """

    def __init__(
        self,
        options: KafkaOptions,
        policy: WriterPolicy | None = None,
        *,
        name: str = "writer",
        on_poison: OnPoison | None = None,
        on_written: OnWritten | None = None,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._policy = policy or WriterPolicy()
        self._name = name
        self._encode = record_format.binary if options.cloudevents == "binary" else None
        self._on_poison = on_poison
        self._on_written = on_written
        self._availability = Availability(name)
        #: Submitted records; the submitter looks here for room and for topics that cannot be written.
        self.backlog = Backlog(self._policy, self._availability, options.schema_ids, on_change)
        self._wake = asyncio.Event()
        self._resolver = TopicResolver(
            options, self.backlog, name=name, resolve_s=self._policy.resolve_s, on_resolved=self._wake.set
        )
        self._poisoned: set[asyncio.Task[None]] = set()
        self._failures = METRICS.counter("gateway_kafka_producer_failures").labels(name)
        self._staleness = Staleness(options, away_s=self._policy.rebootstrap_s, grace_s=self._policy.grace_s)
        self._producer: Any = None
        self._failure: str | None = None
        self._last_answer = 0.0
        #: The monotonic time since when Kafka as a whole can be reached, while it can.
        self.up_since = 0.0
        self._is_stopping = False
        self._runner: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start connecting in the background: Kafka may be unavailable. Does nothing if the writer is started."""
        if self._runner is None and not self._is_stopping:
            limit_logs()
            self._runner = asyncio.create_task(self._run(), name=f"kafka-{self._name}")

    async def stop(self, *, drain_s: float = 5.0) -> None:
        """Wait up to ``drain_s`` for submitted records, then close. May be called twice, or before :meth:`start`.

        Tickets of records that were not acknowledged are never called. It does not wait for a topic that cannot be
        written. Ends within ``drain_s`` plus 4 seconds; at once while Kafka is unavailable.
        """
        if self._runner is not None and self.is_up:
            with suppress(TimeoutError):
                async with asyncio.timeout(drain_s):
                    await self.backlog.wait_until_written()
        self._is_stopping = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
            self._runner = None
        for task in self._poisoned:
            task.cancel()
        await asyncio.gather(*self._poisoned, return_exceptions=True)
        self._availability.close()

    @property
    def state(self) -> State:
        """The state that ``/readyz`` and the console show."""
        return self._availability.state

    @property
    def is_up(self) -> bool:
        """Whether Kafka as a whole can be reached, independently of single topics."""
        return self._availability.is_connected

    def submit(self, entries: Sequence[Entry | Record], ticket: Ticket) -> None:
        """Queue entries in order. Never blocks: the caller checks :meth:`.Backlog.room` before.

        Args:
            entries: of any topics.
            ticket: called when they are done.
        """
        self.backlog.submit(entries, ticket)
        self._wake.set()

    # -- producers, one after another ---------------------------------------------------------------------------

    async def _run(self) -> None:
        backoff = Backoff()
        try:
            while True:
                try:
                    self._begin(await opened(self._options, self._policy, self._availability.watch))
                    await self._drive()
                    backoff.reset()
                except KafkaAway as exc:
                    self._away(exc.problem)
                except Exception as exc:  # the top of a task: a writer that ends would be a log that ends
                    _log.exception("kafka.writer_broke", client=self._name, error=redaction.fault(exc))
                finally:
                    await self._retire()
                await asyncio.sleep(backoff.next_s())
        finally:
            self._staleness.stop()
            self._resolver.stop()

    def _begin(self, producer: Any) -> None:
        self._producer, self._failure = producer, None
        self._staleness.reset()
        self._resolver.use(producer)
        self._heard()

    async def _retire(self) -> None:
        """Put the unacknowledged batches back and close the producer, if there is one."""
        self._resolver.use(None)
        self.backlog.take_back()
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer, self._policy.close_s)

    def _heard(self) -> None:
        """Note that brokers answer."""
        self._last_answer = time.monotonic()
        if not self.is_up:
            self.up_since = time.monotonic()
            self._availability.solved(CONNECTION)
            self.backlog.changed("")

    def _away(self, problem: Problem) -> None:
        was_up = self.is_up
        self._availability.problem(CONNECTION, problem)
        if was_up:
            self.backlog.changed("")

    def _give_up(self, reason: str) -> None:
        """Send nothing more with this producer."""
        self._failure = reason
        self._wake.set()

    # -- driving one producer -----------------------------------------------------------------------------------

    async def _drive(self) -> None:
        """Send until this producer has failed and the other partitions have had time to settle."""
        failed_at = looked_at = 0.0
        while True:
            self._wake.clear()
            now = time.monotonic()
            if self._failure is None:
                await self._send_ready(now)
            else:
                failed_at = failed_at or now
                if not self.backlog.in_flight() or now - failed_at > self._policy.settle_s:
                    return
            if now - looked_at >= self._policy.look_s:
                looked_at = now
                self._look(now)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._policy.look_s, self.backlog.next_due(now) - now)):
                    await self._wake.wait()

    async def _send_ready(self, now: float) -> None:
        for topic in self.backlog.topics.values():
            if topic.unplaced:
                self._resolver.soon(topic, now)
        for queue in self.backlog.due(now):
            if self._failure is None and self._fit(queue.topic, now):
                await self._send(queue, now)

    def _fit(self, topic: TopicQueue, now: float) -> bool:
        """Return whether a topic's queues are its partitions as the producer knows them now; adjust or look them up."""
        known = self._producer.client.cluster.partitions_for_topic(self._options.kafka_name(topic.name))
        if known is None:  # A new producer, or a topic that was deleted: waiting for it here would hold up the others.
            if topic.bytes:
                self._resolver.soon(topic, now)
            return False
        if topic.partitions and len(known) != len(topic.partitions):
            if not self.backlog.place(topic, len(known)):
                self._give_up(f"{topic.name} was created again with fewer partitions")
                return False
            self._wake.set()
        return True

    async def _send(self, queue: SendQueue, now: float) -> None:
        producer, exactly = self._producer, queue.exactly
        batch = queue.fill(producer.create_batch(), self._encode, now)
        if batch.dropped:
            self.backlog.release(queue.topic, batch.dropped)
        if not batch.items:
            return
        queue.in_flight = batch
        if len(batch.items) < exactly:
            self._lost(queue, batch, Problem(AWAY, "a batch that may be written cannot be made again as it was"))
            return
        try:
            async with asyncio.timeout(self._policy.resolve_s):
                kafka_name = self._options.kafka_name(queue.topic.name)
                future = await producer.send_batch(batch.builder, kafka_name, partition=queue.partition)
        except CLIENT_ERRORS as exc:  # it has no numbers yet
            self._try_later(queue, batch, problem_of(exc, producer.client), is_exact=batch.is_exact)
        else:
            future.add_done_callback(partial(self._answered, producer, queue, batch))

    # -- answers ------------------------------------------------------------------------------------------------

    def _answered(self, producer: Any, queue: SendQueue, batch: InFlight, future: asyncio.Future[Any]) -> None:
        """Settle a batch that this producer has sent, unless the producer was given up before."""
        exc = asyncio.CancelledError() if future.cancelled() else future.exception()
        if batch.is_abandoned:
            return
        if exc is None:
            self._acknowledged(queue, batch, future.result().offset)
        elif isinstance(exc, Refused):
            self._refused(producer, queue, batch, exc)
        else:
            self._lost(queue, batch, problem_of(exc, producer.client))

    def _acknowledged(self, queue: SendQueue, batch: InFlight, offset: int) -> None:
        queue.in_flight, topic = None, queue.topic
        if queue.pending:
            self._wake.set()
        self._heard()
        self.backlog.works(topic, queue.partition)
        queue.backoff.reset()
        METRICS.counter("gateway_kafka_written_events").labels(topic.name).inc(len(batch.items))
        if self._on_written is not None:
            self._on_written(topic.name, queue.partition, offset, [item[0] for item in batch.items])
        self.backlog.release(topic, batch.size)  # before tickets are called, who may ask what is held
        for ticket, items in groupby(batch.items, key=itemgetter(2)):
            ticket.done(sum(1 for _ in items))

    def _refused(self, producer: Any, queue: SendQueue, batch: InFlight, refused: Refused) -> None:
        """Handle a batch that the broker did not write: it keeps its place, and the next batch gets its numbers."""
        self._heard()
        topic, problem = queue.topic, problem_of(refused.error)
        if problem.word == AWAY:  # an error without a word of its own; a broker that answers is available
            problem = Problem(REFUSED, problem.text)
        is_exact = batch.is_exact or not refused.is_certain
        is_too_large = isinstance(refused.error, TOO_LARGE)
        if is_too_large and is_exact:  # it may be written, and can be sent again only in parts
            self._lost(queue, batch, problem)
            return
        rewind(producer, self._options.kafka_name(topic.name), queue.partition, len(batch.items))
        if is_too_large and len(batch.items) > 1:
            topic.max_batch_bytes = max(1, (topic.max_batch_bytes or self._policy.max_batch_bytes) // 2)
            _log.info("kafka.batch_too_large", topic=topic.name, records=len(batch.items), next=topic.max_batch_bytes)
            self._put_back(queue, batch, is_exact=False)
        elif is_too_large and self._on_poison is not None:
            queue.in_flight, queue.poison = None, batch.items[0]
            self._failures.inc()
            task = asyncio.create_task(self._dead_letter(queue, self._on_poison), name=f"kafka-poison-{topic.name}")
            self._poisoned.add(task)
            task.add_done_callback(self._poisoned.discard)
        else:
            self._try_later(queue, batch, problem, is_exact=is_exact)

    def _try_later(self, queue: SendQueue, batch: InFlight, problem: Problem, *, is_exact: bool) -> None:
        """Put a batch back that is not written, to be sent again after a pause; ``is_exact``: as it was."""
        queue.retry_at = time.monotonic() + queue.backoff.next_s()
        self._put_back(queue, batch, is_exact=is_exact)
        self.backlog.trouble(queue.topic, queue.partition, problem)

    def _lost(self, queue: SendQueue, batch: InFlight, problem: Problem) -> None:
        """Put a batch back of which it is not known whether it is written; its producer is given up."""
        self._give_up(str(problem))
        self._try_later(queue, batch, problem, is_exact=False)

    def _put_back(self, queue: SendQueue, batch: InFlight, *, is_exact: bool) -> None:
        queue.put_back(batch, is_exact=is_exact)
        self._failures.inc()
        self._wake.set()

    async def _dead_letter(self, queue: SendQueue, on_poison: OnPoison) -> None:
        """Store a record that is too large for any broker elsewhere, before any record behind it is sent."""
        assert queue.poison is not None
        entry, _, ticket = queue.poison
        await on_poison(entry, ticket, f"{len(entry.value)} bytes are more than the broker accepts")
        queue.poison = None
        self.backlog.release(queue.topic, weight(entry))
        ticket.done(1)
        self._wake.set()

    # -- watching -----------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Check that records are acknowledged, by the age of those in flight, as aiokafka retries silently."""
        self.backlog.drop_cancelled()
        for topic in self.backlog.topics.values():
            self._fit(topic, now)
            if not topic.bytes and now - topic.troubled_at > self._policy.forget_s:
                # Its records were given up, so no acknowledgement will show that it works again.
                self.backlog.works(topic)
        self._resolver.look(list(self.backlog.topics))
        if self._failure is None:
            self._find_stalled(now)

    def _find_stalled(self, now: float) -> None:
        """Name what gets no answer: Kafka, or single topics while others get some, as one that has no leader."""
        if not (in_flight := self.backlog.in_flight()):
            return
        health = self._producer.client.health
        refused = {self._options.own_name(name): problem for name, problem in health.refused().items()}
        waited_s = now - max(self._last_answer, min(batch.sent_at for batch in in_flight), health.throttled_until)
        if waited_s <= 0 or refused.keys() >= {batch.items[0][0].topic for batch in in_flight}:
            self._heard()  # a quota delays us, or each topic has its own problem
        elif waited_s > self._policy.stalled_s:
            self._away(problem_of(TimeoutError(f"nothing acknowledged for {waited_s:.0f} s"), self._producer.client))
        if self.is_up:
            self._name_stalled(now, max(self.up_since, health.throttled_until), refused)
        elif self._staleness.is_stale(waited_s, now):
            self._give_up("a new client can connect and this one cannot: its addresses are stale")

    def _name_stalled(self, now: float, since: float, refused: Mapping[str, Problem]) -> None:
        for topic in self.backlog.topics.values():
            for queue in topic.partitions:
                if queue.in_flight is None:
                    continue
                waited_s = now - max(since, queue.in_flight.sent_at)
                if waited_s > 2 * self._policy.stalled_s:  # it may have waited for the request before its own
                    word, why = AWAY, ""
                    if queue.partition in leaderless(self._producer, self._options.kafka_name(topic.name)):
                        word, why = NOT_ENOUGH_REPLICAS, ": it has no leader"
                    stalled = Problem(word, f"{topic.name}: nothing acknowledged for {waited_s:.0f} s{why}")
                    self.backlog.trouble(topic, queue.partition, refused.get(topic.name) or stalled)
