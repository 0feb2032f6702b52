"""Reading Kafka's topics for a person who looks on: a consumer group of its own that commits nothing."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Collection
from typing import Final

from gateway.config.settings import FAMILIES, Settings
from gateway.log import Record
from gateway.log.kafka import KafkaLog, KafkaOptions

#: A new group of Kafka is assigned its partitions within this time, on a busy cluster too.
_JOIN_S: Final = 10.0
_WAIT_S: Final = 1.0
_BATCH: Final = 500


async def consume(
    settings: Settings, topic: str | None, since: float | None, *, is_once: bool
) -> AsyncGenerator[Record, None]:
    """Records of the topics, in the order of each partition, forever or to the end.

    Args:
        topic: without the prefix; None is every family.
        since: Unix seconds of the first record wanted; None begins behind the newest, or with ``is_once`` at the start.

    Raises:
        Transient: Kafka cannot be reached.
    """
    assert settings.kafka is not None
    topics: Collection[str] = [topic] if topic is not None else FAMILIES
    log = KafkaLog(KafkaOptions.of(settings.kafka, settings.topics))
    reader = await log.reader(
        f"tail-{uuid.uuid4().hex[:12]}", topics, start="earliest" if since is not None or is_once else "latest"
    )
    try:
        # Partitions to seek in are there only after the first fetch.
        found = await reader.fetch(max_records=_BATCH, wait_s=_JOIN_S)
        if since is not None:
            await reader.seek_to_time(since)
            found = ()
        while True:
            for record in found:
                yield record
            found = await reader.fetch(max_records=_BATCH, wait_s=_WAIT_S)
            if is_once and not found:
                return
    finally:
        await reader.close()
        await log.stop()
