"""The newest records of a stream in memory, shared by all its readers.

Readers that keep up never touch the disk; one that fell behind reads from the file until it is back here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.log import Entry, Record

#: Some thousand events. Ten times less and a subscriber that pauses for a tenth of a second reads from disk; ten times
#: more is memory that buys nothing: reading back costs two microseconds an event, from the page cache.
MAX_BYTES: Final = 4 * 1024 * 1024
#: What a record costs in memory beside its value: the tuple, its texts, the time.
_RECORD_BYTES: Final = 500


class Tail:
    """Records of one stream from ``first`` up to the head, oldest dropped past ``max_bytes``.

    Args:
        first: offset that the next record gets.
        max_bytes: bound on the records together.
    """

    def __init__(self, first: int, max_bytes: int = MAX_BYTES) -> None:
        self.first = first
        self._records: list[Record] = []
        self._bytes = 0
        self._max_bytes = max_bytes

    @property
    def head(self) -> int:
        """Offset behind the newest record."""
        return self.first + len(self._records)

    def extend(self, partition: str, base: int, appended_at: float, entries: Sequence[Entry]) -> None:
        """Add what one commit stored. A gap before ``base`` empties the tail: offsets here are contiguous."""
        if base != self.head:
            self._records.clear()
            self._bytes = 0
            self.first = base
        append = self._records.append
        for offset, (topic, key, event_id, value, headers) in enumerate(entries, base):
            append(Record(partition, offset, appended_at, topic, key, event_id, value, headers))
            self._bytes += len(value) + _RECORD_BYTES
        if self._bytes > self._max_bytes:
            self._drop_oldest_half()

    def slice(self, position: int, limit: int) -> list[Record]:
        """At most ``limit`` records from ``position``, which must lie in the tail."""
        start = position - self.first
        return self._records[start : start + limit]

    def _drop_oldest_half(self) -> None:
        """Half at once, so that the list is moved seldom."""
        count = max(1, len(self._records) // 2)
        self._bytes -= sum(len(record.value) + _RECORD_BYTES for record in self._records[:count])
        del self._records[:count]
        self.first += count
