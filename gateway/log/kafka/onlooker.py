"""A consumer that belongs to no group: it reads all partitions, whoever else does, and commits nothing.

For what is read for one person or one process alone: a stream's client, a replay's scan, the board of states. Kafka
deals the partitions of a group among its members, so two of these under one name would each get a half.

Partitions are assigned by us. Those that are added later are noticed within ``METADATA_AGE_S``, and read from their
beginning, as by a group. A consumer that has to be replaced goes on where the last one stood.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka import TopicPartition

from gateway.log import Begins, Start
from gateway.log.kafka.member import Member

_NOBODY: Final[dict[str, Any]] = {"group_id": None}


class Onlooker(Member):
    """A :class:`Member` of nothing."""

    _kind = "reader"

    async def begin(self, start: Start | Begins) -> None:
        """See :meth:`Member.begin`."""
        self.placement.start = start

    def arguments(self) -> dict[str, Any]:
        """See :meth:`Member.arguments`."""
        return _NOBODY

    async def enter(self, consumer: Any) -> asyncio.Event:
        """See :meth:`Member.enter`. Every partition at once, each at its place."""
        partitions = await self._partitions(consumer)
        consumer.assign(partitions)
        for topic in self._missing.of(self._topics):
            consumer._client.add_topic(topic)  # :meth:`ready` sees when it is there; assign() keeps only what it got
        self.placement.reset(partitions)
        await self.placement.place(consumer)
        if all(map(self.placement.is_placed, partitions)):
            self.placement.start = "earliest"  # partitions that come after the first ones are added ones
        joined = asyncio.Event()
        joined.set()
        return joined

    async def restart(self, consumer: Any) -> Any:
        """See :meth:`Member.restart`. There is nobody to give anything up to."""
        await self.ask(consumer._client.force_metadata_update())
        await self.ask(self.enter(consumer))
        return consumer

    async def ready(self) -> Any:
        """See :meth:`Member.ready`. Partitions that were added are taken in."""
        consumer = await super().ready()
        known = [consumer.partitions_for_topic(topic) or () for topic in self._topics]
        if sum(map(len, known)) > len(consumer.assignment()):
            await self.ask(self.enter(consumer))
        return consumer

    async def commit_regularly(self) -> None:
        """Nothing goes out."""

    async def commit(self, consumer: Any, seconds: float) -> None:
        """Nothing goes out."""

    async def _partitions(self, consumer: Any) -> list[TopicPartition]:
        topics = [
            *self._missing.others(self._topics),
            *(topic for topic in self._missing.of(self._topics) if consumer.partitions_for_topic(topic)),
        ]
        numbers = await asyncio.gather(*(consumer._client._wait_on_metadata(topic) for topic in topics))
        return [
            TopicPartition(topic, number)
            for topic, found in zip(topics, numbers, strict=True)
            for number in sorted(found)
        ]
