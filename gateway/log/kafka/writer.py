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
per partition no other batch is behind it, and its numbers can be taken back; see
:func:`.aiokafka_workarounds.rewind`.
aiokafka has one request per broker under way in any case, so this costs no throughput.

A topic that cannot be written (missing, no right, too few replicas in sync, a record refused) waits in a queue of its
own, within a budget of its own (:mod:`.backlog`). It costs the others a probe: one batch a partition every few seconds.

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
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer

from gateway.clock import Backoff, within
from gateway.log import Entry, Record
from gateway.log.kafka import record_format
from gateway.log.kafka.aiokafka_workarounds import close_producer, leaderless, return_refusals
from gateway.log.kafka.backlog import Backlog, TopicQueue
from gateway.log.kafka.errors import AWAY, CLIENT_ERRORS, CODEC, NOT_ENOUGH_REPLICAS, Problem, problem_of
from gateway.log.kafka.health import CONNECTION, Availability, State
from gateway.log.kafka.options import OPEN_S, KafkaOptions, WriterPolicy
from gateway.log.kafka.outage import limit_logs
from gateway.log.kafka.outcomes import OnPoison, OnWritten, Outcomes
from gateway.log.kafka.send_queue import SendQueue, Ticket
from gateway.log.kafka.topic_resolver import TopicResolver
from gateway.log.kafka.topics import Staleness
from gateway.telemetry import redaction

_log = structlog.get_logger("gateway.kafka")


