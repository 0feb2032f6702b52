"""Lags of groups in all partitions, whichever process reads them.

Each process knows the positions in its own partitions; Kafka has the committed positions of all. The ends of all
partitions need one request, the positions one for each group: aiokafka does not have the request for several groups
(KIP-709, Kafka 3.0).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka import TopicPartition

from gateway.log.kafka.answers import Answers
from gateway.log.kafka.gaps import Committed
from gateway.log.kafka.incarnation import is_another
from gateway.log.kafka.offsets import OffsetClient
from gateway.log.kafka.options import KafkaOptions

#: Requests in flight: commits use the same connections. With a third, 300 groups take twice as long.
_AT_ONCE: Final = 10


class GroupLags:
    """Lags of the groups of one log."""

    def __init__(self, options: KafkaOptions, offsets: OffsetClient, answers: Answers) -> None:
        self._options = options
        self._offsets = offsets
        self._answers = answers

    async def lags(self, groups: Mapping[str, Collection[str]]) -> dict[str, int | None]:
        """Return the records between each group's positions and the ends of its topics.

        None if it is not known: none of its topics exists, or it has no position in one of their partitions.

        Args:
            groups: topics by group, with names as in the configuration.

        Raises:
            KafkaAway: no answer.
        """
        topics = {self._options.kafka_name(topic) for of_group in groups.values() for topic in of_group}
        partitions = await self._offsets.partitions(topics)
        there = [TopicPartition(topic, number) for topic, numbers in partitions.items() for number in numbers]
        ids = await self._answers.incarnations(partitions)
        beginnings, ends = await asyncio.gather(self._answers.beginnings(there, ids), self._answers.ends(there))
        kept = await self._positions(groups)
        found: dict[str, int | None] = {}
        for group, own_names in groups.items():
            names = {self._options.kafka_name(topic) for topic in own_names}
            mine = [tp for tp in there if tp.topic in names]
            found[group] = _lag(mine, kept[group], ids, beginnings, ends)
        return found

    async def _positions(self, groups: Collection[str]) -> dict[str, dict[Any, Committed]]:
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def ask(group: str) -> dict[Any, Committed]:
            async with at_once:
                return await self._offsets.committed(group)

        async with asyncio.TaskGroup() as asking:
            tasks = {group: asking.create_task(ask(group)) for group in groups}
        return {group: task.result() for group, task in tasks.items()}


def _lag(
    partitions: Collection[Any],
    kept: Mapping[Any, Committed],
    ids: Mapping[str, str],
    beginnings: Mapping[Any, int],
    ends: Mapping[Any, int],
) -> int | None:
    if not partitions or any(tp not in kept or tp not in ends for tp in partitions):
        return None
    return sum(
        # All records of a topic that was created again are unread: the position is one of its predecessor.
        ends[tp] - beginnings.get(tp, 0)
        if is_another(kept[tp].incarnation or "", ids.get(tp.topic, ""))
        else max(0, ends[tp] - kept[tp].offset)
        for tp in partitions
    )
