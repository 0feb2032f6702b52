"""One reading of a range of the log, for an operator who waits: replay, dead letters, explain.

It ends only where the log ended when it began: a log without an answer before that is an error, because half of the
result must not look like all of it. Any number of scans may run at a time, also of one name and on several machines;
they store nothing and do not affect subscribers.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Final

from gateway.errors import Transient
from gateway.log import BrowsedLog, LogReader, Record

_BATCH: Final = 500
#: One fetch waits for so long; then it is seen whether the end is reached without a record.
_LOOK_S: Final = 0.5
#: A busy Kafka may say nothing for so long in the middle of what is there; the journal always has an answer.
SILENCE_S: Final = 10.0


async def scan(
    log: BrowsedLog,
    name: str,
    topics: Collection[str],
    *,
    since: float = 0.0,
    until: float,
    silence_s: float = SILENCE_S,
) -> AsyncIterator[Record]:
    """Yield records appended from ``since`` and before ``until`` (Unix seconds), in the order of each partition.

    Times rise in the journal, not in Kafka: after an outage a machine publishes its journal with the times of it,
    behind what others published meanwhile. So all of it is read, and sorted out.

    Args:
        name: for logs and metrics.
        silence_s: the log may be silent for so long while there is more to come.

    Raises:
        Transient: the log cannot be read now; nothing that was not yielded is lost by asking again.
    """
    reader = await log.browse(name, topics, start="earliest")
    try:
        await reader.seek_to_time(since)
        ends = await reader.ends()
        heard_at = time.monotonic()
        while await has_more(reader, ends):
            records = await reader.fetch(max_records=_BATCH, wait_s=min(silence_s, _LOOK_S))
            for record in records:
                if since <= record.appended_at < until:
                    yield record
            now = time.monotonic()
            if records:
                heard_at = now
            elif now - heard_at >= silence_s:
                raise Transient(f"{name}: the log says nothing for {silence_s:g} s, and there is more to come")
    finally:
        await reader.close()


async def has_more(reader: LogReader, ends: Mapping[str, int]) -> bool:
    """Return whether there are records before these ends that the reader has not passed."""
    positions = await reader.positions()
    return any(positions.get(partition, 0) < end for partition, end in ends.items())
