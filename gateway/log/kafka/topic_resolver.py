"""Learns the partitions of topics that are written to, each in a task of its own: a missing one holds up nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

from aiokafka import errors

from gateway.log.kafka import topics
from gateway.log.kafka.backlog import Backlog
from gateway.log.kafka.errors import CLIENT_ERRORS, KafkaAway, problem_of
from gateway.log.kafka.options import KafkaOptions
from gateway.log.kafka.recreations import Recreations
from gateway.log.kafka.topic_queue import WHOLE, TopicQueue
from gateway.log.kafka.troubles import Troubles


class TopicResolver:
    """Gives a topic's records their partitions, creating the topic if need be.

    Args:
        resolve_s: for one question, in seconds.
        on_resolved: called after each answer, whatever it was.
    """

    def __init__(
        self,
        options: KafkaOptions,
        backlog: Backlog,
        troubles: Troubles,
        recreations: Recreations,
        *,
        resolve_s: float,
        on_resolved: Callable[[], None],
    ) -> None:
        self._options = options
        self._backlog = backlog
        self._troubles = troubles
        self._recreations = recreations
        self._resolve_s = resolve_s
        self._on_resolved = on_resolved
        self._producer: Any = None
        self._resolving: dict[str, asyncio.Task[None]] = {}

    def use(self, producer: Any) -> None:
        """Ask this producer from now on, or nobody."""
        for task in self._resolving.values():
            task.cancel()
        self._resolving.clear()
        self._producer = producer

    def partitions(self, topic: TopicQueue) -> Collection[int] | None:
        """Return the partitions as the producer knows them at this moment."""
        found: Collection[int] | None = self._producer.client.cluster.partitions_for_topic(
            self._options.kafka_name(topic.name)
        )
        return found

    def leaderless(self, topic: TopicQueue) -> list[int]:
        """Return the partitions that have no leader, as far as the producer knows."""
        known = self._producer.client.cluster._partitions.get(self._options.kafka_name(topic.name), {})
        return sorted(number for number, about in known.items() if about.leader == -1)

    def fit(self, topic: TopicQueue) -> bool:
        """Have as many queues as the topic has partitions. False: that takes a new producer."""
        known = self.partitions(topic)
        if known is None or not topic.partitions or len(known) == len(topic.partitions):
            return True
        if self._backlog.place(topic, len(known)):
            self._on_resolved()
            return True
        return False

    def soon(self, topic: TopicQueue, now: float) -> None:
        """Ask for the partitions, unless somebody does or it is too early.

        Args:
            now: monotonic time.
        """
        if topic.name not in self._resolving and now >= topic.resolve_at:
            self._resolving[topic.name] = asyncio.create_task(self._resolve(topic), name=f"kafka-topic-{topic.name}")

    async def _resolve(self, topic: TopicQueue) -> None:
        try:
            found = await self._ask(topic)
        except (*CLIENT_ERRORS, KafkaAway) as exc:
            topic.resolve_at = time.monotonic() + topic.resolving.next_s()
            self._troubles.begin(topic, WHOLE, problem_of(exc, self._producer.client))
        else:
            topic.resolving.reset()
            if not topic.partitions:
                self._backlog.place(topic, len(found))
            self.fit(topic)
            self._troubles.end(topic, WHOLE)
        finally:
            self._resolving.pop(topic.name, None)
            self._on_resolved()

    async def _ask(self, topic: TopicQueue) -> Collection[int]:
        kafka_name = self._options.kafka_name(topic.name)
        client = self._producer.client
        async with asyncio.timeout(self._resolve_s):
            await client.add_topic(kafka_name)
            await client.force_metadata_update()
        if self.partitions(topic) is None:
            if kafka_name in client.cluster.unauthorized_topics:
                raise errors.TopicAuthorizationFailedError(kafka_name)
            if not self._options.create_topics:
                raise errors.UnknownTopicOrPartitionError("the topic does not exist")
            await topics.create(self._options, [topic.name])
        async with asyncio.timeout(self._resolve_s):
            found: Collection[int] = await self._producer.partitions_for(kafka_name)
            await self._recreations.learn(client, topic.name)
        return found
