"""The meaning of a broker's answer for a batch, its partition, its topic, and the producer that sent it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import structlog
from aiokafka.structs import RecordMetadata

from gateway.log import Entry, Record
from gateway.log.kafka.aiokafka_workarounds import Refused, rewind
from gateway.log.kafka.backlog import Backlog
from gateway.log.kafka.errors import AWAY, REFUSED, TOO_LARGE, Problem, problem_of
from gateway.log.kafka.options import KafkaOptions, WriterPolicy
from gateway.log.kafka.send_queue import InFlight, SendQueue, Ticket, weight
from gateway.telemetry.metrics import METRICS

_log = structlog.get_logger("gateway.kafka")

#: Called with a record that no broker will accept, and the reason; when it returns, the record is stored elsewhere.
OnPoison = Callable[[Entry | Record, Ticket, str], Awaitable[None]]
#: Called with each acknowledged batch: topic, partition, offset of the first record, the records in order.
OnWritten = Callable[[str, int, int, Sequence[Entry | Record]], None]


class Outcomes:
    """Settles batches.

    Args:
        name: of the client, for metrics.
        on_poison, on_written: see :class:`gateway.log.kafka.writer.KafkaWriter`.
        on_heard: called when a broker has answered, also with an error.
        on_lost: called with the reason when the producer must be given up.
        wake: called when there may be records to send.
    """

    def __init__(
        self,
        options: KafkaOptions,
        policy: WriterPolicy,
        backlog: Backlog,
        name: str,
        *,
        on_poison: OnPoison | None,
        on_written: OnWritten | None,
        on_heard: Callable[[], None],
        on_lost: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        self._options = options
        self._policy = policy
        self._backlog = backlog
        self._on_poison = on_poison
        self._on_written = on_written
        self._on_heard = on_heard
        self._on_lost = on_lost
        self._wake = wake
        self._poisoned: set[asyncio.Task[None]] = set()
        self._failures = METRICS.counter("gateway_kafka_producer_failures").labels(name)

    async def stop(self) -> None:
        """Dead-letter nothing more."""
        poisoned = list(self._poisoned)
        for task in poisoned:
            task.cancel()
        await asyncio.gather(*poisoned, return_exceptions=True)

    def answered(
        self, producer: Any, queue: SendQueue, batch: InFlight, future: asyncio.Future[RecordMetadata]
    ) -> None:
        """Settle a batch that this producer has sent, unless the producer was given up before."""
        exc = asyncio.CancelledError() if future.cancelled() else future.exception()
        if batch.is_abandoned:
            return
        if exc is None:
            self._acknowledged(queue, batch, future.result().offset)
        elif isinstance(exc, Refused):
            self._refused(producer, queue, batch, exc)
        else:
            self.lost(queue, batch, problem_of(exc, producer.client))

    def _acknowledged(self, queue: SendQueue, batch: InFlight, offset: int) -> None:
        queue.in_flight = None
        topic = self._backlog.topic(queue.topic)
        if queue.pending:
            self._backlog.make_ready(queue)
            self._wake()
        self._on_heard()
        self._backlog.works(topic, queue.partition)
        queue.backoff.reset()
        METRICS.counter("gateway_kafka_written_events").labels(topic.name).inc(len(batch.items))
        if self._on_written is not None:
            self._on_written(topic.name, queue.partition, offset, [item[0] for item in batch.items])
        self._backlog.release(topic, batch.size)  # before tickets are called, who may ask what is held
        for ticket, items in groupby(batch.items, key=itemgetter(2)):
            ticket.done(sum(1 for _ in items))

    def _refused(self, producer: Any, queue: SendQueue, batch: InFlight, refused: Refused) -> None:
        """Handle a batch that the broker did not write: it keeps its place, and the next batch gets its numbers."""
        self._on_heard()
        topic = self._backlog.topic(queue.topic)
        problem = problem_of(refused.error)
        if problem.word == AWAY:  # an error without a word of its own; a broker that answers is available
            problem = Problem(REFUSED, problem.text)
        is_exact = batch.is_exact or not refused.is_certain
        is_too_large = isinstance(refused.error, TOO_LARGE)
        if is_too_large and is_exact:  # it may be written, and can be sent again only in parts
            self.lost(queue, batch, problem)
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
            self.wait(queue, batch, problem, is_exact=is_exact)

    def wait(self, queue: SendQueue, batch: InFlight, problem: Problem, *, is_exact: bool) -> None:
        """Put a batch back that is not written, and have it tried again after a pause.

        Args:
            is_exact: it is sent again as it was.
        """
        queue.retry_at = time.monotonic() + queue.backoff.next_s()
        self._put_back(queue, batch, is_exact=is_exact)
        self._backlog.trouble(self._backlog.topic(queue.topic), queue.partition, problem)

    def lost(self, queue: SendQueue, batch: InFlight, problem: Problem) -> None:
        """Put a batch back of which it is not known whether it is written; its producer is given up."""
        self._on_lost(str(problem))
        self.wait(queue, batch, problem, is_exact=False)

    def _put_back(self, queue: SendQueue, batch: InFlight, *, is_exact: bool) -> None:
        queue.in_flight = None
        queue.put_back(batch, is_exact=is_exact)
        self._backlog.make_ready(queue)
        self._failures.inc()
        self._wake()

    async def _dead_letter(self, queue: SendQueue, on_poison: OnPoison) -> None:
        """Store a record that is too large for any broker elsewhere, before any record behind it is sent."""
        assert queue.poison is not None
        entry, _, ticket = queue.poison
        await on_poison(entry, ticket, f"{len(entry.value)} bytes are more than the broker accepts")
        queue.poison = None
        self._backlog.make_ready(queue)
        self._backlog.release(self._backlog.topic(queue.topic), weight(entry))
        ticket.done(1)
        self._wake()
