"""Submitted records that are not acknowledged: a queue and a budget for each topic. No I/O.

Budgets. A topic may have ``topic_bytes`` while all topics together have less than ``total_bytes``, and ``least_bytes``
in any case. So a topic that cannot be written takes no room from another one, and all together have at most
``total_bytes``, plus ``least_bytes`` for each topic, plus the records of one submit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Final

from gateway.clock import Backoff
from gateway.log import Entry, Record
from gateway.log.kafka.errors import Problem, first_word
from gateway.log.kafka.health import Availability
from gateway.log.kafka.options import WriterPolicy
from gateway.log.kafka.partitioner import hashes_of, partition_of
from gateway.log.kafka.record_format import KafkaHeaders
from gateway.log.kafka.send_queue import OVERHEAD_BYTES, InFlight, SendQueue, Ticket, Waiting, without_cancelled

#: In place of a partition, for what concerns the whole topic: it is missing, or may not be seen.
WHOLE: Final = -1


@dataclass(slots=True)
class TopicQueue:
    """One topic; ``partitions`` is empty until they are known.

    Args:
        name: without the prefix.
        registered: see :class:`.SendQueue`.
        unplaced: records that came before the partitions were known.
        bytes: what waits or is on its way.
        is_full: there is no room for more.
        max_batch_bytes: learned from a broker that refused a batch for its size; 0: no limit but ours.
        troubles: why nothing is written, by partition, or :data:`WHOLE`.
        troubled_at: the monotonic time of the newest trouble.
        resolve_at: the monotonic time before which its partitions are not asked for.
    """

    name: str
    registered: KafkaHeaders = field(default_factory=list)
    partitions: list[SendQueue] = field(default_factory=list)
    unplaced: list[Waiting] = field(default_factory=list)
    bytes: int = 0
    is_full: bool = False
    max_batch_bytes: int = 0
    troubles: dict[int, Problem] = field(default_factory=dict)
    troubled_at: float = 0.0
    resolve_at: float = 0.0
    #: Between looks for its partitions, which delay no other partition.
    resolving: Backoff = field(default_factory=lambda: Backoff(first_s=0.2, last_s=2.0))

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it waits or is in flight."""
        return not self.unplaced and all(queue.is_idle for queue in self.partitions)

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

    def drop_cancelled(self) -> int:
        """Forget what waits and whose senders have given up; return how much that was in bytes."""
        self.unplaced, size = without_cancelled(self.unplaced)
        return size + sum(queue.drop_cancelled() for queue in self.partitions)


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
        #: Queues that may have something to send, in the order in which they got it.
        self.ready: dict[tuple[str, int], SendQueue] = {}
        self.bytes = 0
        self._freed = asyncio.Event()

    # -- room ---------------------------------------------------------------------------------------------------

    def room(self, name: str) -> int:
        """Return the bytes that a topic may take now; 0 while it is full, until ``on_change`` is called."""
        topic = self.topic(name)
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
        while not all(map(self.room, names)):
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
                queue = queues[hashed % count]
                if not queue.pending:
                    self.make_ready(queue)
                queue.pending.append((entry, key, ticket))
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
            if size := topic.drop_cancelled():
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
            topic.unplaced = [item for queue in topic.partitions for item in queue.pending] + topic.unplaced
            for queue in topic.partitions:
                queue.pending.clear()  # a task may be about to send it
            topic.partitions = []
            topic.troubles.clear()
        for number in range(len(topic.partitions), partitions):
            topic.partitions.append(SendQueue(topic.name, number, topic.registered))
        unplaced, topic.unplaced = topic.unplaced, []
        for item in unplaced:
            queue = topic.partitions[partition_of(item[1], len(topic.partitions))]
            queue.pending.append(item)
            self.make_ready(queue)
        return True

    def make_ready(self, queue: SendQueue) -> None:
        """Mark a queue as one that may have records to send."""
        self.ready[queue.topic, queue.partition] = queue

    def take_ready(self, now: float) -> list[SendQueue]:
        """Return queues with records to send and no batch in flight; they need a new :meth:`make_ready`.

        Queues whose retry is not due stay marked.
        """
        ready, self.ready = self.ready, {}
        due = []
        for key, queue in ready.items():
            if queue.retry_at > now:
                self.ready[key] = queue
            elif queue.is_ready:
                due.append(queue)
        return due

    def next_due(self) -> float | None:
        """Return the monotonic time of the next retry of a queue or a topic; None if there is none."""
        times = [queue.retry_at for queue in self.ready.values()]
        times += [topic.resolve_at for topic in self.topics.values() if topic.unplaced]
        return min(times, default=None)

    def in_flight(self) -> list[InFlight]:
        """Return the batches that are with the client."""
        return [queue.in_flight for queue in self._queues() if queue.in_flight is not None]

    def take_back(self) -> None:
        """Put unanswered batches back into their queues: their client is given up."""
        for queue in self._queues():
            queue.take_back()
            if queue.pending:
                self.make_ready(queue)

    def _queues(self) -> Iterator[SendQueue]:
        for topic in self.topics.values():
            yield from topic.partitions
