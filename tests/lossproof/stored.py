"""What stands in the log, read by other means than the gateway's readers: the file by SQL, the topics by a client."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from gateway.log.journal import segment
from tests.lossproof.receiver import Arrival, arrival

_SHIFT: Final = 44
_MASK: Final = (1 << _SHIFT) - 1


def journal(folder: Path) -> dict[str, list[Arrival]]:
    """Every vendor event of a journal that nobody has open, in order. Rows with a wrong checksum are left out."""
    return {"events": [arrival for row in rows(folder) for arrival in row.arrivals]}


class Row(NamedTuple):
    """What one commit put into the stream of vendor events; ``first`` is the offset of the first."""

    first: int
    arrivals: list[Arrival]


def rows(folder: Path) -> list[Row]:
    """The sound rows of the stream of vendor events."""
    found: list[Row] = []
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db:
        streams = {name: number for number, name in db.execute("SELECT id, name FROM stream")}
        number = streams.get("events", 0)
        stored = db.execute(
            "SELECT id, count, appended_at, topics, crc, records FROM segment WHERE id >= ? AND id < ? ORDER BY id",
            (number << _SHIFT, (number + 1) << _SHIFT),
        )
        for row_id, count, appended_at, topics, crc, blob in stored:
            if segment.checksum(blob, row_id, count, appended_at, topics) == crc:
                records = segment.decode(blob, partition="events", base=0, count=count, appended_at=appended_at)
                found.append(Row(row_id & _MASK, [arrival(record.value, record.topic) for record in records]))
    return found


async def topics(bootstrap: str, prefix: str, names: Sequence[str]) -> dict[str, list[Arrival]]:
    """Every event of the topics, by partition."""
    found: dict[str, list[Arrival]] = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(120):
            known = await consumer._client.fetch_all_metadata()
            partitions = [
                TopicPartition(prefix + name, number)
                for name in names
                for number in known.partitions_for_topic(prefix + name) or ()
            ]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            left = {tp for tp in partitions if ends[tp]}
            while left:
                for tp, messages in (await consumer.getmany(*left, timeout_ms=500)).items():
                    name = tp.topic.removeprefix(prefix)
                    found.setdefault(f"{name}-{tp.partition}", []).extend(arrival(m.value, name) for m in messages)
                left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
    finally:
        await consumer.stop()
    return found
