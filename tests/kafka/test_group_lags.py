"""Lags of groups in all partitions, from a process that reads none of them; a second client's tool agrees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Partition

from gateway.log import Begin
from gateway.log.kafka import CursorPolicy, KafkaLog, KafkaOptions
from gateway.log.kafka.offsets import OffsetClient
from tests.kafka.surgery import recreate, stored_positions
from tests.kafka.traffic import TOPIC, event

pytestmark = pytest.mark.kafka

_BILLING, _CRM = "gateway.billing", "gateway.crm"


@asynccontextmanager
async def _opened(options: KafkaOptions) -> AsyncIterator[KafkaLog]:
    log = KafkaLog(options, cursor_policy=CursorPolicy(interval_s=0.1, look_s=0.1))
    await log.start()
    try:
        yield log
    finally:
        await log.stop()


async def _load(log: KafkaLog, cursor: str, *partitions: int) -> None:
    await log.cursors.load(cursor, [TOPIC], [f"{TOPIC}-{one}" for one in partitions], start={TOPIC: Begin(0.0)})


async def _seen_by_others(options: KafkaOptions, group: str) -> int:
    """Ends less positions, as ``kafka-consumer-groups`` counts."""
    positions = await stored_positions(options, group)
    consumer = Consumer({"bootstrap.servers": ",".join(options.bootstrap_servers), "group.id": "onlooker"})
    ends = {tp: consumer.get_watermark_offsets(Partition(tp.topic, tp.partition), 20)[1] for tp in positions}
    consumer.close()
    return sum(ends[tp] - position.offset for tp, position in positions.items())


async def test_two_processes_share_the_partitions_and_a_third_knows_the_lag_of_all(kafka: str, prefix: str) -> None:
    """Whoever asks; a group without a position in one partition is not known, and one behind nothing is at 0."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=2)
    groups = {_BILLING: [TOPIC], _CRM: [TOPIC]}
    async with _opened(options) as one, _opened(options) as two, _opened(options) as onlooker:
        await one.append([event(number, f"key-{number}") for number in range(40)])
        assert await onlooker.lags(groups) == {_BILLING: None, _CRM: None}
        await _load(one, _BILLING, 0)
        assert await onlooker.lags(groups) == {_BILLING: None, _CRM: None}
        await _load(two, _BILLING, 1)
        await _load(two, _CRM, 0, 1)
        for log in (one, two, onlooker):
            assert await log.lags(groups) == {_BILLING: 40, _CRM: 40}
        one.cursors.commit(_BILLING, f"{TOPIC}-0", 3)
        two.cursors.commit(_BILLING, f"{TOPIC}-1", 4)
        await asyncio.gather(one.cursors.flush(), two.cursors.flush())
        assert await onlooker.lags(groups) == {_BILLING: 33, _CRM: 40}
        assert await onlooker.lags({_BILLING: [TOPIC], "gateway.new": ["no.such.topic"]}) == {
            _BILLING: 33,
            "gateway.new": None,
        }


async def test_other_tools_count_the_same(kafka: str, prefix: str) -> None:
    options = KafkaOptions((kafka,), prefix=prefix, partitions=3)
    async with _opened(options) as log:
        await log.append([event(number, f"key-{number}") for number in range(30)])
        await _load(log, _BILLING, 0, 1, 2)
        log.cursors.commit(_BILLING, f"{TOPIC}-1", 2)
        await log.cursors.flush()
        found = await log.lags({_BILLING: [TOPIC]})
        assert found[_BILLING] == 28
        assert found[_BILLING] == await _seen_by_others(options, _BILLING)


async def test_all_of_a_topic_that_was_made_anew_is_still_to_be_read(kafka: str, prefix: str) -> None:
    """Kafka forgets positions with their topic; one that a process committed late is of the topic before."""
    options = KafkaOptions((kafka,), prefix=prefix, partitions=1)
    place = TopicPartition(options.kafka_name(TOPIC), 0)
    async with _opened(options) as log:
        await log.append([event(number, "key") for number in range(5)])
        await _load(log, _BILLING, 0)
        log.cursors.commit(_BILLING, f"{TOPIC}-0", 5)
        await log.cursors.flush()
        assert await log.lags({_BILLING: [TOPIC]}) == {_BILLING: 0}
        late = (await stored_positions(options, _BILLING))[place]
    await recreate(options, TOPIC, 1)
    async with _opened(options) as log:
        await log.append([event(number, "key") for number in range(8)])
        assert await log.lags({_BILLING: [TOPIC]}) == {_BILLING: None}
        client = OffsetClient(options)
        await client.commit(_BILLING, {place: (late.offset, late.metadata)})
        await client.close()
        assert await log.lags({_BILLING: [TOPIC]}) == {_BILLING: 8}
