"""What an administrator does to topics (settings, records, topics made again), and sees of groups."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code
from aiokafka.structs import OffsetAndMetadata

from gateway.log.kafka import KafkaOptions, topics
from gateway.log.kafka.topics import incarnations
from tests.waiting import until


async def delete_records(options: KafkaOptions, topic: str, partition: int, before: int) -> None:
    """Delete the records of one partition below an offset, as retention does."""
    tp = TopicPartition(options.kafka_name(topic), partition)
    async with topics.admin(options) as client:
        await client.delete_records({tp: RecordsToDelete(before)}, timeout_ms=10_000)


async def delete(options: KafkaOptions, topic: str) -> None:
    """Delete a topic, and wait until its brokers have forgotten it."""
    name = options.kafka_name(topic)
    async with topics.admin(options) as client, asyncio.timeout(30):

        async def is_forgotten() -> bool:
            return not await incarnations(client._client, [name])

        await client.delete_topics([name])
        await until(is_forgotten)


async def create(options: KafkaOptions, topic: str, partitions: int, **config: Any) -> None:
    """Create a topic, and wait until its brokers know it."""
    name = options.kafka_name(topic)
    async with topics.admin(options) as client, asyncio.timeout(30):
        answer = await client.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
        assert [for_code(code).__name__ for _, code, *_ in answer.topic_errors] == ["NoError"]
        await until(lambda: incarnations(client._client, [name]))


async def configure(options: KafkaOptions, topic: str, settings: dict[str, str]) -> None:
    """Give a topic these settings, and the others their defaults; wait until its broker says so."""
    resource = ConfigResource(ConfigResourceType.TOPIC, options.kafka_name(topic), configs=settings)
    async with topics.admin(options) as client, asyncio.timeout(30):

        async def are_so() -> bool:
            return settings.items() <= (await _settings(client, resource.name)).items()

        await client.alter_configs([resource])
        await until(are_so)


async def _settings(client: Any, name: str) -> dict[str, str]:
    (answer,) = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    ((*_, entries),) = answer.resources
    return {entry[0]: entry[1] for entry in entries}


async def recreate(options: KafkaOptions, topic: str, partitions: int) -> None:
    """Delete a topic and create it again."""
    await delete(options, topic)
    await create(options, topic, partitions)


async def stored_positions(options: KafkaOptions, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
    """Return the offsets that a group has committed, with their metadata.

    Not by ``confluent_kafka``: it takes the metadata for text that ends with a zero byte, which librdkafka does not
    write behind it, and reads on in memory that is not its own.
    """
    async with topics.admin(options) as client:
        found: dict[TopicPartition, OffsetAndMetadata] = await client.list_consumer_group_offsets(
            options.prefix + group
        )
        return found
