"""What groups have not passed in topics that exist (Kafka protocol: Metadata, OffsetFetch, ListOffsets)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from gateway.log.kafka import faults, topics
from gateway.log.kafka.options import OPEN_S, KafkaOptions, within

#: For all questions about all topics: each group is asked for by itself.
_ASK_S: Final = 60.0
_CLOSE_S: Final = 2.0


async def unfinished(options: KafkaOptions, group_of: Callable[[str], str | None]) -> dict[str, int]:
    """See :meth:`gateway.log.EventLog.unfinished`.

    Raises:
        KafkaAway: Kafka cannot be reached, or refuses.
    """
    groups = {info.name: group for info in await topics.describe(options) if (group := group_of(info.name)) is not None}
    if not groups:
        return {}
    async with topics.admin(options) as client, asyncio.timeout(_ASK_S):
        passed: dict[TopicPartition, int] = {}
        for group in sorted(set(groups.values())):
            found = await client.list_consumer_group_offsets(options.kafka_name(group))
            ours = {options.kafka_name(topic) for topic, one in groups.items() if one == group}
            passed |= {tp: at.offset for tp, at in found.items() if tp.topic in ours and at.offset >= 0}
    bounds = await _bounds(options, [options.kafka_name(topic) for topic in groups])
    left = dict.fromkeys(groups, 0)
    for tp, (first, end) in bounds.items():
        left[options.own_name(tp.topic)] += max(0, end - max(first, passed.get(tp, first)))
    return left


async def _bounds(options: KafkaOptions, names: Collection[str]) -> Mapping[TopicPartition, tuple[int, int]]:
    consumer: Any = AIOKafkaConsumer(**options.consumer(), group_id=None)
    try:
        async with asyncio.timeout(OPEN_S + _ASK_S):
            await consumer.start()
            numbers = await asyncio.gather(*(consumer._client._wait_on_metadata(name) for name in names))
            partitions = [
                TopicPartition(name, number) for name, found in zip(names, numbers, strict=True) for number in found
            ]
            firsts = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
    except faults.CLIENT_ERRORS as exc:
        raise faults.away(exc, "Kafka") from exc
    finally:
        await within(_CLOSE_S, consumer.stop())
    return {tp: (firsts[tp], ends[tp]) for tp in partitions}
