"""Submitted records that are not acknowledged: a queue for each partition, a budget for each topic. No I/O.

Budgets. A topic may have ``topic_bytes`` while all topics together have less than ``total_bytes``, and ``least_bytes``
in any case. So a topic that cannot be written takes no room from another one, and all together have at most
``total_bytes``, plus ``least_bytes`` for each topic, plus the records of one submit.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import inf
from operator import attrgetter
from typing import Any, Final, Protocol

from gateway.clock import Backoff
from gateway.log import Entry, Headers, Record
from gateway.log.kafka.errors import Problem, first_word
from gateway.log.kafka.health import Availability
from gateway.log.kafka.options import WriterPolicy
from gateway.log.kafka.record_format import STRUCTURED_ONLY, KafkaHeaders, hashes_of, is_plain, partition_of, structured

#: In place of a partition, for what concerns the whole topic: it is missing, or may not be seen.
WHOLE: Final = -1
#: Memory of one waiting record in addition to its bytes: tuples, key, record. Measured 420 to 600.
OVERHEAD_BYTES: Final = 600

Encode = Callable[[bytes, str, Headers], tuple[bytes, KafkaHeaders]]


class Ticket(Protocol):
    """Is called when records are done. Many records may share one ticket."""

    is_cancelled: bool

    def done(self, count: int) -> None:
        """Note that ``count`` more of its records are acknowledged by Kafka, or dead-lettered."""


#: Called with a record that no broker will accept, and the reason; when it returns, the record is stored elsewhere.
OnPoison = Callable[[Entry | Record, Ticket, str], Awaitable[None]]
#: Called with each acknowledged batch: topic, partition, offset of the first record, the records in order.
OnWritten = Callable[[str, int, int, Sequence[Entry | Record]], None]
#: A waiting record: itself, its key in bytes, its ticket.
Waiting = tuple[Entry | Record, bytes, Ticket]


@dataclass(slots=True)
class InFlight:
    """Records that were given to the client together and are acknowledged together.

    Args:
        size: what these records count in memory.
        dropped: what those counted that were dropped while it was filled, as their senders had given up.
        is_exact: it may have been written before, as it is, under the same numbers.
    """

    items: list[Waiting]
    builder: Any
    size: int
    dropped: int
    sent_at: float
    is_exact: bool = False
    is_abandoned: bool = False


@dataclass(slots=True, eq=False)
class SendQueue:
    """One partition. At most one batch is with the client at a time, see :mod:`gateway.log.kafka.writer`.

    Args:
        exactly: the next batch has so many records, no more and no fewer: the broker may have them already, and
            recognises them by their numbers. 0: as many as fit.
        poison: the record that no broker takes, while it is stored elsewhere; nothing behind it is sent before that.
        retry_at: the monotonic time before which nothing is sent.
    """

    topic: TopicQueue
    partition: int
    pending: deque[Waiting] = field(default_factory=deque)
    in_flight: InFlight | None = None
    exactly: int = 0
    poison: Waiting | None = None
    retry_at: float = 0.0
    #: Between batches that the broker refuses. A probe is one batch; ten times less would be a steady load on a broker
    #: for nothing, ten times more a minute in which a right that was granted is not noticed.
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, last_s=5.0))

    def put_back(self, batch: InFlight, *, is_exact: bool) -> None:
        """Put a batch that failed back to the head, in order; ``is_exact``: the next batch has the same records."""
        self.in_flight = None
        self.pending.extendleft(reversed(batch.items))
        self.exactly = len(batch.items) if is_exact else 0

    def fill(self, builder: Any, encode: Encode | None, now: float) -> InFlight:
        """Move records from the head of the queue into an empty batch until it is full.

        Args:
            encode: how values and headers are written; None for structured mode, which needs little work.
            now: monotonic time.
        """
        taken: list[Waiting] = []
        pending = self.pending
        append = builder.append
        registered, limit = self.topic.registered, self.topic.max_batch_bytes
        plain = [*STRUCTURED_ONLY, *registered] if registered else STRUCTURED_ONLY
        exactly, self.exactly = self.exactly, 0
        size = dropped = 0
        now_ms = int(time.time() * 1000)
        while pending and not (exactly and len(taken) == exactly):
            item = pending[0]
            entry, key, ticket = item
            value = entry.value
            if ticket.is_cancelled and not exactly:
                pending.popleft()
                dropped += weight(entry)
                ticket.done(1)
                continue
            if limit and taken and not exactly and builder.size() + len(value) + len(key) > limit:
                break
            if encode is not None:
                value, headers = encode(value, entry.id, entry.headers)
            elif is_plain(value, entry.id, entry.headers):
                headers = plain
            else:
                value, headers = structured(value, entry.id, entry.headers)
            if registered and headers is not plain:
                headers = [*headers, *registered]
            # Kafka's time is that of the journal: a seek to a time means the same on both logs. But not one that is
            # still to come, of a clock that was ahead: brokers refuse more than an hour of that, until it has come.
            timestamp = min(int(entry.appended_at * 1000), now_ms) if isinstance(entry, Record) else now_ms
            if append(key=key, value=value, timestamp=timestamp, headers=headers) is None:
                break
            pending.popleft()
            taken.append(item)
            size += len(entry.value) + OVERHEAD_BYTES
        return InFlight(taken, builder, size, dropped, now, is_exact=bool(exactly))


@dataclass(slots=True, eq=False)
class TopicQueue:
    """One topic; ``partitions`` is empty until they are known.

    Args:
        name: without the prefix.
        registered: the header with the id of its schema in a registry; empty where none is configured.
        unplaced: records that came before the partitions were known.
        bytes: what waits or is on its way; 0 if nothing does.
        is_full: there is no room for more.
        max_batch_bytes: learned from a broker that refused a batch for its size; 0: no limit but ours.
        troubles: why nothing is written, by partition, or :data:`WHOLE`.
        troubled_at: the monotonic time of the newest trouble.
        resolve_at: the monotonic time before which its partitions are not asked for.
    """

    name: str
    registered: KafkaHeaders = field(default_factory=list)
    partitions: list[SendQueue] = field(default_factory=list)
    unplaced: deque[Waiting] = field(default_factory=deque)
    bytes: int = 0
    is_full: bool = False
    max_batch_bytes: int = 0
    troubles: dict[int, Problem] = field(default_factory=dict)
    troubled_at: float = 0.0
    resolve_at: float = 0.0
    #: Between looks for its partitions, which delay no other partition.
    resolving: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, last_s=2.0))

    @property
    def trouble(self) -> Problem | None:
        """The reason why not all of it can be written; None when it can."""
        if not self.troubles:
            return None
        first = first_word(problem.word for problem in self.troubles.values())
        numbers = sorted(number for number, problem in self.troubles.items() if problem.word == first)
        problem = self.troubles[numbers[0]]
        if numbers[0] == WHOLE or len(numbers) == len(self.partitions):
            return problem
        which = f"partition {numbers[0]}" if len(numbers) == 1 else f"partitions {', '.join(map(str, numbers))}"
        return Problem(first, f"{which}: {problem.text}")


class Backlog:
    """Records in their queues. The submitter keeps the limit: it calls :meth:`room` before it submits.

    Args:
        availability: of the client: shows why topics cannot be written.
        registered: the header with the id of a topic's schema, by topic.
        on_change: called when a topic that was full has room again, and when a topic can no longer be written, or can
            be written again.
    """

    def __init__(
        self,
        policy: WriterPolicy,
        availability: Availability,
        registered: Mapping[str, tuple[str, bytes]] | None = None,
        on_change: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._policy = policy
        self._availability = availability
        self._registered = registered or {}
        self._on_change = on_change
        self.topics: dict[str, TopicQueue] = {}
        self.bytes = 0
        self._freed = asyncio.Event()

    # -- room ---------------------------------------------------------------------------------------------------

    def room(self, topic: TopicQueue) -> int:
        """Return the bytes that a topic may take now; 0 while it is full, until ``on_change`` is called."""
        left = self._left(topic)
        topic.is_full = topic.is_full or not left
        return left

    def _left(self, topic: TopicQueue) -> int:
        """Return the remaining budget, if it is worth using. A full topic has none until much of it is free."""
        limit = self._policy.topic_bytes if self.bytes < self._policy.total_bytes else self._policy.least_bytes
        left = (limit * 3 // 4 if topic.is_full else limit) - topic.bytes
        return left if left > limit // 8 else 0

    async def wait_for_room(self, names: Collection[str]) -> None:
        """Return when all of these topics have room."""
        while not all(self.room(self.topic(name)) for name in names):
            await self._wait()

    async def wait_until_written(self) -> None:
        """Return when all records are done, except those of topics that cannot be written."""
        while any(topic.bytes and not topic.troubles for topic in self.topics.values()):
            await self._wait()

    async def _wait(self) -> None:
        self._freed.clear()
        await self._freed.wait()

    def changed(self, topic: str) -> None:
        """Wake the waiting tasks: a topic, or with an empty name Kafka, can no longer be written, or can be again."""
        self._freed.set()
        self._on_change(topic)

    def release(self, topic: TopicQueue, size: int) -> None:
        """Release bytes of records that are done."""
        was_short = self.bytes >= self._policy.total_bytes
        topic.bytes -= size
        self.bytes -= size
        self._freed.set()
        # When the total is below its bound again, there is room for topics of which nothing was released just now.
        is_enough = was_short and self.bytes < self._policy.total_bytes
        for one in self.topics.values() if is_enough else (topic,):
            if one.is_full and self._left(one):
                one.is_full = False
                self._on_change(one.name)

    # -- troubles -----------------------------------------------------------------------------------------------

    def trouble(self, topic: TopicQueue, partition: int, problem: Problem) -> None:
        """Note why a partition, or the topic as a whole (:data:`WHOLE`), is not written."""
        is_new = not topic.troubles
        topic.troubles[partition] = problem
        topic.troubled_at = time.monotonic()
        self._show(topic)
        if is_new:
            self.changed(topic.name)

    def works(self, topic: TopicQueue, partition: int | None = None) -> None:
        """Note that a partition, or the topic as a whole, is written again; None: nothing is in its way."""
        if not topic.troubles:
            return
        if partition is None:
            topic.troubles.clear()
        else:
            topic.troubles.pop(partition, None)
        self._show(topic)
        if not topic.troubles:
            self.changed(topic.name)

    def _show(self, topic: TopicQueue) -> None:
        if (trouble := topic.trouble) is not None:
            self._availability.problem(topic.name, trouble)
        else:
            self._availability.solved(topic.name)

    # -- records ------------------------------------------------------------------------------------------------

    def topic(self, name: str) -> TopicQueue:
        """Return a topic's queue; create it if it is missing."""
        topic = self.topics.get(name)
        if topic is None:
            registered = [self._registered[name]] if name in self._registered else []
            topic = self.topics[name] = TopicQueue(name, registered)
        return topic

    def submit(self, entries: Sequence[Entry | Record], ticket: Ticket) -> None:
        """Queue entries in order. The hot path: the keys of a topic are hashed together."""
        for name, run in groupby(entries, key=attrgetter("topic")):
            self._submit(self.topic(name), list(run), ticket)

    def _submit(self, topic: TopicQueue, entries: Sequence[Entry | Record], ticket: Ticket) -> None:
        keys = [entry.key.encode() for entry in entries]
        size = len(entries) * OVERHEAD_BYTES
        if queues := topic.partitions:
            count = len(queues)
            for entry, key, hashed in zip(entries, keys, hashes_of(keys), strict=True):
                size += len(entry.value)
                queues[hashed % count].pending.append((entry, key, ticket))
        else:
            for entry, key in zip(entries, keys, strict=True):
                size += len(entry.value)
                topic.unplaced.append((entry, key, ticket))
        topic.bytes += size
        self.bytes += size
        topic.is_full = topic.is_full or not self._left(topic)

    def drop_cancelled(self) -> None:
        """Drop records whose senders were cancelled: no task waits for them, and they use room."""
        for topic in self.topics.values():
            topic.unplaced, size = _without_cancelled(topic.unplaced)
            for queue in topic.partitions:
                if not queue.exactly:
                    queue.pending, dropped = _without_cancelled(queue.pending)
                    size += dropped
            if size:
                self.release(topic, size)

    # -- partitions ---------------------------------------------------------------------------------------------

    def place(self, topic: TopicQueue, partitions: int) -> bool:
        """Create queues for all partitions. If there are more than before, waiting records stay in their queues.

        If there are fewer (the topic was deleted and created again), waiting records move to the partitions of their
        keys, in order. That is impossible while a batch is in flight: then return False and change nothing.
        """
        if partitions < len(topic.partitions):
            if any(queue.in_flight or queue.poison for queue in topic.partitions):
                return False
            for queue in reversed(topic.partitions):
                topic.unplaced.extendleft(reversed(queue.pending))
                queue.pending.clear()  # a task may be about to send it
            topic.partitions = []
            topic.troubles.clear()
        for number in range(len(topic.partitions), partitions):
            topic.partitions.append(SendQueue(topic, number))
        unplaced, topic.unplaced = topic.unplaced, deque()
        for item in unplaced:
            topic.partitions[partition_of(item[1], len(topic.partitions))].pending.append(item)
        return True

    def due(self, now: float) -> list[SendQueue]:
        """Return the queues with records to send, no batch in flight, and no retry that is due later."""
        return [
            queue
            for queue in self._queues()
            if queue.pending and queue.in_flight is None and queue.poison is None and queue.retry_at <= now
        ]

    def next_due(self, now: float) -> float:
        """Return the monotonic time of the next retry of a queue or a topic; infinity if there is none."""
        troubled = [topic for topic in self.topics.values() if topic.troubles]
        times = [queue.retry_at for topic in troubled for queue in topic.partitions if queue.pending]
        times += [topic.resolve_at for topic in troubled if topic.unplaced]
        return min((at for at in times if at > now), default=inf)

    def in_flight(self) -> list[InFlight]:
        """Return the batches that are with the client."""
        return [queue.in_flight for queue in self._queues() if queue.in_flight is not None]

    def take_back(self) -> None:
        """Put unanswered batches back into their queues: their client is given up, and with it the numbers it gave."""
        for queue in self._queues():
            queue.exactly = 0
            if (batch := queue.in_flight) is not None:
                batch.is_abandoned = True
                queue.put_back(batch, is_exact=False)

    def _queues(self) -> Iterator[SendQueue]:
        """Yield those in which something waits or is in flight, and others."""
        for topic in self.topics.values():
            if topic.bytes:
                yield from topic.partitions


def weight(entry: Entry | Record) -> int:
    """Return what a waiting record counts in memory, in bytes."""
    return len(entry.value) + OVERHEAD_BYTES


def _without_cancelled(items: deque[Waiting]) -> tuple[deque[Waiting], int]:
    """Return those whose senders still wait, and what the others counted in memory; their tickets are called."""
    size = 0
    for entry, _, ticket in items:
        if ticket.is_cancelled:
            size += weight(entry)
            ticket.done(1)
    return (deque(item for item in items if not item[2].is_cancelled) if size else items), size
