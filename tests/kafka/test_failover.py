"""Three brokers: the leader dies, all are restarted one after another, under load."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from gateway.log.kafka import KafkaOptions, topics
from gateway.log.kafka.options import WriterPolicy
from gateway.publisher import Publisher
from tests.broker.cluster import Cluster
from tests.kafka.traffic import TOPIC, Load, compare, journal, published, stored, tell
from tests.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]
#: Of all accepted. One batch of each partition can be repeated when its acknowledgement is lost with a broker.
_REPEATED = 0.001


def _options(cluster: Cluster, prefix: str) -> KafkaOptions:
    return KafkaOptions(tuple(cluster.bootstrap.split(",")), prefix=prefix, partitions=6, replication_factor=3)


async def _leaders(options: KafkaOptions) -> list[int]:
    client = AIOKafkaAdminClient(**options.client())
    await client.start()
    try:
        found = await client.describe_topics([options.kafka_name(TOPIC)])
    finally:
        await client.close()
    return [partition["leader"] for partition in found[0]["partitions"]]


async def _in_sync(options: KafkaOptions) -> None:
    """Wait until every replica has caught up, so that the next death is the only one."""

    async def all_have() -> bool:
        return not any(info.under_replicated or info.leaderless for info in await topics.describe(options))

    await until(all_have, look_s=0.2)


async def test_the_leader_is_killed_under_load(three_nodes: Cluster, prefix: str, tmp_path: Path) -> None:
    """SIGKILL of a leader: the others take over, nothing is lost, keys keep their order, repeats below 0.1 %."""
    options = _options(three_nodes, prefix)
    await topics.create(options, [TOPIC])
    await _in_sync(options)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options, writer_policy=WriterPolicy(stalled_s=1.0, look_s=0.1))
        await publisher.start()
        async with Load(log, rate=1000) as load:
            await load.until(2000)
            victim = three_nodes.node((await _leaders(options))[0])
            await asyncio.to_thread(victim.kill)
            await load.more(3000)
            await published_up_to_now(publisher, load)
            await asyncio.to_thread(victim.start)
            await _in_sync(options)
            await load.more(1000)
        await published(publisher)
        await publisher.stop()
    result = compare(load.accepted, await stored(options))
    assert (result.missing, result.invented, result.out_of_order) == (0, 0, [])
    assert result.repeated <= len(load.accepted) * _REPEATED
    tell(f"repeated: {result.repeated} of {len(load.accepted)}")


async def test_a_rolling_restart_under_load(three_nodes: Cluster, prefix: str, tmp_path: Path) -> None:
    """Each broker in turn is stopped in order and started: the same promises."""
    options = _options(three_nodes, prefix)
    await topics.create(options, [TOPIC])
    await _in_sync(options)
    async with journal(tmp_path) as log:
        publisher = Publisher(log, options)
        await publisher.start()
        async with Load(log, rate=1000) as load:
            await load.until(1000)
            for node in three_nodes.nodes:
                await asyncio.to_thread(node.stop)
                await load.more(500)
                await asyncio.to_thread(node.start)
                await _in_sync(options)
        await published(publisher)
        await publisher.stop()
    result = compare(load.accepted, await stored(options))
    assert (result.missing, result.invented, result.out_of_order) == (0, 0, [])
    assert result.repeated <= len(load.accepted) * _REPEATED
    tell(f"repeated: {result.repeated} of {len(load.accepted)}")


async def published_up_to_now(publisher: Publisher, load: Load) -> None:
    """Publishing goes on with a broker dead: the backlog of this moment gets acknowledged."""
    reached = len(load.accepted)

    async def is_so() -> bool:
        return len(load.accepted) - await publisher.lag() >= reached

    await until(is_so)
