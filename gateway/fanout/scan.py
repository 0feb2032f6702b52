"""Reading a stretch of the log once, for a person who waits: replay, dead letters, explain.

A scan has a group of its own but commits nothing, so it disturbs no subscriber. The same group must not scan
twice at a time: in Kafka the two would share the partitions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Final

from gateway.log import EventLog, Record

_BATCH: Final = 500
#: Silence for so long is the end: on the journal at once, on Kafka well beyond a fetch's round trip.
QUIET_S: Final = 0.5


async def scan(
    log: EventLog,
    group: str,
    topics: Collection[str],
    *,
    since: float = 0.0,
    until: float,
    join_s: float = QUIET_S,
) -> AsyncIterator[Record]:
    """Records appended from ``since`` and before ``until`` (Unix seconds), in the order of each partition.

    Args:
        group: names the cursor.
        join_s: how long the first fetch may take; a Kafka consumer needs seconds to join its group.

    Raises:
        Transient: the log cannot be read now; nothing that was not yielded is lost by asking again.
    """
    reader = await log.reader(group, topics, start="earliest")
    try:
        # A consumer of Kafka has partitions to seek in only after its first fetch.
        await reader.fetch(max_records=1, wait_s=join_s)
        await reader.seek_to_time(since)
        past: set[str] = set()
        while records := await reader.fetch(max_records=_BATCH, wait_s=QUIET_S):
            for record in records:
                if record.appended_at >= until:
                    past.add(record.partition)
                elif record.partition not in past and record.appended_at >= since:
                    yield record
            reader.pause(past)
    finally:
        await reader.close()
