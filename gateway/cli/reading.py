"""The log for a person who looks on, in no group and with no position: Kafka's topics, or the journal's file."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.config.settings import FAMILIES, Settings
from gateway.errors import Broken
from gateway.fanout.scan import scan
from gateway.log import Record
from gateway.log.journal import EVENTS
from gateway.log.journal.batch_format import stream_of
from gateway.log.journal.storage import Store
from gateway.log.kafka import KafkaLog, KafkaOptions

#: A busy cluster may say nothing for so long in the middle of what is there.
_SILENCE_S: Final = 10.0
_WAIT_S: Final = 1.0
_BATCH: Final = 500
#: Some thousand events at once.
_CHUNK_BYTES: Final = 4 * 1024 * 1024


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


@dataclass(frozen=True, slots=True)
class Damaged:
    """Records that are not what was written."""

    stream: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.stream} offsets {self.first} to {self.last} are damaged"


def follow(
    folder: Path, topic: str | None, since: float | None, wait: Callable[[], object] | None
) -> Iterator[Record | Damaged]:
    """Yield records of one stream in order, forever or to the end.

    Args:
        folder: the journal's.
        topic: decides the stream: internal topics have one each; None is vendor events. Other topics come along.
        since: Unix seconds of the first record wanted; None begins behind the newest.
        wait: called when there is nothing new; None ends instead.

    Raises:
        JournalUnavailable, JournalDamaged: the file cannot be read.
    """
    store = Store(folder, is_writer=False)
    name = stream_of(topic) if topic is not None else EVENTS
    try:
        stream = store.streams.get(name)
        position = store.offset_at(name, since) if since is not None else stream.head if stream else 0
        while True:
            store.refresh()
            found = store.read(name, position, _CHUNK_BYTES)
            for base, end, records in found:
                if records is None:
                    yield Damaged(name, base, end - 1)
                else:
                    yield from (record for record in records if record.offset >= position)
                position = end
            if found:
                continue
            if wait is None:
                return
            wait()
    finally:
        store.close()
