"""Learns the partitions of topics that are written to, and reports topics that were deleted and created again.

Each topic has a task of its own: a missing one holds up no other. The incarnation of a topic is requested before its
first record is written: a later answer could be that of a topic that has replaced the first one. After that it is
checked now and then, and the writer continues without an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Final

from aiokafka import errors

from gateway.log import gaps
from gateway.log.kafka import topics
from gateway.log.kafka.backlog import WHOLE, Backlog, TopicQueue
from gateway.log.kafka.errors import CLIENT_ERRORS, KafkaAway, problem_of
from gateway.log.kafka.incarnation import MAX_AGE_S, TopicIds
from gateway.log.kafka.options import KafkaOptions

_ADVICE: Final = (
    "events that were written to the deleted topic are gone, but for those that its readers had read; "
    "what is accepted from now on is written to the new topic"
)
#: Between two requests for a topic that one broker has created and another one does not know yet.
_AGAIN_S: Final = 0.05


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

    def partitions(self, topic: TopicQueue) -> Collection[int] | None:
        """Return the partitions as the producer knows them at this moment."""
        found: Collection[int] | None = self._producer.client.cluster.partitions_for_topic(
            self._options.kafka_name(topic.name)
        )
        return found

    def fit(self, topic: TopicQueue) -> bool:
        """Adjust the number of queues to the topic's partitions. False: that needs a new producer."""
        known = self.partitions(topic)
        if known is None or not topic.partitions or len(known) == len(topic.partitions):
            return True
        if self._backlog.place(topic, len(known)):
            self._on_resolved()
            return True
        return False

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
            self.fit(topic)
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
        if self.partitions(topic) is None:
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