class KafkaWriter:
    """Appends to Kafka. One per process and purpose; all methods are called on its event loop.

    Args:
        options: brokers, names, format.
        name: label in logs and metrics, such as ``publisher``.
        on_poison: see :data:`OnPoison`; without it such a record holds its partition, and the state shows it.
        on_written: called with each acknowledged batch: topic, partition, offset of the first record, the records in
            order. Must be quick. The offset is -1 if the broker only answered that it had the batch already.
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
        self._availability = Availability(name)
        self._backlog = Backlog(self._policy, self._availability, options.schema_ids, on_change)
        self._wake = asyncio.Event()
        self._resolver = TopicResolver(
            options, self._backlog, name=name, resolve_s=self._policy.resolve_s, on_resolved=self._wake.set
        )
        self._outcomes = Outcomes(
            options,
            self._policy,
            self._backlog,
            name,
            on_poison=on_poison,
            on_written=on_written,
            on_heard=self._heard,
            on_lost=self._give_up,
            wake=self._wake.set,
        )
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
                    await self._backlog.wait_until_written()
        self._is_stopping = True
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
            self._runner = None
        await self._outcomes.stop()
        self._availability.close()

    @property
    def state(self) -> State:
        """The state that ``/readyz`` and the console show."""
        return self._availability.state

    @property
    def is_up(self) -> bool:
        """Whether Kafka as a whole can be reached, independently of single topics."""
        return CONNECTION not in self._availability.state.problems

    # -- submitting ---------------------------------------------------------------------------------------------

    def room(self, topic: str) -> int:
        """Return the bytes that a topic may take now; 0 or less while it is full, until ``on_change`` is called."""
        return self._backlog.room(topic)

    async def wait_for_room(self, names: Collection[str]) -> None:
        """Return when each of these topics has room for more."""
        await self._backlog.wait_for_room(names)

    def held(self, topic: str) -> int:
        """Return the bytes of a topic that wait or are on their way, with what they cost in memory besides."""
        return self._backlog.topic(topic).bytes

    def trouble(self, topic: str) -> Problem | None:
        """Return why not all of a topic can be written; None when it can, or nothing is known."""
        return self._backlog.topic(topic).trouble

    def submit(self, entries: Sequence[Entry | Record], ticket: Ticket) -> None:
        """Queue entries in order. Never blocks: the caller checks :meth:`room` before.

        Args:
            entries: of any topics.
            ticket: called when they are done.
        """
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
            self._resolver.stop()

    async def _open(self) -> Any:
        """Return a connected producer with a producer id, idempotent, `acks=all`; None while Kafka is unavailable."""
        try:
            producer = AIOKafkaProducer(
                **self._options.client(),
                acks="all",
                enable_idempotence=True,
                max_batch_size=self._policy.max_batch_bytes,
                compression_type=self._options.compression,
            )
        except RuntimeError as exc:  # a library for the codec is missing
            self._away(Problem(CODEC, " ".join(str(exc).split())))
            return None
        self._availability.watch(producer.client.health)
        return_refusals(producer)
        try:
            async with asyncio.timeout(OPEN_S):
                await producer.start()
        except BaseException as exc:
            await within(self._policy.close_s, producer.stop())
            if not isinstance(exc, CLIENT_ERRORS):
                raise
            self._away(problem_of(exc, producer.client))
            return None
        self._failure = None
        self._staleness.reset()
        self._resolver.use(producer)
        self._heard()
        return producer

    async def _retire(self) -> None:
        """Requeue the unacknowledged batches and close."""
        self._resolver.use(None)
        self._backlog.take_back()
        producer, self._producer = self._producer, None
        await close_producer(producer, self._policy.close_s)

    def _heard(self) -> None:
        """Note that a broker answered."""
        self._last_answer = time.monotonic()
        self._reached()

    def _reached(self) -> None:
        if not self.is_up:
            self.up_since = time.monotonic()
            self._availability.solved(CONNECTION)
            self._backlog.changed("")

    def _away(self, problem: Problem) -> None:
        was_up = self.is_up
        self._availability.problem(CONNECTION, problem)
        if was_up:
            self._backlog.changed("")

    def _give_up(self, reason: str) -> None:
        """Send nothing more with this producer."""
        self._failure = reason
        self._wake.set()

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
                if not self._backlog.in_flight() or now - failed_at > self._policy.settle_s:
                    return
            if now - looked_at >= self._policy.look_s:
                looked_at = now
                self._look(now)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next_look(now)):
                    await self._wake.wait()

    def _next_look(self, now: float) -> float:
        """Return the seconds until the next retry or the regular look."""
        due = self._backlog.next_due()
        return min(self._policy.look_s, max(0.0, due - now)) if due is not None and due > now else self._policy.look_s

    async def _send_ready(self, now: float) -> None:
        for topic in self._backlog.topics.values():
            if topic.unplaced:
                self._resolver.soon(topic, now)
        for queue in self._backlog.take_ready(now):
            topic = self._backlog.topic(queue.topic)
            if self._failure is not None:
                self._backlog.make_ready(queue)
            elif self._resolver.partitions(topic) is None:
                # A new producer, or a topic that was deleted: waiting for it here would hold up the others.
                self._backlog.make_ready(queue)
                self._resolver.soon(topic, now)
            elif self._fit(topic):
                await self._send(queue, now)
            else:
                self._backlog.make_ready(queue)

    def _fit(self, topic: TopicQueue) -> bool:
        """See :meth:`.TopicResolver.fit`. False: this producer was given up."""
        if self._resolver.fit(topic):
            return True
        self._give_up(f"{topic.name} was created again with fewer partitions")
        return False

    async def _send(self, queue: SendQueue, now: float) -> None:
        topic = self._backlog.topic(queue.topic)
        producer, exactly = self._producer, queue.exactly
        batch = queue.fill(producer.create_batch(), self._encode, now, topic.max_batch_bytes)
        if batch.dropped:
            self._backlog.release(topic, batch.dropped)
        if not batch.items:
            return
        queue.in_flight = batch
        if len(batch.items) < exactly:
            self._outcomes.lost(
                queue, batch, Problem(AWAY, "a batch that may be written cannot be made again as it was")
            )
            return
        try:
            async with asyncio.timeout(self._policy.resolve_s):
                future = await producer.send_batch(
                    batch.builder, self._options.kafka_name(topic.name), partition=queue.partition
                )
        except CLIENT_ERRORS as exc:  # it has no numbers yet
            self._outcomes.wait(queue, batch, problem_of(exc, producer.client), is_exact=batch.is_exact)
        else:
            future.add_done_callback(partial(self._outcomes.answered, producer, queue, batch))

    # -- watching -----------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Check that records are acknowledged, by the age of those in flight, as aiokafka retries silently."""
        self._backlog.drop_cancelled()
        for topic in self._backlog.topics.values():
            self._fit(topic)
            if not topic.is_idle and self._resolver.partitions(topic) is None:
                self._resolver.soon(topic, now)  # deleted, while all that it has is on its way
            if topic.is_idle and now - topic.troubled_at > self._policy.forget_s:
                # Its records were given up, so no acknowledgement will show that it works again.
                self._backlog.works(topic)
        self._resolver.look(list(self._backlog.topics))
        if self._failure is None:
            self._find_stalled(now)

    def _find_stalled(self, now: float) -> None:
        """Name what gets no answer: Kafka, or single topics while others get some, as one that has no leader."""
        in_flight = self._backlog.in_flight()
        if not in_flight:
            return
        health = self._producer.client.health
        refused = {self._options.own_name(name): problem for name, problem in health.refused().items()}
        waited_s = now - max(self._last_answer, min(batch.sent_at for batch in in_flight), health.throttled_until)
        if waited_s <= 0 or refused.keys() >= {batch.items[0][0].topic for batch in in_flight}:
            self._reached()  # brokers answer: a quota delays us, or each topic has its own problem
        elif waited_s > self._policy.stalled_s:
            stalled = TimeoutError(f"nothing acknowledged for {waited_s:.0f} s")
            self._away(problem_of(stalled, self._producer.client))
        if self.is_up:
            self._name_stalled(now, max(self.up_since, health.throttled_until), refused)
        elif self._staleness.is_stale(waited_s, now):
            self._give_up("a new client can connect and this one cannot: its addresses are stale")

    def _name_stalled(self, now: float, since: float, refused: Mapping[str, Problem]) -> None:
        for topic in self._backlog.topics.values():
            for queue in topic.partitions:
                if queue.in_flight is None:
                    continue
                waited_s = now - max(since, queue.in_flight.sent_at)
                if waited_s > 2 * self._policy.stalled_s:  # it may have waited for the request before its own
                    problem = refused.get(topic.name) or self._stalled(queue, waited_s)
                    self._backlog.trouble(topic, queue.partition, problem)

    def _stalled(self, queue: SendQueue, waited_s: float) -> Problem:
        if queue.partition in leaderless(self._producer, self._options.kafka_name(queue.topic)):
            return Problem(NOT_ENOUGH_REPLICAS, f"nothing acknowledged for {waited_s:.0f} s: it has no leader")
        return Problem(AWAY, f"{queue.topic}: nothing acknowledged for {waited_s:.0f} s")
