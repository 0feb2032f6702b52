"""What stands in the log, read by other means than the gateway's readers: the file by SQL, the topics by a client."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from gateway.log.journal import batch_format
from tests.lossproof.receiver import Arrival, arrival
from tests.waiting import until

_SHIFT: Final = 44
_MASK: Final = (1 << _SHIFT) - 1
_POSITION: Final = "SELECT position FROM cursor WHERE stream = 'events' AND name = ?"
_END: Final = (
    f"SELECT (segment.id & {_MASK}) + count FROM segment JOIN stream ON segment.id >> {_SHIFT} = stream.id "
    "WHERE name = 'events' ORDER BY segment.id DESC LIMIT 1"
)
#: Positions are stored four times a second; and those of a broken build on a busy machine within this.
_AHEAD_S: Final = 0.5
_AHEAD_BROKEN_S: Final = 20.0


def journal(folder: Path) -> dict[str, list[Arrival]]:
    """Every vendor event of a journal that nobody has open, in order. Rows with a wrong checksum are left out."""
    return {"events": [arrival for row in rows(folder) for arrival in row.arrivals]}


def twice(folder: Path) -> list[str]:
    """Ids of vendor events that a journal that nobody has open holds more than once."""
    counts = Counter(arrival.id for arrival in journal(folder)["events"])
    return [id_ for id_, count in counts.items() if count > 1]


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
            if batch_format.checksum(blob, row_id, count, appended_at, topics) == crc:
                records = batch_format.decode(blob, partition="events", base=0, count=count, appended_at=appended_at)
                found.append(Row(row_id & _MASK, [arrival(record.value, record.topic) for record in records]))
    return found


async def position_reached(folder: Path, group: str, *, is_broken: bool) -> None:
    """Wait until a group's durable position is the present end of the vendor events, or until the time is over.

    Args:
        folder: of a journal that the gateway has open.
        group: by its name in the journal.
        is_broken: the gateway stores positions ahead of what is done, which is waited for.
    """
    end = await asyncio.to_thread(_asked, folder, _END)
    with suppress(TimeoutError):

        async def is_reached() -> bool:
            return await asyncio.to_thread(_asked, folder, _POSITION, group) >= end

        await until(is_reached, within_s=_AHEAD_BROKEN_S if is_broken else _AHEAD_S)


def _asked(folder: Path, question: str, *values: str) -> int:
    with closing(sqlite3.connect(f"{(folder / 'journal.sqlite').as_uri()}?mode=ro", uri=True)) as db:
        found = db.execute(question, values).fetchone()
    return found[0] if found else 0


class Partition(NamedTuple):
    """One partition as a client reads it.

    Args:
        first: offset of the first record kept.
        end: offset behind the last record.
        arrivals: the events read, by offset.
    """

    first: int
    end: int
    arrivals: dict[int, Arrival]


async def partitions(
    bootstrap: str, prefix: str, names: Sequence[str], behind: Mapping[str, int] | None = None
) -> dict[str, Partition]:
    """Read the topics up to their present ends.

    Args:
        behind: by partition (``sms.dr-0``), the offset to begin at; missing: from the first record kept.
    """
    found: dict[str, Partition] = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(120):
            known = await consumer._client.fetch_all_metadata()
            every = [
                TopicPartition(prefix + name, number)
                for name in names
                for number in known.partitions_for_topic(prefix + name) or ()
            ]
            consumer.assign(every)
            firsts, ends = await consumer.beginning_offsets(every), await consumer.end_offsets(every)
            called = {tp: f"{tp.topic.removeprefix(prefix)}-{tp.partition}" for tp in every}
            for tp in every:
                found[called[tp]] = Partition(firsts[tp], ends[tp], {})
                consumer.seek(tp, max(firsts[tp], (behind or {}).get(called[tp], 0)))
            left = {tp for tp in every if await consumer.position(tp) < ends[tp]}
            while left:
                for tp, messages in (await consumer.getmany(*left, timeout_ms=500)).items():
                    name = tp.topic.removeprefix(prefix)
                    found[called[tp]].arrivals.update((m.offset, arrival(m.value, name)) for m in messages)
                left = {tp for tp in left if await consumer.position(tp) < ends[tp]}
    finally:
        await consumer.stop()
    return found
