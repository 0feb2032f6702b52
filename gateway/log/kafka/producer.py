"""Create an aiokafka producer, notice when it is stale, and look up the partitions of topics.

Each topic is looked up in a task of its own: a missing one holds up no other. The incarnation of a topic is requested
before its first record is written: a later answer could be that of a topic that has replaced the first one. After that
it is checked now and then, and the writer continues without an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaProducer, errors

from gateway.clock import within
from gateway.log import gaps
from gateway.log.kafka import topics
from gateway.log.kafka.aiokafka_workarounds import return_refusals
from gateway.log.kafka.backlog import WHOLE, Backlog, TopicQueue
from gateway.log.kafka.errors import CLIENT_ERRORS, CODEC, KafkaAway, Problem, away, problem_of
from gateway.log.kafka.options import OPEN_S, KafkaOptions, WriterPolicy
from gateway.log.kafka.topics import MAX_AGE_S, TopicIds

_ADVICE: Final = (
    "events that were written to the deleted topic are gone, but for those that its readers had read; "
    "what is accepted from now on is written to the new topic"
)
#: Between two requests for a topic that one broker has created and another one does not know yet.
_AGAIN_S: Final = 0.05


async def opened(options: KafkaOptions, policy: WriterPolicy, watch: Callable[[Any], None]) -> Any:
    """Return a connected producer with a producer id, idempotent, ``acks=all``.

    Args:
        options: brokers, compression.
        policy: limits of a batch and of the closing.
        watch: called with the health of its client, before it connects.

    Raises:
        KafkaAway: Kafka is unavailable, or a library for the codec is missing.
    """
    try:
        producer = AIOKafkaProducer(
            **options.client(),
            acks="all",
            enable_idempotence=True,
            max_batch_size=policy.max_batch_bytes,
            compression_type=options.compression,
        )
    except RuntimeError as exc:
        problem = Problem(CODEC, " ".join(str(exc).split()))
        raise KafkaAway(str(problem), problem) from exc
    watch(producer.client.health)
    return_refusals(producer)
    try:
        async with asyncio.timeout(OPEN_S):
            await producer.start()
    except BaseException as exc:
        await within(policy.close_s, producer.stop())
        if not isinstance(exc, CLIENT_ERRORS):
            raise
        raise away(exc, "producer", producer.client) from exc
    return producer


class Staleness:
    """Decides whether the producer must be replaced, because Kafka has moved from the addresses that it knows.

    aiokafka learns the brokers' addresses once and does not use the bootstrap servers again (the subject of KIP-899).
    So when the producer has had no connection for a long time, a new client checks whether it can connect, and since
    when.

    Args:
        away_s: no check before this time: most outages are shorter.
        grace_s: time that the old client has after a new one can connect. It is longer than a request whose connection
            died silently: giving a producer up too early repeats the records that it had sent.
    """

    def __init__(self, options: KafkaOptions, *, away_s: float, grace_s: float) -> None:
        self._options = options
        self._away_s = away_s
        self._grace_s = grace_s
        self._probe: asyncio.Task[bool] | None = None
        self._reachable_since: float | None = None

    def is_stale(self, away_s: float, now: float) -> bool:
        """Return whether to replace the client; called regularly while it has no connection.

        Args:
            away_s: seconds without a connection.
            now: monotonic seconds.
        """
        if away_s < self._away_s:
            self._reachable_since = None
            return False
        if self._probe is None:
            self._probe = asyncio.create_task(is_reachable(self._options), name="kafka-probe")
        elif self._probe.done():
            is_there = not self._probe.cancelled() and self._probe.result()
            self._probe = None
            self._reachable_since = (self._reachable_since or now) if is_there else None
        return self._reachable_since is not None and now - self._reachable_since > self._grace_s

    def reset(self) -> None:
        """Start again for a new client."""
        self._reachable_since = None

    def stop(self) -> None:
        """Stop the checks."""
        if self._probe is not None:
            self._probe.cancel()


async def is_reachable(options: KafkaOptions) -> bool:
    """Return whether a new client gets an answer from the configured addresses."""
    try:
        async with topics.admin(options):
            return True
    except KafkaAway:
        return False


class TopicResolver:
    """Gives a topic's records their partitions, creating the topic if need be.

    Args:
        name: of the writer, for metrics and logs.
        resolve_s: for one question, in seconds.
        on_resolved: called after each answer, whatever it was.
    """

    def __init__(
        self,
        options: KafkaOptions,
        backlog: Backlog,
        *,
        name: str,
        resolve_s: float,
        on_resolved: Callable[[], None],
    ) -> None:
        self._options = options
        self._backlog = backlog
        self._name = name
        self._resolve_s = resolve_s
        self._on_resolved = on_resolved
        self._producer: Any = None
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._ids = TopicIds()
        self._looking: asyncio.Task[None] | None = None

    def use(self, producer: Any) -> None:
        """Ask this producer from now on; None: ask none."""
        for task in self._resolving.values():
            task.cancel()
        self._resolving.clear()
        self._producer = producer

    def stop(self) -> None:
        """Look for recreated topics no more."""
        if self._looking is not None:
            self._looking.cancel()

    # -- partitions ---------------------------------------------------------------------------------------------

    def soon(self, topic: TopicQueue, now: float) -> None:
        """Ask for the partitions, unless a request is under way or it is too early.

        Args:
            topic: its queue.
            now: monotonic time.
        """
        if topic.name not in self._resolving and now >= topic.resolve_at:
            self._resolving[topic.name] = asyncio.create_task(self._resolve(topic), name=f"kafka-topic-{topic.name}")

    async def _resolve(self, topic: TopicQueue) -> None:
        try:
            found = await self._ask(topic)
        except (*CLIENT_ERRORS, KafkaAway) as exc:
            topic.resolve_at = time.monotonic() + topic.resolving.next_s()
            self._backlog.trouble(topic, WHOLE, problem_of(exc, self._producer.client))
        else:
            topic.resolving.reset()
            if not topic.partitions:
                self._backlog.place(topic, len(found))
            self._backlog.works(topic, WHOLE)
        finally:
            self._resolving.pop(topic.name, None)
            self._on_resolved()

    async def _ask(self, topic: TopicQueue) -> Collection[int]:
        kafka_name = self._options.kafka_name(topic.name)
        client = self._producer.client
        async with asyncio.timeout(self._resolve_s):
            await client.add_topic(kafka_name)
            await client.force_metadata_update()
        if client.cluster.partitions_for_topic(kafka_name) is None:
            if kafka_name in client.cluster.unauthorized_topics:
                raise errors.TopicAuthorizationFailedError(kafka_name)
            if not self._options.create_topics:
                raise errors.UnknownTopicOrPartitionError("the topic does not exist")
            await topics.create(self._options, [topic.name])
        async with asyncio.timeout(self._resolve_s):
            found: Collection[int] = await self._producer.partitions_for(kafka_name)
            await self._check(client, [topic.name])
            while not self._ids.knows(kafka_name):
                await asyncio.sleep(_AGAIN_S)
                await self._check(client, [topic.name])
        return found

    # -- recreated topics ---------------------------------------------------------------------------------------

    def look(self, names: Collection[str]) -> None:
        """Begin to look for recreated ones of these topics, unless the last look is under way or was just now."""
        if names and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(
                self._look(self._producer.client, names), name=f"kafka-ids-{self._name}"
            )

    async def _look(self, client: Any, names: Collection[str]) -> None:
        with suppress(*CLIENT_ERRORS):
            await self._check(client, names)
        await asyncio.sleep(MAX_AGE_S)

    async def _check(self, client: Any, names: Collection[str]) -> None:
        for changed in await self._ids.changed(client, [self._options.kafka_name(name) for name in names]):
            gaps.report_deleted([self._name], self._options.own_name(changed), {}, advice=_ADVICE)
