"""What an operator does to topics: delete, create, DeleteRecords, retention. By a client of its own, past any proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.waiting import until

#: A gateway that may create topics can be faster than we are.
_TRIES: Final = 10
_BROKER_S: Final = 60.0
_LOOK_S: Final = 0.2


class TopicAdmin:
    """An admin client.

    Args:
        client: started.
        prefix: of the topics' names in Kafka.
    """

    def __init__(self, client: AIOKafkaAdminClient, prefix: str) -> None:
        self._client: Any = client
        self._prefix = prefix

    async def recreate(self, partitions: Mapping[str, int]) -> None:
        """Delete topics and create them again at once.

        Args:
            partitions: topic → how many partitions it has then.
        """
        names = [self._prefix + topic for topic in partitions]
        for _ in range(_TRIES):
            await self._client.delete_topics(names)
            wanted = [NewTopic(self._prefix + topic, count, 1) for topic, count in partitions.items()]
            answer = await self._client.create_topics(wanted)
            refused = [errors.for_code(code) for _, code, *_ in answer.topic_errors if code]
            if not refused:
                return
            if set(refused) != {errors.TopicAlreadyExistsError}:
                raise AssertionError(f"the topics cannot be created: {answer}")
        raise AssertionError("the gateway was always first to create the topics")

    async def delete_records(self, before: Mapping[str, int]) -> None:
        """Delete what is in front of these offsets, by partition."""
        await self._client.delete_records({self._tp(name): RecordsToDelete(at) for name, at in before.items()})

    async def configure(self, topics: list[str], settings: Mapping[str, str]) -> None:
        """Give topics these settings and no others."""
        rows = [ConfigResource(ConfigResourceType.TOPIC, self._prefix + topic, dict(settings)) for topic in topics]
        for answer in await self._client.alter_configs(rows):
            if refused := [row for row in answer.resources if row[0]]:
                raise AssertionError(f"the settings are refused: {refused}")

    async def committed(self, group: str) -> dict[str, int]:
        """Return a group's offsets, by partition."""
        found = await self._client.list_consumer_group_offsets(self._prefix + group)
        return {f"{tp.topic.removeprefix(self._prefix)}-{tp.partition}": stored.offset for tp, stored in found.items()}

    def _tp(self, name: str) -> TopicPartition:
        topic, _, number = name.rpartition("-")
        return TopicPartition(self._prefix + topic, int(number))


async def _brokers_known(client: Any) -> None:
    """Wait until there is a broker to ask: one on a machine that is busy may be out of its cluster for a moment."""

    async def is_known() -> bool:
        if not client._client.cluster.brokers():
            await client._client.force_metadata_update()
        return bool(client._client.cluster.brokers())

    await until(is_known, within_s=_BROKER_S, look_s=_LOOK_S)


@asynccontextmanager
async def administering(bootstrap: str, prefix: str) -> AsyncIterator[TopicAdmin]:
    """Connect for a short job."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await client.start()
        await _brokers_known(client)
        yield TopicAdmin(client, prefix)
    finally:
        await client.close()
