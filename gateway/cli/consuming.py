"""Reading Kafka's topics for a person who looks on; nothing of it is kept."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Collection
from typing import Final

from gateway.config.settings import FAMILIES, Settings
from gateway.errors import Broken
from gateway.fanout.scan import scan
from gateway.log import Record
from gateway.log.kafka import KafkaLog, KafkaOptions

#: A busy cluster may say nothing for so long in the middle of what is there.
_SILENCE_S: Final = 10.0
_WAIT_S: Final = 1.0
_BATCH: Final = 500


async def consume(
    settings: Settings, topic: str | None, since: float | None, *, is_once: bool
) -> AsyncGenerator[Record, None]:
    """Yield records of the topics, in the order of each partition, forever or to the end.

    Args:
        topic: without the prefix; None is every family.
        since: Unix seconds of the first record wanted; None begins behind the newest, or with ``is_once`` at the start.

    Raises:
        Broken: there is no such topic.
        Transient: Kafka cannot be reached, or falls silent before the end.
    """
    assert settings.kafka is not None
    topics: Collection[str] = [topic] if topic is not None else FAMILIES
    log = KafkaLog(KafkaOptions.of(settings.kafka, settings.topics), creates=None)
    try:
        if topic is not None and (absent := await log.missing([topic])):
            raise Broken(f"there is no topic {log.options.kafka_name(topic)} in Kafka{absent[topic]}")
        if is_once:
            async for record in scan(log, "tail", topics, since=since or 0.0, until=math.inf, silence_s=_SILENCE_S):
                yield record
            return
        reader = await log.browse("tail", topics, start="latest" if since is None else "earliest")
        try:
            if since is not None:
                await reader.seek_to_time(since)
            while True:
                for record in await reader.fetch(max_records=_BATCH, wait_s=_WAIT_S):
                    yield record
        finally:
            await reader.close()
    finally:
        await log.stop()
